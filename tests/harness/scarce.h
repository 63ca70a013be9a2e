/* scarce.h - memory that is not to be had: a test refuses what it will of what the library, SQLite
 * and jansson ask for.
 *
 * For programs that list `allocators` among their wraps (tests/meson.build): the linker puts those
 * of scarce.c in the place of the system's. */
#ifndef BGMQ_TEST_SCARCE_H
#define BGMQ_TEST_SCARCE_H

#include <stdbool.h>

/* Is asked of each allocation, on the thread that makes it, and allocates nothing itself. */
typedef bool scarce_fn(void);

/* Above 0, nothing is refused to this thread, and nobody is asked. */
extern _Thread_local int scarce_spared;

/* For a checked fixture: REFUSES decides what malloc and its kin give from now on, mem.c and
 * jansson.  What Check needs to say where it is is spared. */
void scarce_setup(scarce_fn *refuses);
/* ... what SQLite gets, which is not in use yet. */
void scarce_sqlite(scarce_fn *refuses);

/* Whether this allocation is refused; errno is ENOMEM then. */
bool scarce_refuses(void);

/* One more function that the linker puts in the place of NAME, and that is refused as NULL. */
#define SCARCE_WRAP(type, name, params, args)                                            \
    type __real_##name params;                                                           \
    type __wrap_##name params;                                                           \
    type __wrap_##name params                                                            \
    {                                                                                    \
        return scarce_refuses() ? NULL : __real_##name args;                             \
    }

#endif
