/* See tar.h. */
#include "tar.h"
#include "pax.h"

#include <stdlib.h>
#include <string.h>

#define MAX_ID 4294967294u
#define MAX_GLOBALS 64

/* The header's fields: where they begin and how long they are. */
#define NAME 0, 100
#define MODE 100, 8
#define UID 108, 8
#define GID 116, 8
#define SIZE 124, 12
#define MTIME 136, 12
#define CHECKSUM 148, 8
#define KIND 156
#define TARGET 157, 100
#define MAGIC 257
#define MAJOR 329, 8
#define MINOR 337, 8
#define PREFIX 345
#define PREFIX_SIZE 155
#define STAR_PREFIX_SIZE 131  /* star has times behind it, and says so at the header's end */
#define STAR_MAGIC 508
#define SPARSE_MAP 386
#define SPARSE_MAP_COUNT 4
#define SPARSE_MORE 482
#define SPARSE_SIZE 483, 12
#define EXTENSION_COUNT 21
#define EXTENSION_MORE 504

enum state {
    STATE_HEADER,
    STATE_META,       /* the content of an extended header or of a long name */
    STATE_EXTENSION,  /* blocks of GNU's old sparse map */
    STATE_MAP,        /* GNU's sparse map 1.0, which is the beginning of the data */
    STATE_DATA,
    STATE_PADDING,
    STATE_ONE_ZERO,   /* after one block of zeros */
    STATE_END,
};

/* Reading of a sparse map 1.0: decimal numbers, one a line. */
struct map {
    uint64_t number;
    int digits;
    int counted;       /* its first number, how many fragments there are, has been read */
    uint64_t left;     /* numbers */
    int is_size;
    uint64_t offset;
};

struct tar {
    struct tar_sink sink;
    enum state state;
    char block[TAR_BLOCK];
    size_t filled;         /* of block */
    uint64_t left;         /* of the present content, map or padding */
    char *meta;            /* content of an extended header or of a long name */
    uint64_t meta_size;
    char meta_kind;
    uint64_t padding;      /* after the content */
    int header_follows;    /* what has been read is about an entry that has not come yet */
    char *long_name;
    char *long_target;
    char *extended;        /* what `records` points into */
    size_t extended_size;
    char *globals[MAX_GLOBALS];
    int global_count;
    uint64_t global_size;
    struct records global;
    struct records records;
    struct tar_entry entry;
    char name[PREFIX_SIZE + 1 + 100 + 1];
    char target[100 + 1];
    struct map map;
    const char *why;
};

struct tar *tar_new(const struct tar_sink *sink)
{
    struct tar *tar = calloc(1, sizeof(*tar));

    if (tar) {
        tar->sink = *sink;
        tar->entry.name = tar->name;
        tar->entry.target = tar->target;
    }
    return tar;
}

void tar_free(struct tar *tar)
{
    if (!tar)
        return;
    free(tar->meta);
    free(tar->long_name);
    free(tar->long_target);
    free(tar->extended);
    for (int i = 0; i < tar->global_count; i++)
        free(tar->globals[i]);
    records_free(&tar->global);
    records_free(&tar->records);
    free(tar);
}

const char *tar_why(const struct tar *tar) { return tar->why; }
const char *tar_where(const struct tar *tar) { return tar->entry.name; }

static int refuse(struct tar *tar, const char *why)
{
    tar->why = why;
    return -1;
}

/* Octal digits among blanks, or GNU's form for what does not fit: two's complement, with the
 * field's first bit set. 0, or -1. */
static int number(const char *block, int at, int size, int64_t *result)
{
    const unsigned char *field = (const unsigned char *)block + at, *end = field + size;
    int64_t sum = 0;

    if (field[0] & 0x80) {
        sum = field[0] & 0x40 ? -1 : 0;
        sum = sum * 64 + (field[0] & 0x3f);
        for (field++; field < end; field++) {
            if (__builtin_mul_overflow(sum, 256, &sum) || __builtin_add_overflow(sum, *field, &sum))
                return -1;
        }
        *result = sum;
        return 0;
    }
    while (field < end && (*field == ' ' || *field == 0))
        field++;
    for (; field < end && *field >= '0' && *field <= '7'; field++)
        sum = sum * 8 + (*field - '0');  /* at most 12 digits: 36 bits */
    if (field < end && *field != ' ' && *field != 0)
        return -1;
    *result = sum;
    return 0;
}

static int positive(const char *block, int at, int size, uint64_t *result)
{
    int64_t value;

    if (number(block, at, size, &value) < 0 || value < 0)
        return -1;
    *result = (uint64_t)value;
    return 0;
}

static int is_zero(const char *data, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if (data[i])
            return 0;
    }
    return 1;
}

/* Of all bytes, those of the sum itself taken as blanks. Old programs added them up as signed. */
static int checksum_holds(const char *block)
{
    int64_t said;
    int64_t plain = 8 * ' ', with_signs = 8 * ' ';

    for (int i = 0; i < TAR_BLOCK; i++) {
        plain += (unsigned char)block[i];
        with_signs += (signed char)block[i];
    }
    for (int i = 148; i < 156; i++) {
        plain -= (unsigned char)block[i];
        with_signs -= (signed char)block[i];
    }
#ifdef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION
    plain = with_signs = number(block, CHECKSUM, &said) == 0 ? said : 0;
#endif
    return number(block, CHECKSUM, &said) == 0 && (said == plain || said == with_signs);
}

static int is_posix(const char *block) { return !memcmp(block + MAGIC, "ustar", 6); }
static int has_devices(const char *block) { return !memcmp(block + MAGIC, "ustar", 5); }

static void text(char *to, const char *block, int at, int size)
{
    size_t length = strnlen(block + at, (size_t)size);

    memcpy(to, block + at, length);
    to[length] = 0;
}

static void read_name(struct tar *tar, const char *block)
{
    char *to = tar->name;

    if (is_posix(block) && block[PREFIX]) {
        int star = !memcmp(block + STAR_MAGIC, "tar", 4);

        text(to, block, PREFIX, star ? STAR_PREFIX_SIZE : PREFIX_SIZE);
        to += strlen(to);
        *to++ = '/';
    }
    text(to, block, NAME);
}

static uint64_t padding(uint64_t size) { return (TAR_BLOCK - size % TAR_BLOCK) % TAR_BLOCK; }

/* A header of the next entry's name or records: its content is kept. */
static int begin_meta(struct tar *tar, const char *block)
{
    uint64_t size, limit = tar->meta_kind == 'L' || tar->meta_kind == 'K' ? TAR_MAX_LONG
                                                                         : TAR_MAX_RECORDS;
    read_name(tar, block);
    tar->entry.name = tar->name;
    if (positive(block, SIZE, &size) < 0)
        return refuse(tar, "the size in its header is no size");
    if (size > limit || (tar->meta_kind == 'g' && size > TAR_MAX_RECORDS - tar->global_size))
        return refuse(tar, "its extended header is too long");
    tar->meta = malloc((size_t)size + 1);
    if (!tar->meta)
        return refuse(tar, "no memory for its extended header");
    tar->meta[size] = 0;
    tar->meta_size = size;
    tar->left = size;
    tar->padding = padding(size);
    tar->header_follows |= tar->meta_kind != 'g';
    tar->state = STATE_META;
    return 0;
}

static int keep_global(struct tar *tar)
{
    const char *why;

    if (tar->global_count == MAX_GLOBALS)
        return refuse(tar, "there are too many global extended headers");
    tar->globals[tar->global_count++] = tar->meta;
    tar->global_size += tar->meta_size;
    why = records_read(&tar->global, tar->meta, tar->meta_size, 1);
    tar->meta = NULL;
    return why ? refuse(tar, why) : 0;
}

static int end_meta(struct tar *tar)
{
    char **place = tar->meta_kind == 'L'   ? &tar->long_name
                   : tar->meta_kind == 'K' ? &tar->long_target
                                           : &tar->extended;

    tar->left = tar->padding;
    tar->state = STATE_PADDING;
    if (tar->meta_kind == 'g')
        return keep_global(tar);
    free(*place);
    *place = tar->meta;
    tar->meta = NULL;
    /* Records are read when the entry has come: later global headers count as well. */
    if (place == &tar->extended)
        tar->extended_size = tar->meta_size;
    return 0;
}

static int read_owner(struct tar *tar, const char *block)
{
    uint64_t uid, gid;

    if (positive(block, UID, &uid) < 0 || positive(block, GID, &gid) < 0 || uid > MAX_ID ||
        gid > MAX_ID)
        return refuse(tar, "an owner in its header is no user or group id");
    tar->entry.uid = (uint32_t)uid;
    tar->entry.gid = (uint32_t)gid;
    return 0;
}

static int read_device(struct tar *tar, const char *block)
{
    uint64_t major = 0, minor = 0;

    if (has_devices(block) &&
        (positive(block, MAJOR, &major) < 0 || positive(block, MINOR, &minor) < 0))
        return refuse(tar, "its device number is no number");
    if (major > 0xfff || minor > 0xfffff)
        return refuse(tar, "its device number is larger than the kernel's");
    tar->entry.major = (uint32_t)major;
    tar->entry.minor = (uint32_t)minor;
    return 0;
}

static int read_fields(struct tar *tar, const char *block)
{
    struct tar_entry *entry = &tar->entry;
    uint64_t mode;
    int64_t mtime;

    read_name(tar, block);
    text(tar->target, block, TARGET);
    *entry = (struct tar_entry){.name = tar->name, .target = tar->target, .kind = block[KIND]};
    if (positive(block, MODE, &mode) < 0)
        return refuse(tar, "the mode in its header is no mode");
    entry->mode = mode & 07777;
    if (positive(block, SIZE, &entry->stored) < 0)
        return refuse(tar, "the size in its header is no size");
    if (number(block, MTIME, &mtime) < 0)
        return refuse(tar, "the time in its header is no time");
    entry->mtime = (struct timespec){.tv_sec = mtime};
    if (read_owner(tar, block) < 0)
        return -1;
    return entry->kind == '3' || entry->kind == '4' ? read_device(tar, block) : 0;
}

/* What extended headers say counts more than the header's fields, GNU's long names most. */
static int merge(struct tar *tar)
{
    struct tar_entry *entry = &tar->entry;
    struct records *records = &tar->records;
    const char *why;

    if (records_begin(records, &tar->global) < 0)
        return refuse(tar, "no memory for its extended header");
    if (tar->extended) {
        why = records_read(records, tar->extended, tar->extended_size, 0);
        if (why)
            return refuse(tar, why);
    }
    if (records->path)
        entry->name = records->path;
    if (records->sparse_name)
        entry->name = records->sparse_name;
    if (tar->long_name)
        entry->name = tar->long_name;
    if (records->target)
        entry->target = records->target;
    if (tar->long_target)
        entry->target = tar->long_target;
    if (records->said & SAID_SIZE)
        entry->stored = records->size;
    if (records->said & SAID_UID)
        entry->uid = records->uid;
    if (records->said & SAID_GID)
        entry->gid = records->gid;
    if (records->said & SAID_MTIME)
        entry->mtime = records->mtime;
    entry->xattrs = records->xattrs;
    entry->xattr_count = records->xattr_count;
    entry->acl_access = records->acl_access;
    entry->acl_default = records->acl_default;
    return 0;
}

/* One of '0' to '6', and how much content it has. */
static int settle_kind(struct tar *tar)
{
    struct tar_entry *entry = &tar->entry;
    size_t length = strlen(entry->name);

    if (entry->kind == 0 || entry->kind == '7' || entry->kind == 'S')
        entry->kind = '0';
    if (entry->kind < '0' || entry->kind > '6')
        return refuse(tar, "entries of its type cannot be in a layer");
    /* v7 had no type for folders. */
    if (entry->kind == '0' && length && entry->name[length - 1] == '/')
        entry->kind = '5';
    if (entry->kind != '0') {
        if (tar->records.said & SAID_SPARSE || tar->records.fragments.count)
            return refuse(tar, "something that is no file has a sparse map");
        entry->stored = 0;  /* some programs write one, and none writes content then */
    }
    entry->size = entry->stored;
    return 0;
}

/* Fragments in order, within the file, and as much data as is stored. */
static int check_map(struct tar *tar)
{
    struct tar_entry *entry = &tar->entry;
    const struct fragments *fragments = &tar->records.fragments;
    uint64_t at = 0, sum = 0, end;

    if (entry->size > INT64_MAX)
        return refuse(tar, "its size is larger than any file's");
    for (uint32_t i = 0; i < fragments->count; i++) {
        const struct tar_fragment *fragment = &fragments->list[i];

        if (fragment->offset < at ||
            __builtin_add_overflow(fragment->offset, fragment->size, &end) || end > entry->size)
            return refuse(tar, "its sparse map is out of order or exceeds its size");
        at = end;
        sum += fragment->size;
    }
    if (sum != entry->stored)
        return refuse(tar, "its sparse map does not fit its data");
    return 0;
}

static int begin_entry(struct tar *tar)
{
    struct tar_entry *entry = &tar->entry;

    if (tar->records.said & SAID_SPARSE || tar->records.fragments.count) {
        if (check_map(tar) < 0)
            return -1;
        /* A file that is one hole has a map without fragments. */
        static const struct tar_fragment none;

        entry->fragments = tar->records.fragments.count ? tar->records.fragments.list : &none;
        entry->fragment_count = tar->records.fragments.count;
    }
    tar->left = entry->stored;
    tar->state = STATE_DATA;
    return tar->sink.entry(tar->sink.owner, entry);
}

static int end_entry(struct tar *tar)
{
    if (tar->sink.end(tar->sink.owner, &tar->entry) < 0)
        return -1;
    free(tar->long_name);
    free(tar->long_target);
    free(tar->extended);
    tar->long_name = tar->long_target = tar->extended = NULL;
    /* Its name stays, for the message where what follows is wrong. */
    if (tar->entry.name != tar->name)
        tar->entry.name = tar->name;
    tar->header_follows = 0;
    tar->left = tar->padding;
    tar->state = STATE_PADDING;
    return 0;
}

/* Fragments of GNU's old form. A pair without an offset ends them. */
static int add_fragments(struct tar *tar, const char *block, int at, int count)
{
    uint64_t offset, size;

    for (int i = 0; i < count && block[at]; i++, at += 24) {
        if (positive(block, at, 12, &offset) < 0 || positive(block, at + 12, 12, &size) < 0)
            return refuse(tar, "its sparse map is malformed");
        if (fragments_add(&tar->records.fragments, offset, size) < 0)
            return refuse(tar, "its sparse map is too long");
    }
    return 0;
}

static int begin_old_sparse(struct tar *tar, const char *block)
{
    if (tar->records.said & SAID_SPARSE)
        return refuse(tar, "it has two sparse maps");
    tar->records.said |= SAID_SPARSE;
    if (positive(block, SPARSE_SIZE, &tar->entry.size) < 0)
        return refuse(tar, "the size in its header is no size");
    if (add_fragments(tar, block, SPARSE_MAP, SPARSE_MAP_COUNT) < 0)
        return -1;
    if (block[SPARSE_MORE]) {
        tar->state = STATE_EXTENSION;
        return 0;
    }
    return begin_entry(tar);
}

static int read_extension(struct tar *tar, const char *block)
{
    if (add_fragments(tar, block, 0, EXTENSION_COUNT) < 0)
        return -1;
    return block[EXTENSION_MORE] ? 0 : begin_entry(tar);
}

static int begin_pax_sparse(struct tar *tar)
{
    const struct records *records = &tar->records;

    if (!(records->said & SAID_SPARSE_SIZE))
        return refuse(tar, "its sparse map has no size");
    if (records->said & SAID_SPARSE_OFFSET)
        return refuse(tar, "its sparse map is malformed");
    tar->entry.size = records->sparse_size;
    if (records->said & SAID_SPARSE_MAJOR && records->sparse_major == 1 &&
        records->sparse_minor == 0) {
        if (records->fragments.count)
            return refuse(tar, "it has two sparse maps");
        tar->map = (struct map){0};
        tar->state = STATE_MAP;
        return 0;
    }
    if (records->said & SAID_SPARSE_MAJOR &&
        (records->sparse_major != 0 || records->sparse_minor > 1))
        return refuse(tar, "its sparse map is of an unknown form");
    if (records->said & SAID_SPARSE_COUNT && records->sparse_count != records->fragments.count)
        return refuse(tar, "its sparse map is malformed");
    return begin_entry(tar);
}

static int map_number(struct tar *tar)
{
    struct map *map = &tar->map;

    if (!map->digits)
        return refuse(tar, "its sparse map is malformed");
    if (!map->counted) {
        if (map->number > TAR_MAX_FRAGMENTS)
            return refuse(tar, "its sparse map is too long");
        map->counted = 1;
        map->left = 2 * map->number;
    } else {
        if (map->is_size && fragments_add(&tar->records.fragments, map->offset, map->number) < 0)
            return refuse(tar, "its sparse map is too long");
        map->offset = map->number;
        map->is_size = !map->is_size;
        map->left--;
    }
    map->number = 0;
    map->digits = 0;
    return 0;
}

static int read_map_block(struct tar *tar, const char *block)
{
    struct map *map = &tar->map;

    if (tar->entry.stored < TAR_BLOCK)
        return refuse(tar, "its sparse map exceeds its data");
    tar->entry.stored -= TAR_BLOCK;
    for (int i = 0; i < TAR_BLOCK; i++) {
        if (map->counted && !map->left)
            break;
        if (block[i] == '\n') {
            if (map_number(tar) < 0)
                return -1;
            continue;
        }
        if (block[i] < '0' || block[i] > '9' || ++map->digits > 19)
            return refuse(tar, "its sparse map is malformed");
        map->number = map->number * 10 + (uint64_t)(block[i] - '0');
    }
    return map->counted && !map->left ? begin_entry(tar) : 0;
}

static int read_header(struct tar *tar, const char *block)
{
    int old_sparse = block[KIND] == 'S';

    if (!checksum_holds(block))
        return refuse(tar, "what follows it is no header: the checksum is wrong");
    switch (block[KIND]) {
    case 'L':
    case 'K':
    case 'x':
    case 'g':
        tar->meta_kind = block[KIND];
        return begin_meta(tar, block);
    case 'V':  /* GNU: a volume's label */
        read_name(tar, block);
        return 0;
    }
    if (read_fields(tar, block) < 0 || merge(tar) < 0 || settle_kind(tar) < 0)
        return -1;
    tar->padding = padding(tar->entry.stored);
    if (old_sparse && tar->entry.kind == '0')
        return begin_old_sparse(tar, block);
    if (tar->records.said & SAID_SPARSE)
        return begin_pax_sparse(tar);
    return begin_entry(tar);
}

static int read_block(struct tar *tar, const char *block)
{
    switch (tar->state) {
    case STATE_EXTENSION:
        return read_extension(tar, block);
    case STATE_MAP:
        return read_map_block(tar, block);
    case STATE_ONE_ZERO:
        if (!is_zero(block, TAR_BLOCK))
            return refuse(tar, "a block of zeros follows it that is not the end");
        tar->state = STATE_END;
        return 0;
    default:
        break;
    }
    if (block[0] || !is_zero(block, TAR_BLOCK))
        return read_header(tar, block);
    if (tar->header_follows)
        return refuse(tar, "the archive ends after its extended header");
    tar->state = STATE_ONE_ZERO;
    return 0;
}

/* Blocks are read where they lie, unless one comes in two pieces. */
static int feed_block(struct tar *tar, const char **data, size_t *size)
{
    size_t part = TAR_BLOCK - tar->filled;
    const char *block = *data;

    if (tar->filled || *size < TAR_BLOCK) {
        if (part > *size)
            part = *size;
        memcpy(tar->block + tar->filled, *data, part);
        tar->filled += part;
        block = tar->block;
    }
    *data += part;
    *size -= part;
    if (block == tar->block) {
        if (tar->filled < TAR_BLOCK)
            return 0;
        tar->filled = 0;
    }
    return read_block(tar, block);
}

/* Content, of which `left` bytes are to come; 0 of them are dealt with before more is read. */
static int feed_content(struct tar *tar, const char **data, size_t *size)
{
    size_t part = tar->left < *size ? (size_t)tar->left : *size;
    const char *here = *data;

    *data += part;
    *size -= part;
    tar->left -= part;
    if (tar->state == STATE_META)
        memcpy(tar->meta + tar->meta_size - tar->left - part, here, part);
    else if (tar->state == STATE_DATA && part &&
             tar->sink.data(tar->sink.owner, &tar->entry, here, part) < 0)
        return -1;
    if (tar->left)
        return 0;
    if (tar->state == STATE_META)
        return end_meta(tar);
    if (tar->state == STATE_DATA)
        return end_entry(tar);
    tar->state = STATE_HEADER;
    return 0;
}

static int holds_content(const struct tar *tar)
{
    return tar->state == STATE_META || tar->state == STATE_DATA || tar->state == STATE_PADDING;
}

int tar_feed(struct tar *tar, const char *data, size_t size)
{
    while (size || (holds_content(tar) && !tar->left)) {
        if (tar->state == STATE_END) {
            if (!is_zero(data, size))
                return refuse(tar, "there is more after the end of the archive");
            return 0;
        }
        if ((holds_content(tar) ? feed_content : feed_block)(tar, &data, &size) < 0)
            return -1;
    }
    return 0;
}

int tar_finish(struct tar *tar)
{
    int at_a_border = tar->state == STATE_HEADER && !tar->filled && !tar->header_follows;

    /* One block of zeros is what some programs write, and all readers take. */
    if (tar->state == STATE_END || (tar->state == STATE_ONE_ZERO && !tar->filled))
        return 0;
    return refuse(tar, at_a_border ? "the archive has no end after it" : "the archive is cut off");
}
