/* bound.pml - publishers that wait for room at a bound, and handlers that publish
 * (src/type_publish.c: bgmqi_type_admit, bgmqi_type_admit_patiently, take_room, join; src/type.c:
 * bgmqi_type_unlock; src/publish.c: wait_of; src/type_desk.c: claim).
 *
 * One message may wait.  Two publishers each want to let two in and wait for room as long as it
 * takes; with IMPATIENT the first may give up.  One worker handles, and its handler publishes
 * another of its own, once.
 *
 * Holds: never more than the bound wait; nobody goes past those who wait for room; what was let in
 * is handled; everybody comes to an end.
 * Guards: WORKER   a publish from a handler never waits
 *         HEAD     whoever leaves the lock wakes the first of the row when there is room
 *         TURN     nobody goes past those who wait
 *         BOUND    what waits is counted before one is let in
 *         TOKEN    a wake before the wait is kept */
#define PUBLISHERS 2
#define BOUND      1
#define NOBODY     255

mtype = { EMPTY, TOKEN, WAITING };

/* type, under its lock: each atomic step below is one critical section */
byte waiting;            /* messages in inq */
byte first = NOBODY, second = NOBODY; /* type.rooms; the worker never stands there */
mtype park[3] = EMPTY;
byte accepted, handled, refused, gone;

inline wake_first()
{
#ifndef NO_GUARD_HEAD
    if
    :: first != NOBODY && waiting < BOUND -> park[first] = TOKEN
    :: else
    fi
#else
    skip
#endif
}

inline join(me)
{
    if
    :: first == NOBODY -> first = me
    :: else -> second = me
    fi
}

inline leave(me)
{
    if
    :: first == me -> first = second; second = NOBODY
    :: second == me -> second = NOBODY
    :: else
    fi
}

/* admit: one turn under the lock.  OVERTAKES: a handler's. */
inline admit(me, overtakes)
{
    atomic {
        ok = true;
#ifndef NO_GUARD_TURN
        ok = (first == NOBODY || first == me || overtakes);
#endif
#ifndef NO_GUARD_BOUND
        ok = ok && waiting < BOUND;
#endif
        if
        :: ok ->
            assert(overtakes || first == NOBODY || first == me); /* nobody is passed by */
            waiting++;
            assert(waiting <= BOUND);
            accepted++;
            leave(me)
        :: else
        fi;
        wake_first()
    }
}

inline park_wait(me)
{
#ifdef NO_GUARD_TOKEN
    park[me] = WAITING;
#else
    atomic {
        if
        :: park[me] == EMPTY -> park[me] = WAITING
        :: else
        fi
    }
#endif
    atomic { park[me] == TOKEN -> park[me] = EMPTY }
}

/* bgmqi_type_admit_patiently */
inline admit_patiently(me)
{
    admit(me, false);
    if
    :: ok
    :: else ->
        atomic { join(me); wake_first() }
        do
        :: true ->
            admit(me, false);
            if
            :: ok -> break
            :: else
            fi;
#ifdef IMPATIENT
            if
            :: me == 0 -> break
            :: true
            fi;
#endif
            park_wait(me)
        od;
        atomic { leave(me); wake_first() }
    fi
}

proctype publisher(byte me)
{
    bool ok;
    byte i;
    for (i : 1 .. 2) {
        admit_patiently(me);
        if
        :: ok
        :: else -> refused++
        fi
    }
    gone++
}

proctype worker()
{
    bool ok, published;
    do
    :: atomic { waiting -> waiting--; wake_first() }
       if
       :: !published ->
           published = true;
#ifdef NO_GUARD_WORKER
           admit_patiently(2)
#else
           admit(2, true)
#endif
       :: else
       fi;
       handled++
    :: gone == PUBLISHERS && waiting == 0 -> break
    od
}

init
{
    atomic {
        run publisher(0);
        run publisher(1);
        run worker()
    }
    _nr_pr == 1;
    assert(handled == accepted && accepted + refused >= 2 * PUBLISHERS);
    assert(first == NOBODY && second == NOBODY)
}
