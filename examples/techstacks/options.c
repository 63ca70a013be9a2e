/*
 * options.c - the command line.
 *
 * Called once by main(), before there are threads.
 */
#include "options.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] =
    "usage: techstacks [options]\n"
    "  --port N           on 127.0.0.1; 0 is any free one (8080)\n"
    "  --data DIR         databases and outbox (./techstacks-data)\n"
    "  --smtp URL         send by this server, smtp://127.0.0.1:25; without it\n"
    "                     mails become files in DIR/outbox\n"
    "  --retry-ms N       first delay after a mail server's 'later'; doubles (1000)\n"
    "  --send-delay-ms N  wait so long before each mail, to watch it happen (0)\n"
    "  --help             this text\n";

/* Reads a number of 0 .. MAX, nothing before or after it. */
static int number(const char *name, const char *text, unsigned max, unsigned *ret)
{
    char *end;
    errno = 0;
    unsigned long value = strtoul(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end || errno || value > max) {
        fprintf(stderr, "techstacks: --%s takes a number up to %u, not '%s'\n", name, max,
                text);
        return -1;
    }
    *ret = (unsigned)value;
    return 0;
}

static int smtp_url(const char *text)
{
    if (strncmp(text, "smtp://", 7) == 0 && text[7])
        return 0;
    fprintf(stderr, "techstacks: --smtp takes smtp://HOST:PORT, not '%s'\n", text);
    return -1;
}

int options_parse(struct options *ret, int argc, char **argv)
{
    static const struct option known[] = {{"port", required_argument, NULL, 'p'},
                                          {"data", required_argument, NULL, 'd'},
                                          {"smtp", required_argument, NULL, 's'},
                                          {"retry-ms", required_argument, NULL, 'r'},
                                          {"send-delay-ms", required_argument, NULL, 'w'},
                                          {"help", no_argument, NULL, 'h'},
                                          {NULL, 0, NULL, 0}};
    *ret = (struct options){.port = 8080, .data = "./techstacks-data", .retry_ms = 1000};
    int err = 0, c;
    while (!err && (c = getopt_long(argc, argv, "", known, NULL)) != -1) {
        switch (c) {
        case 'p':
            err = number("port", optarg, 65535, &ret->port);
            break;
        case 'd':
            ret->data = optarg;
            break;
        case 's':
            err = smtp_url(optarg);
            ret->smtp = optarg;
            break;
        case 'r':
            err = number("retry-ms", optarg, 3600000, &ret->retry_ms);
            break;
        case 'w':
            err = number("send-delay-ms", optarg, 60000, &ret->send_delay_ms);
            break;
        case 'h':
            fputs(usage, stdout);
            return 1;
        default:
            err = -1;
        }
    }
    if (!err && optind == argc)
        return 0;
    fputs(usage, stderr);
    return -1;
}
