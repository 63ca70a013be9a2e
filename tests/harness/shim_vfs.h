/* shim_vfs.h - a VFS that passes everything on to the system's, counts it, and fails on order.
 *
 * Installed, it is the default, so that whatever opens a database goes through it.  A fault is
 * for the N-th call of some kinds on some files: it fails as a disk fails, takes its time as a slow
 * one does, or ends the process at that instant, as a kill does.  Faults may be armed and disarmed
 * by any thread while others use files; the hook is set before there are others. */
#ifndef BGMQ_TEST_SHIM_VFS_H
#define BGMQ_TEST_SHIM_VFS_H

enum shim_call {
    SHIM_OPEN = 1 << 0,
    SHIM_READ = 1 << 1,
    SHIM_WRITE = 1 << 2,
    SHIM_TRUNCATE = 1 << 3,
    SHIM_SYNC = 1 << 4,
    SHIM_SIZE = 1 << 5,
    SHIM_LOCK = 1 << 6,
    SHIM_DELETE = 1 << 7,
    SHIM_SHM = 1 << 8, /* mapping the index of the log */
    SHIM_SHMLOCK = 1 << 9,
    SHIM_UNFETCH = 1 << 10, /* a check-point has read the header of the log */
    SHIM_CLOSE = 1 << 11,
    SHIM_CALLS = 12,
    SHIM_ALL = (1 << SHIM_CALLS) - 1
};

enum shim_file {
    SHIM_DB = 1,
    SHIM_WAL = 2,
    SHIM_JOURNAL = 4,
    SHIM_OTHER = 8,
    SHIM_ANY = 15
};

enum shim_kind {
    SHIM_IOERR,   /* EIO */
    SHIM_FULL,    /* ENOSPC, as SQLite reports it */
    SHIM_NOSPACE, /* an I/O error with ERRNO_, as SQLite reports other lacks of room */
    SHIM_KILL,    /* the process ends before the call is made */
    SHIM_SHORT,   /* a read that finds nothing where there should be something */
    SHIM_SLOW     /* the call is made DELAY_MS later, or when the fault is disarmed */
};

struct shim_fault {
    unsigned calls, files;
    enum shim_kind kind;
    long nth;          /* from 1 */
    long times;        /* so many from the N-th on; 0: all */
    int errno_;        /* of SHIM_NOSPACE */
    long every;        /* only each EVERY-th of them; 0, 1: each */
    unsigned delay_ms; /* of SHIM_SLOW */
};

/* Becomes the default VFS, and the system's is it again. */
void shim_vfs_install(void);
void shim_vfs_remove(void);

/* FAULT is the only one from now on; or one more, of four at most. */
void shim_vfs_arm(const struct shim_fault *fault);
void shim_vfs_arm_also(const struct shim_fault *fault);
void shim_vfs_disarm(void);
/* Calls that the faults armed last have hit so far. */
long shim_vfs_fired(void);
/* 1: syncs are counted and may fail, but are not made: for tests that lose no power. */
void shim_vfs_unsynced(int on);

/* Calls of CALLS on FILES since the last reset, failed ones included. */
long shim_vfs_count(unsigned calls, unsigned files);
void shim_vfs_reset(void);

/* Runs HOOK before each call of CALLS on FILES; calls it makes itself do not count.  NULL ends. */
void shim_vfs_hook(unsigned calls, unsigned files, void (*hook)(void *ctx), void *ctx);

/* ---- the system calls below SQLite's own VFS ------------------------------------------ */

/* From now on each read and write that SQLite makes of the system is interrupted STORM times before
 * it is made, and then does a part of what was asked only, if that is more than a byte.  0 ends
 * it.  Not while a database is open. */
void shim_vfs_interrupt(unsigned storm);
/* Calls that were interrupted or cut so far. */
long shim_vfs_interrupted(void);

#endif
