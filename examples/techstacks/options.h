/* options.h - the command line. */
#ifndef TECHSTACKS_OPTIONS_H
#define TECHSTACKS_OPTIONS_H

struct options {
    unsigned port;    /* 0: any free one */
    const char *data; /* folder */
    const char *smtp; /* NULL: mails go to the outbox folder */
    unsigned retry_ms;
    unsigned send_delay_ms;
};

/* Returns 0 to go on; else the server ends: 1 with status 0 (--help), -1 with status 2.
 */
int options_parse(struct options *ret, int argc, char **argv);

#endif
