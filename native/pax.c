/* See pax.h. */
#include "pax.h"

#include <stdlib.h>
#include <string.h>

#define XATTR "SCHILY.xattr."
#define SPARSE "GNU.sparse."
#define NO_MEMORY "no memory for its extended header"
#define MAX_ID 4294967294u  /* chown(2) takes the number above it as "leave it" */

static void *grown(void *list, uint32_t *room, uint32_t limit, size_t each)
{
    uint32_t more = *room ? *room * 2 : 16;

    if (*room >= limit)
        return NULL;
    if (more > limit)
        more = limit;
    list = realloc(list, more * each);
    if (list)
        *room = more;
    return list;
}

int fragments_add(struct fragments *fragments, uint64_t offset, uint64_t size)
{
    if (fragments->count == fragments->room) {
        void *list = grown(fragments->list, &fragments->room, TAR_MAX_FRAGMENTS,
                           sizeof(*fragments->list));

        if (!list)
            return -1;
        fragments->list = list;
    }
    fragments->list[fragments->count++] = (struct tar_fragment){offset, size};
    return 0;
}

static int xattrs_add(struct records *records, const char *name, const char *value, size_t size)
{
    if (records->xattr_count == records->xattr_room) {
        void *list = grown(records->xattrs, &records->xattr_room, TAR_MAX_XATTRS,
                           sizeof(*records->xattrs));

        if (!list)
            return -1;
        records->xattrs = list;
    }
    records->xattrs[records->xattr_count++] = (struct tar_xattr){name, value, size};
    return 0;
}

void records_clear(struct records *records)
{
    struct records empty = {
        .fragments = {records->fragments.list, 0, records->fragments.room},
        .xattrs = records->xattrs,
        .xattr_room = records->xattr_room,
    };

    *records = empty;
}

int records_begin(struct records *records, const struct records *global)
{
    records_clear(records);
    records->acl_access = global->acl_access;
    records->acl_default = global->acl_default;
    records->said = global->said;
    records->uid = global->uid;
    records->gid = global->gid;
    records->mtime = global->mtime;
    for (uint32_t i = 0; i < global->xattr_count; i++) {
        const struct tar_xattr *xattr = &global->xattrs[i];

        if (xattrs_add(records, xattr->name, xattr->value, xattr->size) < 0)
            return -1;
    }
    return 0;
}

void records_free(struct records *records)
{
    free(records->fragments.list);
    free(records->xattrs);
}

int decimal(const char *text, uint64_t *number)
{
    uint64_t sum = 0;

    if (!*text)
        return -1;
    for (; *text; text++) {
        if (*text < '0' || *text > '9' || __builtin_mul_overflow(sum, 10, &sum) ||
            __builtin_add_overflow(sum, (uint64_t)(*text - '0'), &sum))
            return -1;
    }
    *number = sum;
    return 0;
}

/* "[-]seconds[.fraction]"; what is finer than a nanosecond is dropped. */
static int read_time(const char *text, struct timespec *time)
{
    int negative = *text == '-';
    int64_t seconds = 0;
    long nanoseconds = 0, unit = 100000000;

    text += negative;
    if (*text < '0' || *text > '9')
        return -1;
    for (; *text >= '0' && *text <= '9'; text++) {
        if (__builtin_mul_overflow(seconds, 10, &seconds) ||
            __builtin_add_overflow(seconds, *text - '0', &seconds))
            return -1;
    }
    if (*text == '.') {
        for (text++; *text >= '0' && *text <= '9'; text++, unit /= 10)
            nanoseconds += unit * (*text - '0');
    }
    if (*text)
        return -1;
    if (negative) {
        seconds = -seconds - (nanoseconds > 0);
        nanoseconds = nanoseconds ? 1000000000 - nanoseconds : 0;
    }
    *time = (struct timespec){.tv_sec = seconds, .tv_nsec = nanoseconds};
    return 0;
}

static const char *read_id(const char *text, uint32_t *id)
{
    uint64_t number;

    if (decimal(text, &number) < 0 || number > MAX_ID)
        return "an owner in its extended header is no user or group id";
    *id = (uint32_t)number;
    return NULL;
}

/* "offset,size,offset,size…" */
static const char *read_map(struct records *records, char *text)
{
    uint64_t pair[2];
    int at = 0;

    records->fragments.count = 0;
    while (*text) {
        char *comma = strchrnul(text, ',');
        int more = *comma == ',';

        *comma = 0;
        if (decimal(text, &pair[at]) < 0)
            return "its sparse map is malformed";
        if (at && fragments_add(&records->fragments, pair[0], pair[1]) < 0)
            return "its sparse map is too long";
        at = !at;
        text = comma + more;
    }
    return at ? "its sparse map is malformed" : NULL;
}

static const char *read_sparse_number(struct records *records, const char *key, uint64_t number)
{
    if (!strcmp(key, "major")) {
        records->sparse_major = number;
        records->said |= SAID_SPARSE_MAJOR;
    } else if (!strcmp(key, "minor")) {
        records->sparse_minor = number;
        records->said |= SAID_SPARSE_MINOR;
    } else if (!strcmp(key, "size") || !strcmp(key, "realsize")) {
        records->sparse_size = number;
        records->said |= SAID_SPARSE_SIZE;
    } else if (!strcmp(key, "numblocks")) {
        records->sparse_count = number;
        records->said |= SAID_SPARSE_COUNT;
    } else if (!strcmp(key, "offset")) {
        if (records->said & SAID_SPARSE_OFFSET)
            return "its sparse map is malformed";
        records->sparse_offset = number;
        records->said |= SAID_SPARSE_OFFSET;
    } else if (!strcmp(key, "numbytes")) {
        if (!(records->said & SAID_SPARSE_OFFSET))
            return "its sparse map is malformed";
        records->said &= ~SAID_SPARSE_OFFSET;
        if (fragments_add(&records->fragments, records->sparse_offset, number) < 0)
            return "its sparse map is too long";
    } else {
        return "its extended header has an unknown word about sparse files";
    }
    return NULL;
}

static const char *read_sparse(struct records *records, const char *key, char *value)
{
    uint64_t number;

    records->said |= SAID_SPARSE;
    if (!strcmp(key, "name")) {
        records->sparse_name = value;
        return NULL;
    }
    if (!strcmp(key, "map"))
        return read_map(records, value);
    if (decimal(value, &number) < 0)
        return "a number about its holes is malformed";
    return read_sparse_number(records, key, number);
}

/* Texts end with a NUL that stands where the record's newline was; one inside would hide a part. */
static const char *read_text(struct records *records, const char *key, char *value)
{
    const char *why = NULL;

    if (!strcmp(key, "path")) {
        records->path = value;
    } else if (!strcmp(key, "linkpath")) {
        records->target = value;
    } else if (!strcmp(key, "SCHILY.acl.access")) {
        records->acl_access = value;
    } else if (!strcmp(key, "SCHILY.acl.default")) {
        records->acl_default = value;
    } else if (!strcmp(key, "size")) {
        why = decimal(value, &records->size) < 0 || records->size > INT64_MAX
                  ? "the size in its extended header is no size" : NULL;
        records->said |= SAID_SIZE;
    } else if (!strcmp(key, "uid")) {
        why = read_id(value, &records->uid);
        records->said |= SAID_UID;
    } else if (!strcmp(key, "gid")) {
        why = read_id(value, &records->gid);
        records->said |= SAID_GID;
    } else if (!strcmp(key, "mtime")) {
        why = read_time(value, &records->mtime) < 0
                  ? "the time in its extended header is no time" : NULL;
        records->said |= SAID_MTIME;
    } else if (!strncmp(key, SPARSE, strlen(SPARSE))) {
        why = read_sparse(records, key + strlen(SPARSE), value);
    }
    return why;
}

static int is_of_one_file(const char *key)
{
    return !strcmp(key, "path") || !strcmp(key, "linkpath") || !strcmp(key, "size") ||
           !strncmp(key, SPARSE, strlen(SPARSE));
}

static int is_known(const char *key)
{
    return is_of_one_file(key) || !strcmp(key, "uid") || !strcmp(key, "gid") ||
           !strcmp(key, "mtime") || !strcmp(key, "SCHILY.acl.access") ||
           !strcmp(key, "SCHILY.acl.default");
}

static const char *read_record(struct records *records, const char *key, char *value, size_t size,
                               int global)
{
    if (!strncmp(key, XATTR, strlen(XATTR))) {
        if (!key[strlen(XATTR)])
            return "an extended attribute has no name";
        return xattrs_add(records, key + strlen(XATTR), value, size) < 0
                   ? "it has too many extended attributes" : NULL;
    }
    if (!is_known(key))
        return NULL;
    if (global && is_of_one_file(key))
        return "a global extended header has words about one file";
    if (memchr(value, 0, size))
        return "a record of its extended header has a NUL";
    /* POSIX: an empty value takes back what an earlier header said; the field counts again. */
    return size ? read_text(records, key, value) : NULL;
}

const char *records_read(struct records *records, char *data, size_t size, int global)
{
    char *end = data + size;

    while (data < end) {
        char *at = data, *equals, *next;
        size_t length = 0;

        for (; at < end && *at >= '0' && *at <= '9' && length <= TAR_MAX_RECORDS; at++)
            length = length * 10 + (size_t)(*at - '0');
        if (at == data || at == end || *at != ' ' || length > (size_t)(end - data) ||
            length < (size_t)(at - data) + 4)
            return "its extended header is malformed";
        next = data + length;
        at++;
        if (next[-1] != '\n')
            return "its extended header is malformed";
        next[-1] = 0;
        equals = memchr(at, '=', (size_t)(next - 1 - at));
        if (!equals || equals == at || memchr(at, 0, (size_t)(equals - at)))
            return "its extended header is malformed";
        *equals = 0;
        const char *why = read_record(records, at, equals + 1, (size_t)(next - equals - 2), global);
        if (why)
            return why;
        data = next;
    }
    return NULL;
}
