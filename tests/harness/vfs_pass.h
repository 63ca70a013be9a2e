/* vfs_pass.h - a file of a VFS that stands before another: what passes on as it is.
 *
 * A VFS of the tests takes these methods and puts its own in place of those it cares about. */
#ifndef BGMQ_TEST_VFS_PASS_H
#define BGMQ_TEST_VFS_PASS_H

#include <sqlite3.h>
#include <stddef.h>

/* The first member of a file of such a VFS. */
struct vfs_pass {
    sqlite3_file base;
    sqlite3_file *real;
};

/* The file of the VFS behind. */
#define REAL(f) (((struct vfs_pass *)(f))->real)

/* Of version 3. */
extern const sqlite3_io_methods vfs_pass_methods;

/* *VFS gets what is to stand, as NAME, before the default VFS, *RET_REAL: with files of SIZE bytes,
 * and behind each, in the same memory, one of that VFS.  To be registered when it is whole. */
void vfs_pass_prepare(sqlite3_vfs *vfs, const char *name, size_t size,
                      sqlite3_vfs **ret_real);
/* REAL is the default VFS again. */
void vfs_pass_remove(sqlite3_vfs *vfs, sqlite3_vfs *real);

#endif
