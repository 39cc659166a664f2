/* See tree.h. */
#include "tree.h"
#include "sys.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#define MAX_LINKS 40  /* as many as the kernel follows, path_resolution(7) */
#define FOLDER (O_RDONLY | O_DIRECTORY | O_CLOEXEC)
#define PLAIN (RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV)

int tree_fail(struct tree *tree, const char *step)
{
    tree->why = step;
    tree->error = errno;
    return -1;
}

int tree_refuse(struct tree *tree, const char *why)
{
    tree->why = why;
    tree->error = 0;
    return -1;
}

void tree_init(struct tree *tree, int root, int rootless)
{
    memset(tree, 0, sizeof(*tree));
    tree->root = root;
    tree->fd = -1;
    tree->opaque = rootless ? "user.overlay.opaque" : "trusted.overlay.opaque";
}

void tree_free(struct tree *tree)
{
    if (tree->fd >= 0)
        close(tree->fd);
    free(tree->notes);
}

static int note_text(struct tree *tree, const char *text, size_t size)
{
    if (size > tree->notes_room - tree->notes_size) {
        size_t room = tree->notes_room ? tree->notes_room * 2 : 4096;
        char *notes;

        while (room - tree->notes_size < size)
            room *= 2;
        if (room > TREE_MAX_NOTES)
            return tree_refuse(tree, "the layer has too much that refers to the layers below");
        notes = realloc(tree->notes, room);
        if (!notes)
            return tree_fail(tree, "remember");
        tree->notes = notes;
        tree->notes_room = room;
    }
    memcpy(tree->notes + tree->notes_size, text, size);
    tree->notes_size += size;
    return 0;
}

int tree_note(struct tree *tree, enum note kind, const char *name, const char *target)
{
    char letter = (char)kind;

    if (note_text(tree, &letter, 1) < 0 ||
        note_text(tree, tree->path, strlen(tree->path)) < 0 ||
        (*tree->path && *name && note_text(tree, "/", 1) < 0) ||
        note_text(tree, name, strlen(name) + 1) < 0)
        return -1;
    return target ? note_text(tree, target, strlen(target) + 1) : 0;
}

static int open_below(int root, const char *path, uint64_t flags, uint64_t resolve)
{
    struct open_how how = {.flags = flags, .resolve = resolve};
    int fd = -1;

    if (!*path)
        path = ".";
    /* EAGAIN: something was renamed meanwhile, anywhere; openat2(2) */
    for (int tries = 0; tries < 1000; tries++) {
        fd = sys_openat2(root, path, &how);
        if (fd >= 0 || errno != EAGAIN)
            break;
    }
    return fd;
}

int tree_is_whiteout(const struct stat *info)
{
    return S_ISCHR(info->st_mode) && info->st_rdev == makedev(0, 0);
}

int tree_set_opaque(struct tree *tree, int fd)
{
    if (fsetxattr(fd, tree->opaque, "y", 1, 0) < 0)
        return tree_fail(tree, "mark the folder opaque");
    return 0;
}

static int set_time(int fd, struct timespec mtime)
{
    const struct timespec both[2] = {mtime, mtime};

    return futimens(fd, both);
}

int tree_leave(struct tree *tree)
{
    int result = 0;

    if (tree->fd < 0)
        return 0;
    if (tree->changed && set_time(tree->fd, tree->mtime) < 0)
        result = tree_fail(tree, "set the time of the folder above");
    close(tree->fd);
    tree->fd = -1;
    tree->asked_holds = 0;
    return result;
}

/* `fd` becomes the folder that is entered; tree->path is its path already. */
static int settle(struct tree *tree, int fd)
{
    struct stat info;

    tree->fd = fd;
    tree->changed = 0;
    if (fstat(fd, &info) < 0)
        return tree_fail(tree, "look at its folder");
    tree->mtime = info.st_mtim;
    tree->gives_acl = tree->default_acls &&
                      fgetxattr(fd, "system.posix_acl_default", NULL, 0) > 0;
    return 0;
}

static int push(struct tree *tree, const char *name)
{
    size_t length = strlen(tree->path), size = strlen(name);

    if (tree->depth == TREE_DEPTH)
        return tree_refuse(tree, "it is too many folders deep");
    if (length + 1 + size >= sizeof(tree->path))
        return tree_refuse(tree, "its path is too long");
    if (length)
        tree->path[length++] = '/';
    memcpy(tree->path + length, name, size + 1);
    tree->depth++;
    return 0;
}

static void pop(struct tree *tree)
{
    char *slash = strrchr(tree->path, '/');

    if (!*tree->path)
        return;  /* above the root is the root */
    *(slash ? slash : tree->path) = 0;
    tree->depth--;
}

static void begin_at_root(struct tree *tree)
{
    *tree->path = 0;
    tree->depth = 0;
}

static int swap(struct tree *tree, int *at, int next)
{
    if (next < 0)
        return tree_fail(tree, "open a folder above it");
    close(*at);
    *at = next;
    return 0;
}

/* An ACL that the folder above gave it: none of the layer's. */
int tree_drop_given_acls(struct tree *tree, int fd, int folder)
{
    if ((fremovexattr(fd, "system.posix_acl_access") < 0 && errno != ENODATA) ||
        (folder && fremovexattr(fd, "system.posix_acl_default") < 0 && errno != ENODATA))
        return tree_fail(tree, "drop the ACL of the folder above");
    return 0;
}

/* Mode and owner do not depend on the caller's umask or on the folder above. */
static int dress_implicit(struct tree *tree, int fd, int opaque)
{
    if (fchown(fd, geteuid(), getegid()) < 0 || fchmod(fd, 0755) < 0)
        return tree_fail(tree, "make a folder above it");
    if (tree->default_acls && tree_drop_given_acls(tree, fd, 1) < 0)
        return -1;
    return opaque ? tree_set_opaque(tree, fd) : 0;
}

/* A folder that no entry has listed; `above` keeps its time. An opaque one has nothing to do with
 * what the layers below have there. */
static int make_implicit(struct tree *tree, int *above, const char *name, int opaque)
{
    struct stat info;
    int fd;

    if (!opaque && tree_note(tree, NOTE_IMPLICIT, name, NULL) < 0)
        return -1;
    if (push(tree, name) < 0)
        return -1;
    if (fstat(*above, &info) < 0 || mkdirat(*above, name, 0700) < 0)
        return tree_fail(tree, "make a folder above it");
    fd = openat(*above, name, FOLDER | O_NOFOLLOW);
    if (set_time(*above, info.st_mtim) < 0) {
        tree_fail(tree, "set the time of a folder above it");
        if (fd >= 0)
            close(fd);
        return -1;
    }
    if (swap(tree, above, fd) < 0)
        return -1;
    return dress_implicit(tree, fd, opaque);
}

/* What is in the way of a folder that an entry needs: only a whiteout gives way. */
static int replace_whiteout(struct tree *tree, int *above, const char *name)
{
    struct stat info;

    if (fstatat(*above, name, &info, AT_SYMLINK_NOFOLLOW) < 0)
        return tree_fail(tree, "look at what stands above it");
    if (!tree_is_whiteout(&info))
        return tree_refuse(tree, "what stands above it is no folder");
    if (unlinkat(*above, name, 0) < 0)
        return tree_fail(tree, "remove the whiteout above it");
    return make_implicit(tree, above, name, 1);
}

/* A path that has links on it, or ends early. */
struct walk {
    char rest[PATH_MAX];
    int links;
};

/* The target of the link `name` takes its place in what is left to be walked. 1: it is no link. */
static int follow(struct tree *tree, struct walk *walk, int *above, const char *name)
{
    char target[PATH_MAX];
    size_t length = strlen(walk->rest);
    ssize_t size = readlinkat(*above, name, target, sizeof(target) - 1);

    if (size < 0)
        return errno == EINVAL ? 1 : tree_fail(tree, "read the link above it");
    if (++walk->links > MAX_LINKS)
        return tree_refuse(tree, "too many links stand above it");
    if ((size_t)size + 1 + length >= sizeof(walk->rest))
        return tree_refuse(tree, "its path is too long");
    memmove(walk->rest + size + 1, walk->rest, length + 1);
    memcpy(walk->rest, target, (size_t)size);
    walk->rest[size] = '/';
    if (target[0] != '/')
        return 0;
    begin_at_root(tree);
    return swap(tree, above, openat(tree->root, ".", FOLDER));
}

static int step_down(struct tree *tree, struct walk *walk, int *at, const char *name)
{
    int result, fd = openat(*at, name, FOLDER | O_NOFOLLOW);

    if (fd >= 0) {
        if (push(tree, name) == 0)
            return swap(tree, at, fd);
        close(fd);
        return -1;
    }
    if (errno == ENOENT)
        return make_implicit(tree, at, name, 0);
    if (errno != ENOTDIR && errno != ELOOP)
        return tree_fail(tree, "open a folder above it");
    result = follow(tree, walk, at, name);
    return result == 1 ? replace_whiteout(tree, at, name) : result;
}

static int step_up(struct tree *tree, int *at)
{
    pop(tree);
    return swap(tree, at, open_below(tree->root, tree->path, FOLDER, PLAIN));
}

/* 1: a component is in `name`; 0: there is none left. */
static int next_component(struct tree *tree, struct walk *walk, char name[NAME_MAX + 1])
{
    size_t skip = strspn(walk->rest, "/"), size = strcspn(walk->rest + skip, "/");

    if (size > NAME_MAX)
        return tree_refuse(tree, "a name on its path is too long");
    memcpy(name, walk->rest + skip, size);
    name[size] = 0;
    memmove(walk->rest, walk->rest + skip + size, strlen(walk->rest + skip + size) + 1);
    return size > 0;
}

/* To the folder at `path`, one component at a time; what is missing is made. */
static int walk_to(struct tree *tree, const char *path, int *at)
{
    struct walk walk = {.links = 0};
    char name[NAME_MAX + 1];
    int more;

    strcpy(walk.rest, path);
    begin_at_root(tree);
    while ((more = next_component(tree, &walk, name)) > 0) {
        int result = 0;

        if (!strcmp(name, ".."))
            result = step_up(tree, at);
        else if (strcmp(name, "."))
            result = step_down(tree, &walk, at, name);
        if (result < 0)
            return -1;
    }
    return more;
}

static int count_components(const char *path)
{
    int count = *path != 0;

    while ((path = strchr(path, '/'))) {
        path++;
        count++;
    }
    return count;
}

int tree_enter(struct tree *tree, const char *path)
{
    int fd;

    if (tree->fd >= 0 && tree->asked_holds && !strcmp(tree->asked, path))
        return 0;
    if (tree_leave(tree) < 0)
        return -1;
    fd = open_below(tree->root, path, FOLDER, PLAIN);
    if (fd >= 0) {
        strcpy(tree->path, path);
        tree->depth = count_components(path);
    } else {
        if (errno != ENOENT && errno != ELOOP && errno != ENOTDIR)
            return tree_fail(tree, "open a folder above it");
        fd = openat(tree->root, ".", FOLDER);
        if (fd < 0)
            return tree_fail(tree, "open the root");
        if (walk_to(tree, path, &fd) < 0) {
            close(fd);
            return -1;
        }
    }
    strcpy(tree->asked, path);
    tree->asked_holds = 1;
    return settle(tree, fd);
}

/* Makes the folder `name`, unless there is one. 1: it hides what is below it. */
static int make_folder(struct tree *tree, const char *name)
{
    struct stat info;
    int opaque;

    tree->changed = 1;
    if (mkdirat(tree->fd, name, 0700) == 0)
        return 0;
    if (errno != EEXIST || fstatat(tree->fd, name, &info, AT_SYMLINK_NOFOLLOW) < 0)
        return tree_fail(tree, "make the folder");
    if (S_ISDIR(info.st_mode))
        return tree->notes_size ? tree_note(tree, NOTE_LISTED, name, NULL) : 0;
    opaque = tree_is_whiteout(&info);
    if (tree_clear(tree, name) < 0)
        return -1;
    return mkdirat(tree->fd, name, 0700) < 0 ? tree_fail(tree, "make the folder") : opaque;
}

int tree_enter_new(struct tree *tree, const char *name)
{
    size_t length = strlen(tree->asked);
    int opaque, fd, holds;

    if (tree->depth == TREE_DEPTH)
        return tree_refuse(tree, "it is too many folders deep");
    opaque = make_folder(tree, name);
    if (opaque < 0)
        return -1;
    fd = openat(tree->fd, name, FOLDER | O_NOFOLLOW);
    if (fd < 0)
        return tree_fail(tree, "open the folder");
    holds = tree->asked_holds && length + 1 + strlen(name) < sizeof(tree->asked);
    if (tree_leave(tree) < 0 || push(tree, name) < 0) {
        close(fd);
        return -1;
    }
    if (holds) {
        if (length)
            tree->asked[length++] = '/';
        strcpy(tree->asked + length, name);
        tree->asked_holds = 1;
    }
    if (settle(tree, fd) < 0)
        return -1;
    return opaque ? tree_set_opaque(tree, fd) : 0;
}

int tree_find(struct tree *tree, const char *path)
{
    int fd;

    if (tree->fd >= 0 && tree->asked_holds && !strcmp(tree->asked, path))
        return fcntl(tree->fd, F_DUPFD_CLOEXEC, 0);
    fd = open_below(tree->root, path, O_PATH | O_DIRECTORY | O_CLOEXEC,
                    RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV);
    if (fd < 0 && (errno == ENOTDIR || errno == ELOOP))
        errno = ENOENT;
    return fd;
}

int tree_has_folder(const struct tree *tree, const char *path)
{
    int fd = open_below(tree->root, path, O_PATH | O_DIRECTORY | O_CLOEXEC, PLAIN);

    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

/* A descent into what is to be removed, with one descriptor. Going up, it is looked whether ".." is
 * where it came from. */
struct descent {
    int at;
    int depth;
    ino_t above[TREE_DEPTH + 1];
};

static int descend(struct tree *tree, struct descent *descent, const char *name)
{
    struct stat info;
    int next;

    if (descent->depth > TREE_DEPTH)
        return tree_refuse(tree, "what it replaces is too many folders deep");
    if (fstat(descent->at, &info) < 0)
        return tree_fail(tree, "remove what it replaces");
    next = openat(descent->at, name, FOLDER | O_NOFOLLOW);
    if (next < 0)
        return tree_fail(tree, "remove what it replaces");
    descent->above[descent->depth++] = info.st_ino;
    close(descent->at);
    descent->at = next;
    return 0;
}

static int ascend(struct tree *tree, struct descent *descent)
{
    struct stat info;
    int next = openat(descent->at, "..", FOLDER);

    if (next < 0 || fstat(next, &info) < 0) {
        tree_fail(tree, "remove what it replaces");
        if (next >= 0)
            close(next);
        return -1;
    }
    close(descent->at);
    descent->at = next;
    if (info.st_ino != descent->above[--descent->depth])
        return tree_refuse(tree, "somebody else changes what it replaces");
    return 0;
}

/* 0: gone; 1: it is a folder with something in it. */
static int remove_one(int folder, const char *name)
{
    if (unlinkat(folder, name, 0) == 0)
        return 0;
    if (errno != EISDIR && errno != EPERM)
        return -1;
    if (unlinkat(folder, name, AT_REMOVEDIR) == 0)
        return 0;
    return errno == ENOTEMPTY || errno == EEXIST ? 1 : -1;
}

/* Removes what is in the folder until something cannot go yet, which is entered. 0: it is empty. */
static int empty(struct tree *tree, struct descent *descent)
{
    char buffer[8192] __attribute__((aligned(8)));
    ssize_t size;

    if (lseek(descent->at, 0, SEEK_SET) < 0)
        return tree_fail(tree, "remove what it replaces");
    while ((size = getdents64(descent->at, buffer, sizeof(buffer))) > 0) {
        for (ssize_t at = 0; at < size;) {
            struct dirent64 *entry = (struct dirent64 *)(buffer + at);
            int result;

            at += entry->d_reclen;
            if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
                continue;
            result = remove_one(descent->at, entry->d_name);
            if (result < 0)
                return tree_fail(tree, "remove what it replaces");
            if (result)
                return descend(tree, descent, entry->d_name) < 0 ? -1 : 1;
        }
    }
    return size < 0 ? tree_fail(tree, "remove what it replaces") : 0;
}

static int remove_folder(struct tree *tree, const char *name)
{
    struct descent descent = {.at = fcntl(tree->fd, F_DUPFD_CLOEXEC, 0)};
    int result;

    if (descent.at < 0)
        return tree_fail(tree, "remove what it replaces");
    result = descend(tree, &descent, name);
    while (result == 0 && descent.depth) {
        do
            result = empty(tree, &descent);
        while (result > 0);
        if (result == 0)
            result = ascend(tree, &descent);
        /* What was emptied goes when its folder is read again; the last one here. */
        if (result == 0 && !descent.depth && unlinkat(tree->fd, name, AT_REMOVEDIR) < 0)
            result = tree_fail(tree, "remove what it replaces");
    }
    close(descent.at);
    return result;
}

/* Whether what stands there says that the layers below have nothing of that name. 1, 0, or -1. */
static int hides(struct tree *tree, const char *name)
{
    struct stat info;
    int fd, result;

    if (fstatat(tree->fd, name, &info, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT ? 0 : tree_fail(tree, "look at what it replaces");
    if (!S_ISDIR(info.st_mode))
        return tree_is_whiteout(&info);
    fd = openat(tree->fd, name, FOLDER | O_NOFOLLOW);
    if (fd < 0)
        return tree_fail(tree, "look at what it replaces");
    result = fgetxattr(fd, tree->opaque, NULL, 0) > 0;
    close(fd);
    return result;
}

static int hide(struct tree *tree, const char *path)
{
    int result, fd = open_below(tree->root, path, FOLDER, PLAIN);

    if (fd < 0)
        return errno == ENOENT || errno == ENOTDIR || errno == ELOOP
                   ? 0
                   : tree_fail(tree, "open what a whiteout hides");
    result = tree_note(tree, NOTE_LISTED, path, NULL);
    if (result == 0)
        result = tree_set_opaque(tree, fd);
    close(fd);
    return result;
}

int tree_hide(struct tree *tree)
{
    char path[PATH_MAX];
    size_t end = tree->notes_size;

    begin_at_root(tree);
    for (size_t at = 0; at < end;) {
        char kind = tree->notes[at++];
        size_t size = strlen(tree->notes + at) + 1;

        if (kind == NOTE_HIDDEN) {
            if (size > sizeof(path))
                return tree_refuse(tree, "its path is too long");
            memcpy(path, tree->notes + at, size);  /* a note that is added may move them */
            if (hide(tree, path) < 0)
                return -1;
        }
        at += size;
        if (kind == NOTE_LINK)
            at += strlen(tree->notes + at) + 1;
    }
    return 0;
}

int tree_clear(struct tree *tree, const char *name)
{
    int result = hides(tree, name);

    if (result < 0 || (result > 0 && tree_note(tree, NOTE_HIDDEN, name, NULL) < 0))
        return -1;
    result = remove_one(tree->fd, name);
    if (result < 0 && errno == ENOENT)
        return 0;
    /* The path by which this folder was entered may have led through it. */
    tree->asked_holds = 0;
    tree->changed = 1;
    if (result > 0)
        return remove_folder(tree, name);
    return result < 0 ? tree_fail(tree, "remove what it replaces") : 0;
}
