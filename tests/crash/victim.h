/* victim.h - the process that the crash tests kill. */
#ifndef BGMQ_TEST_VICTIM_H
#define BGMQ_TEST_VICTIM_H

/* The arguments after "--victim": database, history, round, seed, which start ends
 * it and how (loop_end_if_due), what to do.  Returns the exit status. */
int victim_main(int argc, char **argv);

/* Words for what to do. */
#define VICTIM_WORK  "work"  /* publish and handle until killed */
#define VICTIM_DRAIN "drain" /* handle what is left, tell the dead, close, end */

#endif
