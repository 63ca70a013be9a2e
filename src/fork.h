/* fork.h - keeps a fork of the process from meeting one of our threads in the middle of SQLite,
 * whose locks would never be given back in the child, where the application may open a database
 * of its own. */
#ifndef BGMQI_FORK_H
#define BGMQI_FORK_H

/* From here to leave() the calling thread uses SQLite: a fork on another thread waits for the end
 * of it.  Not for long, and not twice on one thread. */
void bgmqi_fork_enter(void);
void bgmqi_fork_leave(void);

#endif
