/* Reads a tar archive as it comes, in pieces of any size, and tells a sink what is in it.
 *
 * ustar, the forms before and after it (v7, GNU, star), and PAX, of which every record is read that
 * says something about a file. Knows nothing of file systems. What it allocates is bounded by the
 * numbers below, whatever the archive says.
 *
 * Source: pax(1) of POSIX.1-2017; tar(5) of libarchive; GNU tar's manual, appendix D and E (sparse
 * files, standard). */
#ifndef PYCONTAIN_TAR_H
#define PYCONTAIN_TAR_H

#include <stddef.h>
#include <stdint.h>
#include <time.h>

#define TAR_BLOCK 512
#define TAR_MAX_RECORDS (1u << 20)    /* bytes of one extended header, and of all global ones */
#define TAR_MAX_LONG (1u << 16)       /* bytes of one GNU long name */
#define TAR_MAX_XATTRS 1000
#define TAR_MAX_FRAGMENTS (1u << 18)  /* of one sparse file */

struct tar_xattr {
    const char *name;
    const char *value;
    size_t size;
};

/* A part of a sparse file that has data. */
struct tar_fragment {
    uint64_t offset;
    uint64_t size;
};

/* Its pointers are good from `entry` to `end`. */
struct tar_entry {
    char kind;           /* '0' file, '1' hard link, '2' symbolic link, '3' character device,
                            '4' block device, '5' folder, '6' fifo */
    const char *name;    /* as it stands in the archive, never NULL */
    const char *target;  /* of a link, never NULL */
    uint32_t mode;       /* of 07777 */
    uint32_t uid;
    uint32_t gid;
    uint32_t major;
    uint32_t minor;
    struct timespec mtime;
    uint64_t stored;     /* bytes of data that follow */
    uint64_t size;       /* of the file: more than `stored` where it is sparse */
    const struct tar_fragment *fragments;  /* NULL: it is not sparse */
    uint32_t fragment_count;
    const struct tar_xattr *xattrs;
    uint32_t xattr_count;
    const char *acl_access;   /* SCHILY.acl.access: text; NULL: none */
    const char *acl_default;
};

/* Each returns 0, or -1 to end the reading. */
struct tar_sink {
    int (*entry)(void *owner, const struct tar_entry *entry);
    int (*data)(void *owner, const struct tar_entry *entry, const char *data, size_t size);
    int (*end)(void *owner, const struct tar_entry *entry);
    void *owner;
};

struct tar;

/* NULL: out of memory. */
struct tar *tar_new(const struct tar_sink *sink);
void tar_free(struct tar *tar);
/* 0, or -1: the sink ended it, or `tar_why` says what is wrong. Not to be called again then. */
int tar_feed(struct tar *tar, const char *data, size_t size);
/* What is missing at the end of the archive is an error. */
int tar_finish(struct tar *tar);
/* NULL where the sink ended it. */
const char *tar_why(const struct tar *tar);
/* The name of the entry that is being read, as far as it is known: "" before the first. */
const char *tar_where(const struct tar *tar);

#endif
