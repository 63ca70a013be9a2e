/* fence.pml - an attempt is settled once: by its worker, or by the ticker that gives it up
 * (src/type_settle.c: bgmqi_desk_end, bgmqi_desk_hold, bgmqi_desk_unhold, give_up, look,
 * bgmqi_type_overdue, bgmqi_desk_abandon; src/type_desk.c: begin; src/tx_job.c: what holds).
 *
 * One message, up to MOST attempts, each on a worker of its own; the time of each may be over at
 * any moment.  A handler may make its changes in a transaction, for which it holds the attempt, and
 * returns.  Who was given up may return long after, while the next attempt runs.
 *
 * Holds: one settlement for each attempt; changes are committed by an attempt that is owned, and
 * once; the message ends once; nobody waits for ever.
 * Guards: END     the worker takes the attempt before it settles it
 *         GIVE_UP the ticker takes it likewise
 *         HOLD    a transaction is committed only while the attempt is held
 *         UNHOLD  the end of a hold tells the ticker, which may have come in vain
 *         DESK    each attempt has a TURN of its own: a late return meets its own, not the next */
#define MOST 2

mtype = { IDLE, RUNNING, HELD, ENDING, LOST }; /* desk.turn */
mtype = { READY, OUT, OVER };                  /* where the message is */

#ifdef NO_GUARD_DESK
#define TURN  turn[0]
#define DESKS 0
#else
#define TURN  turn[n]
#define DESKS 1
#endif

mtype turn[MOST] = IDLE;
mtype place = READY;
bool told[MOST]; /* the ticker has to look at it */
byte settled[MOST];
byte attempt, effects;

/* Whose the attempt is has been decided: its message goes to its next place. */
inline settle(done)
{
    atomic {
        settled[n]++;
        assert(settled[n] == 1 && place == OUT);
        place = (done || n + 1 == MOST -> OVER : READY)
    }
}

/* The changes are there from here on. */
inline commit()
{
    atomic { assert(TURN == RUNNING || TURN == HELD); effects++ }
}

/* bgmqi_desk_end, then bgmqi_desk_settle or _abandon. */
inline end(from, done)
{
#ifdef NO_GUARD_END
    TURN = ENDING;
    settle(done)
#else
    atomic {
        ours = false;
        if
        :: TURN == from -> TURN = ENDING; ours = true
        :: else
        fi
    }
    if
    :: ours -> settle(done)
    :: else
    fi
#endif
}

inline hold()
{
    atomic {
        if
        :: TURN == RUNNING -> TURN = HELD; ours = true
        :: else -> ours = false
        fi
    }
}

inline unhold()
{
    atomic { TURN = RUNNING }
#ifndef NO_GUARD_UNHOLD
    told[n] = true
#else
    skip
#endif
}

proctype worker(byte n)
{
    bool ours;
    if
    :: true -> end(RUNNING, false) /* it fails, and at any time */
    :: true -> end(RUNNING, true)
    :: true -> /* its changes and its end are one transaction */
#ifdef NO_GUARD_HOLD
       if
       :: TURN == RUNNING -> commit(); end(RUNNING, true)
       :: else
       fi
#else
       hold();
       if
       :: ours -> commit(); end(HELD, true)
       :: else
       fi
#endif
    :: true -> /* it keeps something, and never returns */
       hold();
       if
       :: ours -> unhold()
       :: else
       fi
    fi
}

/* bgmqi_type_overdue for one attempt, whose time is over whenever this runs. */
proctype ticker(byte n)
{
    bool ours;
    do
    :: told[n] ->
        told[n] = false;
        atomic {
            ours = (TURN == RUNNING);
#ifndef NO_GUARD_GIVE_UP
            TURN = (ours -> LOST : TURN)
#endif
        }
#ifdef NO_GUARD_GIVE_UP
        TURN = (ours -> LOST : TURN);
#endif
        if
        :: ours -> settle(false); break
        :: else
        fi
    :: settled[n] -> break
    od
}

init
{
    do
    :: atomic {
           place == READY && attempt < MOST ->
           place = OUT;
           turn[(attempt * DESKS)] = RUNNING;
           told[attempt] = true;
           run worker(attempt);
           run ticker(attempt);
           attempt++
       }
    :: place == OVER -> break
    od;
    _nr_pr == 1;
    assert(effects <= 1)
}
