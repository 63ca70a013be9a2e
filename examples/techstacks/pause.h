/* pause.h - a wait that the end of the server cuts short. */
#ifndef TECHSTACKS_PAUSE_H
#define TECHSTACKS_PAUSE_H

struct pause;

/* NULL: out of memory. */
struct pause *pause_new(void);
void pause_free(struct pause *pause);

/* Waits MS milliseconds (0: not at all).  Returns 1 when the server ends, at once. */
int pause_wait(struct pause *pause, unsigned ms);
/* Ends every wait, those to come too. */
void pause_end(struct pause *pause);

#endif
