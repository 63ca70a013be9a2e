/* release.c - see release.h.  On the thread of the test. */
#include "release.h"

#include "../harness/harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *const ends[] = {"", "-wal", "-flight", "-shm", "-journal", "-lock"};
enum { ENDS = sizeof(ends) / sizeof(ends[0]) };

void release_forget(const char *path)
{
    for (size_t i = 0; i < ENDS; i++) {
        char name[600];
        snprintf(name, sizeof(name), "%s%s", path, ends[i]);
        unlink(name);
    }
}

void release_unpack(const char *name, const char *path)
{
    const char *root = getenv("BGMQ_SOURCE");
    release_forget(path);
    for (size_t i = 0; i < ENDS; i++) {
        char from[600], to[600], command[1500];
        snprintf(from, sizeof(from), "%s/tests/golden/upgrade/%s.db%s.gz",
                 root ? root : ".", name, ends[i]);
        if (i > 0 && access(from, F_OK) != 0)
            continue;
        snprintf(to, sizeof(to), "%s%s", path, ends[i]);
        snprintf(command, sizeof(command), "gzip -dc '%s' > '%s'", from, to);
        ck_assert_msg(system(command) == 0, "%s", command);
        ck_assert_int_eq(chmod(to, 0600), 0);
    }
}
