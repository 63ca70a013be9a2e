/* checkpoint.pml - a check-point, commits, and the log that is begun anew (src/store_upkeep.c:
 * bgmqi_store_upkeep_checkpoint; SQLite 3.40.1's wal.c: sqlite3WalCheckpoint, walCheckpoint,
 * walRestartLog, walTryBeginRead).
 *
 * One page.  Commits number its versions; a frame of the log holds one.  The check-pointer reads
 * the head of the log's index, and then, under the lock of check-points, copies what it read of
 * into the file and says how far that is valid.  A writer who finds all of the log copied begins it
 * anew.  The fault W1 of SQLite: the head that was read may be of the log before.
 *
 * Rule: nobody check-points unless somebody holds the write lock, and it is the check-pointer's
 * own second connection here.
 *
 * Holds: what was committed last is what a reader finds, at every moment.
 * Guards: WRITE_LOCK   the check-point is made under the write lock
 *         FALLBACK     when that is busy there is none, instead of one without it
 *         ORDER        the write lock is taken before the head is read */
#define COMMITS 4
#define FRAMES  4

byte file, committed; /* versions */
byte log[FRAMES];     /* 1.. : what stood there before stays until it is written over */
byte frames;          /* mxFrame, of the head */
byte copied;          /* nBackfill */
bool writing;         /* the write lock */
bool check_pointing;

/* walTryBeginRead: when all is copied the log is not looked at. */
#define FOUND (frames == 0 || copied == frames -> file : log[frames - 1])

proctype writer()
{
    byte i;
    for (i : 1 .. COMMITS) {
        atomic { !writing -> writing = true }
        /* walRestartLog, the frame, the head: readers see them at once, by the head */
        atomic {
            if
            :: frames && copied == frames -> frames = 0; copied = 0
            :: else
            fi;
            log[frames] = i;
            frames++;
            committed = i;
            assert(FOUND == committed)
        }
        writing = false
    }
}

inline check_point()
{
#ifdef NO_GUARD_ORDER
    seen = frames;
    atomic { !writing -> writing = true; mine = true }
#endif
#ifdef NO_GUARD_WRITE_LOCK
    mine = false;
#endif
#if !defined(NO_GUARD_WRITE_LOCK) && !defined(NO_GUARD_ORDER)
    atomic {
        mine = !writing;
        writing = true
    }
#ifndef NO_GUARD_FALLBACK
    if
    :: mine
    :: else -> goto out
    fi;
#endif
#endif
#ifndef NO_GUARD_ORDER
    seen = frames; /* the head, read once */
#endif
    check_pointing = true;
    if
    :: copied < seen ->
        for (k : copied .. seen - 1) {
            file = log[k]
        }
        copied = seen
    :: else
    fi;
    check_pointing = false;
out:
    if
    :: mine -> writing = false; mine = false
    :: else
    fi
}

proctype check_pointer()
{
    byte seen, k, n;
    bool mine;
    for (n : 1 .. 2) {
        check_point()
    }
}

init
{
    atomic {
        run writer();
        run check_pointer()
    }
    _nr_pr == 1;
    assert(FOUND == committed)
}
