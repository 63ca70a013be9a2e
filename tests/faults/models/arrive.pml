/* arrive.pml - messages come without a lock, workers rest and are woken one at a time
 * (src/type_arrive.c: bgmqi_type_push, bgmqi_type_absorb, bgmqi_type_watch; src/type.c:
 * bgmqi_type_unlock; src/type_desk.c: claim, bgmqi_type_wake_one, has_come, bgmqi_desk_quit,
 * bgmqi_desk_leave; src/park.c: bgmqi_park_rest, bgmqi_park_wake).
 *
 * Publishers push and look whether somebody sleeps; workers take one at a time, or rest.  The first
 * to be handled is at work until all others are done.  Instead, with QUIT one worker is asked to
 * quit meanwhile, and with ROUSE (bgmqi_type_rouse) one has been woken to look again, while others
 * have come to rest anew.  Nothing has a time-out.
 *
 * Holds: no message sleeps while a worker rests and no wake is under way (all are handled when
 * nothing moves any more); one note of a wake is never written over another.
 * Guards: LOOK     a publisher looks at WATCHED after its push
 *         RELOOK   who sets WATCHED looks at the stack once more
 *         COME     the woken one takes WAKING back
 *         NOTE     ... but not that of the wake it has just noted
 *         CHAIN    who leaves others in inq wakes the next
 *         LEAVE    one that was woken and quits passes the wake on
 *         TOKEN    a wake before the rest is kept */
#ifdef ROUSE
#define WORKERS 3
#else
#define WORKERS 2
#endif
#define MESSAGES 2 /* each from a publisher of its own */
#define NOBODY     255

mtype = { EMPTY, TOKEN, RESTING };

/* type.arrivals */
byte newest; /* how many lie on the stack */
bool watched;
/* type, under its lock */
bool locked;
byte inq, parked;      /* PARKED: a bit for each worker */
bool is_watched;       /* type.watched */
bool waking;
byte wake = NOBODY;    /* type.wake: the note */
bool quit[WORKERS];
/* desks */
mtype park[WORKERS] = EMPTY;
bool asleep[WORKERS];
byte handled;
bool taken;

#define BIT(n) (1 << (n))

/* The lock is held in this and the next. */
inline wake_one()
{
    if
    :: !waking && parked ->
        assert(wake == NOBODY);
        if
        :: parked & BIT(0) -> wake = 0
        :: !(parked & BIT(0)) && (parked & BIT(1)) -> wake = 1
        :: else -> wake = WORKERS - 1
        fi;
        parked = parked & ~BIT(wake);
        waking = true
    :: else
    fi
}

inline absorb()
{
    if
    :: newest ->
        inq = inq + newest;
        newest = 0;
        wake_one()
    :: else
    fi
}

/* bgmqi_type_lock */
inline lock()
{
    atomic { !locked -> locked = true; absorb() }
}

inline park_wake(who)
{
    atomic {
        if
        :: park[who] == RESTING -> asleep[who] = false /* the futex call */
        :: else
        fi;
        park[who] = TOKEN
    }
}

/* bgmqi_type_watch, then the rest of bgmqi_type_unlock.  The lock is held. */
inline unlock()
{
    if
    :: atomic { (parked && !waking) != is_watched ->
           is_watched = !is_watched;
           watched = is_watched
       }
#ifndef NO_GUARD_RELOOK
       atomic {
           if
           :: is_watched && newest ->
               absorb();
               is_watched = (parked && !waking);
               watched = is_watched
           :: else
           fi;
           note = wake;
           wake = NOBODY;
           locked = false
       }
#else
       atomic { note = wake; wake = NOBODY; locked = false }
#endif
    :: atomic { (parked && !waking) == is_watched ->
           note = wake;
           wake = NOBODY;
           locked = false
       }
    fi;
    atomic {
        if
        :: note != NOBODY -> park_wake(note); note = NOBODY
        :: else
        fi
    }
}

/* bgmqi_type_push */
proctype publisher()
{
    byte note = NOBODY;
    newest++;
#ifndef NO_GUARD_LOOK
    if
    :: watched -> lock(); unlock()
    :: else
    fi
#endif
}

inline rest(me)
{
    atomic {
#ifndef NO_GUARD_TOKEN
        if
        :: park[me] == EMPTY -> park[me] = RESTING; asleep[me] = true
        :: else
        fi
#else
        park[me] = RESTING;
        asleep[me] = true
#endif
    }
end_resting:
    atomic { !asleep[me] -> park[me] = EMPTY }
}

inline has_come()
{
#ifdef NO_GUARD_NOTE
    waking = false
#else
#ifndef NO_GUARD_COME
    waking = (wake != NOBODY)
#else
    skip
#endif
#endif
}

proctype worker(byte me)
{
    byte note = NOBODY;
    bool woken, slow, rests;
#ifdef ROUSE
    goto resting; /* all rest at first */
#endif
claim:
    lock();
    atomic {
        if
        :: woken -> has_come(); woken = false
        :: else
        fi;
        if
        :: quit[me] -> goto leave
        :: !quit[me] && inq ->
            inq--;
#if !defined(QUIT) && !defined(ROUSE)
            slow = !taken;
            taken = true;
#endif
#ifndef NO_GUARD_CHAIN
            if
            :: inq -> wake_one()
            :: else
            fi
#endif
        :: else -> parked = parked | BIT(me); rests = true
        fi
    }
    if
    :: rests ->
        unlock();
resting:
        rest(me);
        rests = false;
        woken = true
    :: else ->
        unlock();
        /* the first is at work until all others are done */
        atomic { !slow || handled == MESSAGES - 1 -> handled++; slow = false }
    fi;
    goto claim;
leave:
    /* claim's last words and bgmqi_desk_leave, which comes to the lock anew */
#ifndef NO_GUARD_LEAVE
    atomic { wake_one() }
#endif
    unlock();
    lock();
#ifndef NO_GUARD_LEAVE
    atomic { has_come(); wake_one() }
#endif
    unlock()
}

#ifdef QUIT
/* bgmqi_desk_quit */
proctype chief()
{
    byte note = NOBODY;
    lock();
    atomic { quit[0] = true; parked = parked & ~BIT(0) }
    unlock();
    park_wake(0)
}
#endif

init
{
    byte i;
    atomic {
#ifdef ROUSE
        parked = BIT(1) | BIT(2);
        park[0] = TOKEN;
        is_watched = true;
        watched = true;
#endif
        for (i : 0 .. WORKERS - 1) {
            run worker(i)
        }
        for (i : 1 .. MESSAGES) {
            run publisher()
        }
#ifdef QUIT
        run chief()
#endif
    }
    timeout -> assert(handled == MESSAGES)
}
