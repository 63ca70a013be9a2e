/* life.pml - start, stop and close of a service (src/service.c: bgmq_start, halt, drained, bgmq_stop,
 * bgmq_close, wait_shut, shut; src/type_desk.c: bgmqi_desk_next, may_begin, bgmqi_type_rouse,
 * bgmqi_desk_quit; src/service_tick.c: bgmqi_service_idle; src/monitor.c).
 *
 * One worker and one message.  One thread stops, one starts again, one closes; with TWO, two close
 * and none stops.  A wait in the monitor has no time-out here, so each depends on being woken.  With
 * ALL they come one after the other, and nobody closes before everything is handled.
 *
 * Holds: every call returns; when a stop has returned no handler of before runs; after a close none
 * starts, and the parts are shut once.
 * Guards: IDLE       a worker that ends what it had tells those who wait, when the gate is shut
 *         START      a start tells a stop that still waits
 *         INSIDE     what a stop waits for is looked at inside the monitor
 *         CLOSED     one of those who close shuts, the other waits
 *         SHUT_DONE  ... and is told
 *         QUIT       a worker that is to quit is woken
 *         ROUSE      a start wakes the workers that rest */
#define MESSAGES 1

bool open = true;      /* types.started */
bool closed, shut_done;
byte epoch;
bool running;          /* a desk has a current message */
byte waiting = MESSAGES;
bool quit, ended;      /* the worker */
bool rests, token;
/* the monitor: what waits in it, and the number of changes */
byte changes;
bool inside;
byte shuts, handled;
byte returned;

inline enter()
{
    atomic { !inside -> inside = true }
}

inline leave()
{
    inside = false
}

/* bgmqi_monitor_wait: leaving and sleeping are one step. */
inline wait()
{
    atomic { seen = changes; inside = false }
    changes != seen;
    enter()
}

inline tell()
{
    enter();
    changes++;
    leave()
}

inline wake()
{
    token = true
}

proctype worker()
{
    do
    :: atomic {
           quit -> break
       }
    :: atomic {
           /* claim and start, under the locks */
           !quit && open && waiting -> waiting--; running = true; assert(!shut_done)
       }
       handled++;
       running = false;
#ifndef NO_GUARD_IDLE
       /* bgmqi_service_idle: seldom told, for most of the time nobody waits */
       if
       :: !open -> tell()
       :: else
       fi
#endif
    :: atomic { !quit && !(open && waiting) -> rests = true }
       atomic { token -> token = false; rests = false }
    od;
    ended = true
}

inline drained(since)
{
#ifdef NO_GUARD_INSIDE
    do
    :: epoch != since || !running -> break
    :: else -> enter(); wait(); leave()
    od
#else
    enter();
    do
    :: epoch != since || !running -> break
    :: else -> wait()
    od;
    leave()
#endif
}

inline stop()
{
    atomic { since = epoch; open = false } /* under life */
    wake();                                /* rouse */
    drained(since);
    assert(epoch != since || !running)
}

proctype stopper()
{
    byte seen, since;
    if
    :: closed
    :: else -> stop()
    fi;
    returned++
}

proctype starter()
{
    bool was;
#ifdef ALL
    returned;
#endif
    if
    :: closed
    :: else ->
        atomic {
            was = open;
            if
            :: !open -> epoch++; open = true
            :: else
            fi
        }
        if
        :: !was ->
#ifndef NO_GUARD_START
            tell();
#endif
#ifndef NO_GUARD_ROUSE
            wake()
#else
            skip
#endif
        :: else
        fi
    fi;
    returned++
}

proctype closer()
{
    byte seen, since;
    bool second;
#ifdef ALL
    handled == MESSAGES;
#endif
    if
    :: closed
    :: else -> stop()
    fi;
#ifdef NO_GUARD_CLOSED
    second = closed;
    closed = true;
#else
    atomic { second = closed; closed = true }
#endif
    if
    :: second ->
        enter();
        do
        :: shut_done -> break
        :: else -> wait()
        od;
        leave()
    :: else ->
        open = false;
        wake();
        /* shut */
        quit = true;
#ifndef NO_GUARD_QUIT
        wake();
#endif
        ended;
        shuts++;
        assert(shuts == 1);
        enter();
        shut_done = true;
#ifndef NO_GUARD_SHUT_DONE
        changes++;
#endif
        leave()
    fi;
    assert(shut_done && !running);
    returned++
}

init
{
    atomic {
        run worker();
#ifndef TWO
        run stopper();
#endif
        run starter();
#ifdef TWO
        run closer();
#endif
        run closer()
    }
    _nr_pr == 1;
    assert(returned == 3)
}
