/* mixer.h - the process that the mixed loop kills. */
#ifndef BGMQ_TEST_MIXER_H
#define BGMQ_TEST_MIXER_H

/* The arguments after "--mixer": database, history, round, seed, which start ends it and how
 * (loop_end_if_due), what to do.  Returns the exit status. */
int mixer_main(int argc, char **argv);

/* A guest; the number says how many messages it publishes. */
int mixer_guest_main(int argc, char **argv);

/* Words for what to do. */
#define MIXER_WORK  "work"  /* everything at once, until killed */
#define MIXER_STOP  "stop"  /* the same for a short time; then close, and end */
#define MIXER_DRAIN "drain" /* the same; drain before the close */
#define MIXER_END                                                                        \
    "end" /* publish nothing; handle what is left, tell the dead, close, end */

#endif
