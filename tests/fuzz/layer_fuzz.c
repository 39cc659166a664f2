/* Gives bytes to the unpacking of layers, once as a whole and once in pieces, in a folder with
 * something beside it that must not change. Built with clang -fsanitize=fuzzer, or with STANDALONE
 * defined as a program of its own that mutates what it is given:
 *
 *   layer_fuzz SECONDS SEED FILE…
 *
 * Checksums are not looked at (FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION). It works below TMPDIR, and
 * ends with a sanitizer's report where memory is misused, and by abort where something else is wrong:
 * what is beside the folder has changed, the pieces make a difference, or a refusal has no words. */
#include "layer.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char base[4096];

static void require(int holds, const char *what)
{
    if (holds)
        return;
    fprintf(stderr, "layer_fuzz: %s\n", what);
    abort();
}

/* What is there may have any mode; 500 folders deep at most. */
static void remove_below(int above, const char *name)
{
    struct dirent *entry;
    DIR *folder;
    int fd;

    if (unlinkat(above, name, 0) == 0)
        return;
    fd = openat(above, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return;
    close(fd);
    fchmodat(above, name, 0700, 0);
    fd = openat(above, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    folder = fd < 0 ? NULL : fdopendir(fd);
    while (folder && (entry = readdir(folder))) {
        if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, ".."))
            remove_below(fd, entry->d_name);
    }
    if (folder)
        closedir(folder);
    unlinkat(above, name, AT_REMOVEDIR);
}

static void remove_all(void) { remove_below(AT_FDCWD, base); }

/* base/root is unpacked into; base/beside/secret is nobody's. */
static void prepare(void)
{
    const char *folder = getenv("TMPDIR");
    int fd;

    snprintf(base, sizeof(base), "%s/layer-fuzz-XXXXXX", folder ? folder : "/tmp");
    require(mkdtemp(base) != NULL, "no folder to work in");
    atexit(remove_all);
    require(chdir(base) == 0 && mkdir("beside", 0700) == 0, "no folder to work in");
    fd = open("beside/secret", O_WRONLY | O_CREAT | O_EXCL, 0600);
    require(fd >= 0 && write(fd, "secret", 6) == 6 && close(fd) == 0, "no file to look after");
}

static int count(const char *path)
{
    DIR *folder = opendir(path);
    int found = 0;

    while (folder && readdir(folder))
        found++;
    if (folder)
        closedir(folder);
    return found;
}

static void check_beside(void)
{
    struct stat info;
    char text[16];
    int fd = open("beside/secret", O_RDONLY | O_NOFOLLOW);

    require(fd >= 0 && fstat(fd, &info) == 0 && read(fd, text, sizeof(text)) == 6 &&
            !memcmp(text, "secret", 6), "what is beside the folder has changed");
    require(info.st_nlink == 1 && (info.st_mode & 07777) == 0600,
            "what is beside the folder has changed");
    require(count("beside") == 3 && count(".") == 4, "there is something beside the folder");
    require(lstat("beside", &info) == 0 && (info.st_mode & 07777) == 0700,
            "the folder beside has changed");
    close(fd);
}

struct outcome {
    int accepted;
    uint64_t entries;
    uint64_t size;
    char why[128];
};

static void read_notes(struct layer *layer)
{
    size_t size;
    const char *at = layer_notes(layer, &size), *end;

    if (!at)
        return;
    end = at + size;
    while (at < end) {
        char kind = *at++;

        require(strchr("+-LDW", kind) != NULL, "a note is of no kind");
        if (kind == '+')
            layer_has_folder(layer, at);
        at += strlen(at) + 1;
        if (kind == 'L')
            at += strlen(at) + 1;
    }
    require(at == end, "a note has no end");
}

static struct outcome unpack(const uint8_t *data, size_t size, size_t piece)
{
    struct outcome outcome = {0};
    struct layer *layer;
    int root, result = 0;

    require(mkdir("root", 0700) == 0, "no folder to unpack into");
    root = open("root", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    layer = layer_new(root, 1, 1000, 1 << 20);
    if (!layer)
        exit(1);
    for (size_t at = 0; result == 0 && at < size; at += piece) {
        size_t part = size - at < piece ? size - at : piece;
        char *copy = malloc(part);

        memcpy(copy, data + at, part);
        result = layer_feed(layer, copy, part);
        free(copy);
    }
    if (result == 0)
        result = layer_finish(layer);
    require(result == 0 || *layer_why(layer), "it was refused without a reason");
    require(strlen(layer_where(layer)) < 1 << 21, "an entry has no name");
    if (result == 0)
        read_notes(layer);
    outcome.accepted = result == 0;
    outcome.entries = layer_entries(layer);
    outcome.size = layer_size(layer);
    snprintf(outcome.why, sizeof(outcome.why), "%s", layer_why(layer));
    layer_free(layer);
    close(root);
    check_beside();
    remove_below(AT_FDCWD, "root");
    return outcome;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct outcome whole, pieces;
    size_t piece = size ? 1 + (data[0] * 7u + size) % 700 : 1;

    if (!*base)
        prepare();
    whole = unpack(data, size, size ? size : 1);
    pieces = unpack(data, size, piece);
    require(whole.accepted == pieces.accepted && whole.entries == pieces.entries &&
            whole.size == pieces.size && !strcmp(whole.why, pieces.why),
            "it makes a difference in which pieces it comes");
    return 0;
}

#ifdef STANDALONE
#define LARGEST (1u << 16)
#define BLOCK 512u
#define COUNT(list) (sizeof(list) / sizeof(*(list)))

struct seed {
    uint8_t data[LARGEST];
    size_t size;
};

static uint64_t state;

static uint32_t chance(uint32_t below)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(state >> 33) % below;
}

static const char kinds[] = "0123456 7SLKxgVMQ\0";
static const char *const names[] = {
    "a", "b", "d", "d/f", "a/b/c", ".", "/", "..", "../beside/secret", "/beside/secret", "l", "l/x",
    ".wh.a", "d/.wh..wh..opq", ".wh..wh..opq", ".wh..wh.plnk/a", ".wh.", "d/", "", "a//./b",
};
static const char *const numbers[] = {
    "00000000000", "00000000001", "00000001000", "77777777777", "-0000000001", "           ",
    "\x80\0\0\0\0\0\0\0\0\0\2", "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", "99999999999",
};
static const struct {
    size_t at;
    size_t size;
} fields[] = {{100, 8}, {108, 8}, {116, 8}, {124, 12}, {136, 12}, {329, 8}, {337, 8}, {386, 12},
              {398, 12}, {483, 12}};

static void put(uint8_t *to, const char *text, size_t room)
{
    memset(to, 0, room);
    memcpy(to, text, strnlen(text, room));
}

static size_t mutate(struct seed *it, const struct seed *other)
{
    uint32_t blocks = (uint32_t)(it->size / BLOCK), from = (uint32_t)(other->size / BLOCK);
    uint8_t *block = it->data + chance(blocks) * BLOCK;
    uint32_t field = chance(COUNT(fields));
    size_t rest = (size_t)(it->data + it->size - block);

    switch (chance(9)) {
    case 0:
        block[chance(BLOCK)] ^= (uint8_t)(1u << chance(8));
        break;
    case 1:
        block[156] = (uint8_t)kinds[chance(sizeof(kinds) - 1)];
        break;
    case 2:
        put(block, names[chance(COUNT(names))], 100);
        break;
    case 3:
        put(block + 157, names[chance(COUNT(names))], 100);
        break;
    case 4:
        memcpy(block + fields[field].at, numbers[chance(COUNT(numbers))], 11);
        break;
    case 5:
        memcpy(block, other->data + chance(from) * BLOCK, BLOCK);
        break;
    case 6:  /* one block more, of another file */
        if (it->size + BLOCK <= LARGEST) {
            memmove(block + BLOCK, block, rest);
            memcpy(block, other->data + chance(from) * BLOCK, BLOCK);
            it->size += BLOCK;
        }
        break;
    case 7:  /* one less, or half of one */
        memmove(block, block + BLOCK, rest - BLOCK);
        it->size -= chance(4) || it->size < 3 * BLOCK ? BLOCK : BLOCK / 2;
        break;
    default:
        block[chance(BLOCK)] = (uint8_t)chance(256);
    }
    return it->size;
}

static void load(const char *path, struct seed *seed)
{
    FILE *file = fopen(path, "rb");

    seed->size = file ? fread(seed->data, 1, LARGEST, file) : 0;
    if (file)
        fclose(file);
    if (seed->size < 2 * BLOCK) {
        fprintf(stderr, "layer_fuzz: %s: no archive\n", path);
        exit(2);
    }
}

int main(int argc, char **argv)
{
    static struct seed good, other, it;
    time_t end;
    uint64_t runs = 0;

    if (argc < 4)
        return 2;
    end = time(NULL) + atoi(argv[1]);
    state = strtoull(argv[2], NULL, 10);
    while (time(NULL) < end) {
        load(argv[3 + chance((uint32_t)argc - 3)], &good);
        load(argv[3 + chance((uint32_t)argc - 3)], &other);
        for (int i = 0; i < 20; i++, runs++) {
            it = good;
            for (uint32_t n = 1 + chance(6); n > 0 && it.size >= 2 * BLOCK; n--)
                mutate(&it, &other);
            LLVMFuzzerTestOneInput(it.data, it.size);
        }
    }
    printf("%llu\n", (unsigned long long)runs);
    return 0;
}
#endif
