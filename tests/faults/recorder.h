/* recorder.h - a VFS that writes down every change it makes to a database, and rebuilds from that
 * what a disk may hold when the power goes.
 *
 * What is kept when the power goes: all that was done to a file before its last sync; of what came
 * later each write is there, not there, or there in some of its sectors.  A file's making and
 * deletion are changes of the directory, which is synced with a log or journal that was just made,
 * or on order; a later one may be undone.  Any thread. */
#ifndef BGMQ_TEST_RECORDER_H
#define BGMQ_TEST_RECORDER_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

enum record_file { RECORD_DB, RECORD_LOG, RECORD_JOURNAL, RECORD_FILES };

enum record_kind {
    RECORD_MAKE,
    RECORD_WRITE,
    RECORD_TRUNCATE,
    RECORD_SYNC,
    RECORD_DELETE,
    RECORD_SYNC_FOLDER
};

struct record {
    enum record_kind kind;
    enum record_file file;
    int64_t at; /* WRITE: place; TRUNCATE: size */
    size_t len;
    unsigned char *bytes;
};

struct image {
    unsigned char *bytes;
    size_t len, cap;
    int there;
};

/* What was done to one database, from the begin of the recording on. */
struct recording {
    pthread_mutex_t lock;
    struct record *ops; /* protected by lock while the recording runs */
    size_t n, cap;
    int there[RECORD_FILES];
    int lies; /* the disk takes no sync, and says it does */
    char path[512];
    struct image before[RECORD_FILES];
};

/* Becomes the default VFS, and the system's is it again. */
void recorder_install(void);
void recorder_remove(void);

/* Records what is done to the database PATH from now on; LIES: no sync counts.  One at a time. */
void recorder_begin(struct recording *r, const char *path, int lies);
/* So many changes so far. */
size_t recorder_now(struct recording *r);
void recorder_end(void);
void recording_fini(struct recording *r);

/* ---- the disk ------------------------------------------------------------------------ */

enum disk_loss {
    DISK_KEEPS_ALL,   /* only the process died */
    DISK_KEEPS_LEAST, /* nothing but what was synced */
    DISK_KEEPS_SOME
};

/* What is safe after some changes of a recording, and what came after. */
struct disk {
    const struct recording *recording;
    size_t at; /* changes made so far */
    struct image synced[RECORD_FILES];
    size_t *pending[RECORD_FILES]; /* changes since */
    size_t n[RECORD_FILES], cap[RECORD_FILES];
    struct image ghost[RECORD_FILES]; /* deleted, and the deletion not synced */
    int safe[RECORD_FILES];           /* whether it is there by the synced folder */
};
void disk_init(struct disk *d, const struct recording *r);
void disk_fini(struct disk *d);
/* On to the instant after the first N changes. */
void disk_advance(struct disk *d, size_t n);
/* Changes that a loss may undo. */
size_t disk_open_changes(const struct disk *d);
/* Writes what is left of the database to PATH.  RANDOM is read and changed.  Returns a
 * checksum of it. */
uint64_t disk_write(const struct disk *d, enum disk_loss loss, uint64_t *random,
                    const char *path);

uint64_t random_next(uint64_t *random);

#endif
