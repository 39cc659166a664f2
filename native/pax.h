/* What extended headers of a tar archive say about the entry that follows them.
 *
 * Source: pax(1) of POSIX.1-2017, "pax Extended Header"; GNU tar's manual, appendix D.2 (sparse
 * files); star(5) for SCHILY's keywords. */
#ifndef PYCONTAIN_PAX_H
#define PYCONTAIN_PAX_H

#include "tar.h"

/* The parts of a sparse file that have data; of those of a file, `count` are in use. */
struct fragments {
    struct tar_fragment *list;
    uint32_t count;
    uint32_t room;
};

struct records {
    const char *path;         /* NULL: nothing is said about it */
    const char *target;
    const char *sparse_name;
    const char *acl_access;
    const char *acl_default;
    unsigned said;            /* of SAID_… */
    uint64_t size;
    uint32_t uid;
    uint32_t gid;
    struct timespec mtime;
    uint64_t sparse_major;
    uint64_t sparse_minor;
    uint64_t sparse_size;     /* of the whole file */
    uint64_t sparse_count;
    uint64_t sparse_offset;   /* of the next fragment: its size has not been said yet */
    struct fragments fragments;
    struct tar_xattr *xattrs;
    uint32_t xattr_count;
    uint32_t xattr_room;
};

#define SAID_SIZE 0x001u
#define SAID_UID 0x002u
#define SAID_GID 0x004u
#define SAID_MTIME 0x008u
#define SAID_SPARSE 0x010u         /* any of GNU.sparse */
#define SAID_SPARSE_MAJOR 0x020u
#define SAID_SPARSE_MINOR 0x040u
#define SAID_SPARSE_SIZE 0x080u
#define SAID_SPARSE_COUNT 0x100u
#define SAID_SPARSE_OFFSET 0x200u

/* Adds a fragment. 0, or -1: there are too many, or no memory. */
int fragments_add(struct fragments *fragments, uint64_t offset, uint64_t size);

/* Forgets what was said, but keeps the memory. */
void records_clear(struct records *records);
/* Takes over what `global` says, which must outlive it. 0, or -1: no memory. */
int records_begin(struct records *records, const struct records *global);
void records_free(struct records *records);
/* Reads the records in `data`, which is changed and must outlive `records`. Returns NULL or what is
 * wrong. */
const char *records_read(struct records *records, char *data, size_t size, int global);

/* A decimal number that ends where the text ends. 0, or -1. */
int decimal(const char *text, uint64_t *number);

#endif
