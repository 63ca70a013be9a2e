/* lock.pml - the lock of a word and a futex (src/lock.h: lock_take, lock_drop; src/lock.c:
 * bgmqi_lock_wait, bgmqi_lock_wake).
 *
 * Three threads take and drop it, as often as they like within ROUNDS.  The short spin in front is
 * one try, the futex is the kernel's: it looks at the word again before it lets one sleep, and may
 * let one go for nothing (a signal).
 *
 * Holds: never two inside; nobody sleeps for ever (no invalid end state).
 * Guards: AWAITED  who has slept takes the lock as awaited, for others may sleep still
 *         LOOK     the futex looks at the word before the thread sleeps
 *         WAKE     who drops an awaited lock wakes one
 *         SWAP     it is dropped by an exchange, so that no mark of a sleeper is overlooked */
#define THREADS 3
#define ROUNDS  2

mtype = { FREE, HELD, AWAITED };
mtype word = FREE;
bool asleep[THREADS];
byte inside;

/* FUTEX_WAIT: the look and the sleep are one step in the kernel. */
inline futex_wait(me)
{
#ifdef NO_GUARD_LOOK
    asleep[me] = true;
#else
    atomic {
        if
        :: word == AWAITED -> asleep[me] = true
        :: else
        fi
    }
#endif
    do
    :: !asleep[me] -> break
#ifdef SIGNALS
    :: asleep[me] = false; break
#endif
    od
}

inline futex_wake()
{
    atomic {
        if
        :: asleep[0] -> asleep[0] = false
        :: asleep[1] -> asleep[1] = false
        :: asleep[2] -> asleep[2] = false
        :: else
        fi
    }
}

inline lock_wait(me)
{
    /* the spin: one try */
    atomic {
        if
        :: word == FREE -> word = HELD; got = true
        :: else
        fi
    }
    do
    :: got -> break
    :: else ->
#ifdef NO_GUARD_AWAITED
        atomic { seen = word; word = (slept || seen == FREE -> HELD : AWAITED) }
#else
        atomic { seen = word; word = AWAITED }
#endif
        if
        :: seen == FREE -> got = true
        :: else -> futex_wait(me); slept = true
        fi
    od
}

inline lock_take(me)
{
    got = false;
    slept = false;
    atomic {
        if
        :: word == FREE -> word = HELD; got = true
        :: else
        fi
    }
    if
    :: got
    :: else -> lock_wait(me)
    fi
}

inline lock_drop()
{
#ifdef NO_GUARD_SWAP
    seen = word;
    word = FREE;
#else
    atomic { seen = word; word = FREE }
#endif
#ifndef NO_GUARD_WAKE
    if
    :: seen == AWAITED -> futex_wake()
    :: else
    fi
#endif
}

active [THREADS] proctype thread()
{
    mtype seen;
    bool got, slept;
    byte n;
    for (n : 1 .. ROUNDS) {
        lock_take(_pid);
        inside++;
        assert(inside == 1);
        inside--;
        lock_drop()
    }
}
