/* ticket.pml - publishers wait for a group commit (src/ticket.c: bgmqi_ticket_wait, _begin, _again,
 * _finish; src/journal.c: bgmqi_journal_add, bgmqi_journal_end; src/journal_writer.c: take_arrived,
 * batch_take, batch_return, finish_run, drop_group, fail, may_end).
 *
 * Each publisher adds one group and waits; some lose patience (IMPATIENT).  The writer commits what
 * has come in one transaction, which may be busy once or fail for good.   Then the journal is ended,
 * with LAST when all publishers have gone.  Nothing else has a time-out: who waits is woken.
 *
 * Holds: 0 only for what is durable; what was taken back, refused or closed out never is; everybody
 * comes to an end.
 * Guards: DURABLE   a ticket is finished after the commit
 *         BEGIN     the writer takes a ticket before it writes it
 *         SLEEPING  the writer says that it sleeps under the lock under which it has looked
 *         TOKEN     a wake before the wait is kept
 *         LATE      what comes when the writer has gone is ended by who ends the journal
 *         ORPHAN    ... and what comes after that by its publisher
 *         FAILED    a failed journal drops what comes */
#define PUBLISHERS 2
#define WRITER     PUBLISHERS

mtype = { QUEUED, WRITING, DONE, TAKEN_BACK };  /* ticket.state */
mtype = { EMPTY, TOKEN, WAITING };              /* park.word */
mtype = { NONE, OK, TIMEOUT, UNCERTAIN, REFUSED, CLOSED };

mtype state[PUBLISHERS] = QUEUED;
mtype result[PUBLISHERS] = NONE;
mtype answer[PUBLISHERS] = NONE; /* what the publisher was told */
bool durable[PUBLISHERS];
mtype park[PUBLISHERS + 1] = EMPTY;
/* journal, under its lock: each of these steps is one critical section */
bool arrived[PUBLISHERS];
bool sleeping, quitting, ended;
/* the writer's own */
bool pending[PUBLISHERS], batch[PUBLISHERS];
bool failed, gone;

#define SOMETHING (arrived[0] || arrived[1])
#define PENDING   (pending[0] || pending[1])

inline park_wake(who)
{
    park[who] = TOKEN
}

inline park_wait(who)
{
#ifdef NO_GUARD_TOKEN
    park[who] = WAITING;
#else
    atomic {
        if
        :: park[who] == EMPTY -> park[who] = WAITING
        :: else
        fi
    }
#endif
    atomic { park[who] == TOKEN -> park[who] = EMPTY }
}

/* bgmqi_ticket_finish */
inline finish(t, how)
{
    result[t] = how;
    atomic {
        if
        :: state[t] == WRITING || state[t] == QUEUED -> state[t] = DONE; park_wake(t)
        :: else
        fi
    }
}

proctype publisher(byte me)
{
    bool wake, orphan;
    /* bgmqi_journal_add */
    atomic {
        orphan = ended;
        arrived[me] = true;
        wake = sleeping;
        sleeping = false
    }
    if
    :: wake -> park_wake(WRITER)
    :: else
    fi;
#ifndef NO_GUARD_ORPHAN
    if
    :: orphan -> finish(me, CLOSED)
    :: else
    fi;
#endif
    /* bgmqi_ticket_wait */
    do
    :: state[me] == DONE ->
        answer[me] = result[me];
        assert(answer[me] != OK || durable[me]); /* now, and not just in the end */
        break
    :: state[me] != DONE -> park_wait(me)
#ifdef IMPATIENT
    :: atomic { state[me] == QUEUED -> state[me] = TAKEN_BACK; answer[me] = TIMEOUT } break
    :: atomic { state[me] == WRITING -> answer[me] = UNCERTAIN } break
#endif
    od
}

inline take_arrived()
{
    atomic {
        if
        :: !SOMETHING && !quitting && !PENDING ->
#ifndef NO_GUARD_SLEEPING
            sleeping = true;
#endif
            sleep = true
        :: else
        fi
    }
    if
    :: sleep ->
#ifdef NO_GUARD_SLEEPING
        sleeping = true;
#endif
        park_wait(WRITER)
    :: else
    fi;
    atomic {
        sleep = false;
        sleeping = false;
        for (i : 0 .. PUBLISHERS - 1) {
            if
            :: arrived[i] -> pending[i] = true; arrived[i] = false
            :: else
            fi
        }
    }
}

inline batch_take()
{
    for (i : 0 .. PUBLISHERS - 1) {
        atomic {
            if
            :: pending[i] ->
                pending[i] = false;
#ifdef NO_GUARD_BEGIN
                batch[i] = true;
                state[i] = (state[i] == QUEUED -> WRITING : state[i])
#else
                if
                :: state[i] == QUEUED -> state[i] = WRITING; batch[i] = true
                :: else /* taken back: dropped */
                fi
#endif
            :: else
            fi
        }
    }
}

inline finish_run(how)
{
    for (i : 0 .. PUBLISHERS - 1) {
        if
        :: batch[i] -> finish(i, how)
        :: else
        fi
    }
}

inline apply()
{
    if
    :: atomic { durable[0] = durable[0] || batch[0]; durable[1] = durable[1] || batch[1] }
#ifndef NO_GUARD_DURABLE
       finish_run(OK)
#endif
    :: !busied -> /* batch_return: tried again */
       busied = true;
       for (i : 0 .. PUBLISHERS - 1) {
           if
           :: batch[i] ->
               pending[i] = true;
               atomic { state[i] = (state[i] == WRITING -> QUEUED : state[i]) }
               park_wake(i)
           :: else
           fi
       }
    :: failed = true; /* the commit failed: perhaps it is there */
       if
       :: atomic { durable[0] = durable[0] || batch[0]; durable[1] = durable[1] || batch[1] }
       :: skip
       fi;
       finish_run(UNCERTAIN)
    fi;
    atomic { batch[0] = false; batch[1] = false }
}

/* bgmqi_journal_writer */
proctype writer()
{
    byte i;
    bool sleep, busied, quit, idle;
    do
    :: take_arrived();
       if
       :: failed ->
#ifndef NO_GUARD_FAILED
           for (i : 0 .. PUBLISHERS - 1) {
               if
               :: pending[i] -> pending[i] = false; finish(i, REFUSED)
               :: else
               fi
           }
#else
           atomic { pending[0] = false; pending[1] = false }
#endif
       :: else
       fi;
       batch_take();
       if
       :: batch[0] || batch[1] ->
#ifdef NO_GUARD_DURABLE
           finish_run(OK);
#endif
           apply()
       :: else
       fi;
       /* may_end */
       atomic { quit = quitting; idle = !SOMETHING }
       if
       :: quit && idle && !PENDING -> break
       :: else
       fi
    od;
    gone = true
}

/* bgmqi_journal_end */
proctype chief()
{
    byte i;
    bool late[PUBLISHERS];
#ifdef LAST
    answer[0] != NONE && answer[1] != NONE;
#endif
    quitting = true;
    park_wake(WRITER);
    gone;
    atomic {
        ended = true;
        for (i : 0 .. PUBLISHERS - 1) {
            late[i] = arrived[i]
        }
    }
#ifndef NO_GUARD_LATE
    for (i : 0 .. PUBLISHERS - 1) {
        if
        :: late[i] -> finish(i, CLOSED)
        :: else
        fi
    }
#endif
}

init
{
    byte i;
    atomic {
        run publisher(0);
        run publisher(1);
        run writer();
        run chief()
    }
    _nr_pr == 1;
    for (i : 0 .. PUBLISHERS - 1) {
        assert(answer[i] != NONE);
        assert(answer[i] != OK || durable[i]);
        assert(!durable[i] || answer[i] == OK || answer[i] == UNCERTAIN)
    }
}

