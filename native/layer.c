/* See layer.h. */
#include "layer.h"
#include "acl.h"
#include "tar.h"
#include "tree.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#define WHITEOUT ".wh."
#define AUFS ".wh..wh."         /* aufs's own files, of which only this one means something: */
#define OPAQUE ".wh..wh..opq"
#define AUFS_LINKS ".wh..wh.plnk"  /* and this folder, which hard links of old images lead to */
#define ACCESS "system.posix_acl_access"
#define DEFAULT "system.posix_acl_default"

struct layer {
    struct tree tree;
    struct tar *tar;
    int rootless;
    uint64_t entries;
    uint64_t max_entries;
    uint64_t size;
    uint64_t max_size;
    int opaque;
    int root_listed;
    int file;               /* what the present entry's data is written to, or -1 */
    uint32_t fragment;      /* of a sparse file, the one that is being written */
    uint64_t fragment_done;
    char path[PATH_MAX];    /* of the present entry: its folder, a NUL, its name */
    const char *name;       /* "" is the root */
    char target[PATH_MAX];  /* of a hard link, in the same way */
    const char *target_name;
    char from[PATH_MAX];    /* what the target's path was */
};

static int fail(struct layer *layer, const char *step) { return tree_fail(&layer->tree, step); }
static int refuse(struct layer *layer, const char *why) { return tree_refuse(&layer->tree, why); }

static int starts(const char *text, const char *with) { return !strncmp(text, with, strlen(with)); }

/* ---- names ---- */

/* `name` without what does not count: leading and double slashes, "." components. */
static int clean(struct layer *layer, const char *name, char path[PATH_MAX])
{
    size_t length = 0;

    if (!*name)
        return refuse(layer, "it has an empty name");
    while (*name) {
        size_t skip = strspn(name, "/"), size = strcspn(name + skip, "/");

        name += skip;
        if (size == 2 && name[0] == '.' && name[1] == '.')
            return refuse(layer, "a path has \"..\"");
        if (size && !(size == 1 && name[0] == '.')) {
            if (length + 1 + size >= PATH_MAX)
                return refuse(layer, "its path is too long");
            if (length)
                path[length++] = '/';
            memcpy(path + length, name, size);
            length += size;
        }
        name += size;
    }
    path[length] = 0;
    return 0;
}

/* Ends the folder's part of a clean path, and returns the name. */
static char *divide(char *path)
{
    char *slash = strrchr(path, '/');

    if (slash) {
        *slash = 0;
        return slash + 1;
    }
    /* Without a folder the name moves up by one, so that "" is before it. */
    memmove(path + 1, path, strlen(path) + 1);
    *path = 0;
    return path + 1;
}

/* ---- metadata ---- */

/* What a layer may say. The rest is a policy of the machine where it was built, overlayfs's own
 * marks, or cannot be on Linux. */
static int is_wanted(const struct layer *layer, const char *name, char kind)
{
    int holds_data = kind == '0' || kind == '5';

    if (starts(name, "user."))
        return holds_data && !starts(name, "user.overlay.");  /* xattr(7): on no other kind */
    if (starts(name, "trusted."))
        return !layer->rootless && !starts(name, "trusted.overlay.");
    if (!strcmp(name, "security.capability"))
        return 1;
    if (starts(name, "security."))
        return !layer->rootless && strcmp(name, "security.selinux") &&
               strcmp(name, "security.evm") && !starts(name, "security.SMACK64");
    return (!strcmp(name, ACCESS) && kind != '2') || (!strcmp(name, DEFAULT) && kind == '5');
}

/* Where the entry is: a descriptor, or -1 and a path where opening it would do something. */
struct place {
    int fd;
    char path[64 + NAME_MAX];
};

/* There are no calls for attributes with a folder and a name before Linux 6.13. */
static void place_by_name(struct place *place, int folder, const char *name)
{
    place->fd = -1;
    snprintf(place->path, sizeof(place->path), "/proc/self/fd/%d/%s", folder, name);
}

static int set_xattr(struct layer *layer, const struct place *place, const char *name,
                     const void *value, size_t size)
{
    int result = place->fd >= 0 ? fsetxattr(place->fd, name, value, size, 0)
                                : lsetxattr(place->path, name, value, size, 0);

    if (result == 0 && !strcmp(name, DEFAULT))
        layer->tree.default_acls = layer->tree.gives_acl = 1;
    return result < 0 ? fail(layer, "set an extended attribute") : 0;
}

static int set_acl(struct layer *layer, const struct place *place, const char *name,
                   const char *text)
{
    unsigned char value[ACL_MAX_SIZE];
    int size = acl_encode(text, value);

    if (size < 0)
        return refuse(layer, "its ACL is malformed");
    return size ? set_xattr(layer, place, name, value, (size_t)size) : 0;
}

static int set_xattrs(struct layer *layer, const struct tar_entry *entry,
                      const struct place *place)
{
    for (uint32_t i = 0; i < entry->xattr_count; i++) {
        const struct tar_xattr *xattr = &entry->xattrs[i];

        if (is_wanted(layer, xattr->name, entry->kind) &&
            set_xattr(layer, place, xattr->name, xattr->value, xattr->size) < 0)
            return -1;
    }
    if (entry->acl_access && entry->kind != '2' &&
        set_acl(layer, place, ACCESS, entry->acl_access) < 0)
        return -1;
    if (entry->acl_default && entry->kind == '5')
        return set_acl(layer, place, DEFAULT, entry->acl_default);
    return 0;
}

/* chown(2) drops set-id bits and capabilities, chmod(2) changes an ACL: so this order. */
static int dress(struct layer *layer, const struct tar_entry *entry, int fd, int inherits)
{
    const struct place place = {.fd = fd};

    if (fchown(fd, entry->uid, entry->gid) < 0)
        return fail(layer, "set the owner");
    if (inherits && tree_drop_given_acls(&layer->tree, fd, entry->kind == '5') < 0)
        return -1;
    if (fchmod(fd, entry->mode) < 0)
        return fail(layer, "set the mode");
    return set_xattrs(layer, entry, &place);
}

/* The same for what is not opened. */
static int dress_name(struct layer *layer, const struct tar_entry *entry)
{
    const struct timespec times[2] = {entry->mtime, entry->mtime};
    int folder = layer->tree.fd;
    struct place place;

    place_by_name(&place, folder, layer->name);
    if (fchownat(folder, layer->name, entry->uid, entry->gid, AT_SYMLINK_NOFOLLOW) < 0)
        return fail(layer, "set the owner");
    if (layer->tree.gives_acl && entry->kind != '2' && lremovexattr(place.path, ACCESS) < 0 &&
        errno != ENODATA)
        return fail(layer, "drop the ACL of the folder above");
    /* Not a link, and nobody else changes the tree: it follows none. */
    if (entry->kind != '2' && fchmodat(folder, layer->name, entry->mode, 0) < 0)
        return fail(layer, "set the mode");
    if (set_xattrs(layer, entry, &place) < 0)
        return -1;
    if (utimensat(folder, layer->name, times, AT_SYMLINK_NOFOLLOW) < 0)
        return fail(layer, "set the time");
    return 0;
}

/* ---- what entries become ---- */

static int make_folder(struct layer *layer, const struct tar_entry *entry)
{
    struct tree *tree = &layer->tree;
    int inherits = tree->gives_acl;

    if (*layer->name) {
        if (tree_enter_new(tree, layer->name) < 0)
            return -1;
    } else {
        layer->root_listed = 1;
        inherits = 0;
    }
    tree->mtime = entry->mtime;
    tree->changed = 1;
    return dress(layer, entry, tree->fd, inherits);
}

static int begin_file(struct layer *layer, const struct tar_entry *entry)
{
    const int flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
    struct tree *tree = &layer->tree;

    if (entry->stored > layer->max_size - layer->size)
        return refuse(layer, "the layer's files are larger than is allowed");
    layer->size += entry->stored;
    tree->changed = 1;
    layer->file = openat(tree->fd, layer->name, flags, 0600);
    if (layer->file < 0 && errno == EEXIST) {
        if (tree_clear(tree, layer->name) < 0)
            return -1;
        layer->file = openat(tree->fd, layer->name, flags, 0600);
    }
    layer->fragment = 0;
    layer->fragment_done = 0;
    return layer->file < 0 ? fail(layer, "make the file") : 0;
}

static int make_symlink(struct layer *layer, const struct tar_entry *entry)
{
    struct tree *tree = &layer->tree;

    if (!*entry->target)
        return refuse(layer, "it is a link to nothing");
    tree->changed = 1;
    if (symlinkat(entry->target, tree->fd, layer->name) < 0) {
        if (errno != EEXIST)
            return fail(layer, "make the link");
        if (tree_clear(tree, layer->name) < 0)
            return -1;
        if (symlinkat(entry->target, tree->fd, layer->name) < 0)
            return fail(layer, "make the link");
    }
    return dress_name(layer, entry);
}

/* Devices that a user namespace may not make are left out, as docker and podman do. A character
 * device 0:0 is a whiteout, which it may. */
static int is_impossible(const struct layer *layer, const struct tar_entry *entry)
{
    if (!layer->rootless || entry->kind == '6')
        return 0;
    return entry->kind == '4' || entry->major || entry->minor;
}

static int make_node(struct layer *layer, const struct tar_entry *entry)
{
    struct tree *tree = &layer->tree;
    mode_t type = entry->kind == '3' ? S_IFCHR : entry->kind == '4' ? S_IFBLK : S_IFIFO;
    dev_t device = entry->kind == '6' ? 0 : makedev(entry->major, entry->minor);

    if (is_impossible(layer, entry)) {
        if (tree_clear(tree, layer->name) < 0)
            return -1;
        return tree_note(tree, NOTE_LEFT_OUT, layer->name, NULL);
    }
    tree->changed = 1;
    if (mknodat(tree->fd, layer->name, type | 0600, device) < 0) {
        if (errno != EEXIST)
            return fail(layer, "make the node");
        if (tree_clear(tree, layer->name) < 0)
            return -1;
        if (mknodat(tree->fd, layer->name, type | 0600, device) < 0)
            return fail(layer, "make the node");
    }
    return dress_name(layer, entry);
}

/* Whether the link's target is in this layer; `folder` is the target's. 1, 0, or -1. */
static int has_target(struct layer *layer, int folder)
{
    struct stat info, here, there;

    if (fstatat(folder, layer->target_name, &info, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT ? 0 : fail(layer, "look at the link's target");
    if (tree_is_whiteout(&info))
        return 0;
    if (S_ISDIR(info.st_mode))
        return refuse(layer, "it is a hard link to a folder");
    if (fstat(folder, &there) < 0 || fstat(layer->tree.fd, &here) < 0)
        return fail(layer, "look at the link's target");
    if (here.st_ino == there.st_ino && !strcmp(layer->name, layer->target_name))
        return refuse(layer, "it is a hard link to itself");
    return 1;
}

/* Both refer to the same inode, so what the entry says of owner, mode and times is not looked at. */
static int link_to(struct layer *layer, int folder)
{
    struct tree *tree = &layer->tree;
    int result = folder < 0 ? 0 : has_target(layer, folder);

    tree->changed = 1;
    if (result > 0 && linkat(folder, layer->target_name, tree->fd, layer->name, 0) == 0)
        return 0;
    if (result > 0 && errno != EEXIST)
        return fail(layer, "make the hard link");
    if (result < 0 || tree_clear(tree, layer->name) < 0)
        return -1;
    if (result == 0)
        return tree_note(tree, NOTE_LINK, layer->name, layer->from);
    if (linkat(folder, layer->target_name, tree->fd, layer->name, 0) == 0)
        return 0;
    if (errno == ENOENT)
        return refuse(layer, "it is a hard link to what it replaces");
    return fail(layer, "make the hard link");
}

static int make_hard_link(struct layer *layer, const struct tar_entry *entry)
{
    int result, folder;

    if (clean(layer, entry->target, layer->from) < 0)
        return -1;
    if (!*layer->from)
        return refuse(layer, "it is a hard link to a folder");
    strcpy(layer->target, layer->from);
    layer->target_name = divide(layer->target);
    folder = tree_find(&layer->tree, layer->target);
    if (folder < 0 && errno != ENOENT)
        return fail(layer, "open the folder of the link's target");
    result = link_to(layer, folder);
    if (folder >= 0)
        close(folder);
    return result;
}

/* ---- whiteouts ---- */

/* It says that the layers below have `name` no more. What this layer has there stays, whether it
 * comes before or after. */
static int make_whiteout(struct layer *layer, const char *name)
{
    struct tree *tree = &layer->tree;
    struct stat info;
    int fd, result;

    if (!*name || !strcmp(name, ".") || !strcmp(name, ".."))
        return refuse(layer, "it is a whiteout of no name");
    if (fstatat(tree->fd, name, &info, AT_SYMLINK_NOFOLLOW) < 0) {
        if (errno != ENOENT)
            return fail(layer, "look at what it removes");
        tree->changed = 1;
        if (mknodat(tree->fd, name, S_IFCHR, makedev(0, 0)) < 0)
            return fail(layer, "make the whiteout");
        return 0;
    }
    if (!S_ISDIR(info.st_mode))
        /* A folder that takes its place later does not show what is below either. */
        return tree_is_whiteout(&info) ? 0 : tree_note(tree, NOTE_HIDDEN, name, NULL);
    if (tree->notes_size && tree_note(tree, NOTE_LISTED, name, NULL) < 0)
        return -1;
    fd = openat(tree->fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return fail(layer, "open what it removes");
    result = tree_set_opaque(tree, fd);
    close(fd);
    return result;
}

static int make_opaque(struct layer *layer)
{
    if (*layer->tree.path)
        return tree_set_opaque(&layer->tree, layer->tree.fd);
    layer->opaque = 1;  /* overlayfs does not look at a layer's own folder */
    return 0;
}

/* ---- entries ---- */

/* aufs's own. Its folder of links is unpacked, since links lead there, and removed at the end. */
static int is_aufs(const struct layer *layer)
{
    const char *first = *layer->path ? layer->path : layer->name;
    size_t size = strcspn(first, "/");

    if (!strcmp(layer->name, OPAQUE))
        return 0;
    if (size == strlen(AUFS_LINKS) && starts(first, AUFS_LINKS) && *layer->path)
        return 0;
    return starts(first, AUFS) || starts(layer->name, AUFS);
}

static int begin_special(struct layer *layer)
{
    if (!strcmp(layer->name, OPAQUE))
        return make_opaque(layer);
    return make_whiteout(layer, layer->name + strlen(WHITEOUT));
}

static int begin_kind(struct layer *layer, const struct tar_entry *entry)
{
    switch (entry->kind) {
    case '0':
        return begin_file(layer, entry);
    case '1':
        return make_hard_link(layer, entry);
    case '2':
        return make_symlink(layer, entry);
    case '5':
        return make_folder(layer, entry);
    default:
        return make_node(layer, entry);
    }
}

static int on_entry(void *owner, const struct tar_entry *entry)
{
    struct layer *layer = owner;

    layer->file = -1;
    if (layer->entries == layer->max_entries)
        return refuse(layer, "the layer has more entries than are allowed");
    layer->entries++;
    if (clean(layer, entry->name, layer->path) < 0)
        return -1;
    layer->name = divide(layer->path);
    if (!*layer->name && entry->kind != '5')
        return refuse(layer, "the root is a folder");
    if (is_aufs(layer))
        return 0;
    if (tree_enter(&layer->tree, layer->path) < 0)
        return -1;
    return starts(layer->name, WHITEOUT) ? begin_special(layer) : begin_kind(layer, entry);
}

static int write_all(struct layer *layer, const char *data, size_t size)
{
    while (size) {
        ssize_t done = write(layer->file, data, size);

        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0)
            return fail(layer, "write the file");
        data += done;
        size -= (size_t)done;
    }
    return 0;
}

/* The next bytes of a sparse file: each fragment's at its place. */
static int write_fragments(struct layer *layer, const struct tar_entry *entry, const char *data,
                           size_t size)
{
    while (size) {
        const struct tar_fragment *fragment = &entry->fragments[layer->fragment];
        uint64_t left = fragment->size - layer->fragment_done;
        size_t part = left < size ? (size_t)left : size;

        if (!left) {
            layer->fragment++;
            layer->fragment_done = 0;
            continue;
        }
        if (!layer->fragment_done && lseek(layer->file, (off_t)fragment->offset, SEEK_SET) < 0)
            return fail(layer, "write the file");
        if (write_all(layer, data, part) < 0)
            return -1;
        layer->fragment_done += part;
        data += part;
        size -= part;
    }
    return 0;
}

static int on_data(void *owner, const struct tar_entry *entry, const char *data, size_t size)
{
    struct layer *layer = owner;

    if (layer->file < 0)
        return 0;
    return entry->fragments ? write_fragments(layer, entry, data, size)
                            : write_all(layer, data, size);
}

static int end_file(struct layer *layer, const struct tar_entry *entry)
{
    const struct timespec times[2] = {entry->mtime, entry->mtime};

    if (entry->fragments && ftruncate(layer->file, (off_t)entry->size) < 0)
        return fail(layer, "write the file");
    if (dress(layer, entry, layer->file, layer->tree.gives_acl) < 0)
        return -1;
    if (futimens(layer->file, times) < 0)
        return fail(layer, "set the time");
    return 0;
}

static int on_end(void *owner, const struct tar_entry *entry)
{
    struct layer *layer = owner;
    int result;

    if (layer->file < 0)
        return 0;
    result = end_file(layer, entry);
    if (close(layer->file) < 0 && result == 0)
        result = fail(layer, "write the file");
    layer->file = -1;
    return result;
}

/* ---- the whole ---- */

struct layer *layer_new(int root, int rootless, uint64_t entries, uint64_t bytes)
{
    struct layer *layer = calloc(1, sizeof(*layer));
    const struct tar_sink sink = {on_entry, on_data, on_end, layer};

    if (!layer)
        return NULL;
    tree_init(&layer->tree, root, rootless);
    layer->rootless = rootless;
    layer->max_entries = entries;
    layer->max_size = bytes;
    layer->file = -1;
    layer->tar = tar_new(&sink);
    if (!layer->tar) {
        layer_free(layer);
        return NULL;
    }
    return layer;
}

void layer_free(struct layer *layer)
{
    if (!layer)
        return;
    if (layer->file >= 0)
        close(layer->file);
    tar_free(layer->tar);
    tree_free(&layer->tree);
    free(layer);
}

int layer_feed(struct layer *layer, const char *data, size_t size)
{
    return tar_feed(layer->tar, data, size);
}

int layer_finish(struct layer *layer)
{
    struct tree *tree = &layer->tree;

    if (tar_finish(layer->tar) < 0)
        return -1;
    if (tree_has_folder(tree, AUFS_LINKS) &&
        (tree_enter(tree, "") < 0 || tree_clear(tree, AUFS_LINKS) < 0))
        return -1;
    if (tree_leave(tree) < 0)
        return -1;
    return tree_hide(tree);
}

const char *layer_where(const struct layer *layer) { return tar_where(layer->tar); }

const char *layer_why(const struct layer *layer)
{
    const char *why = tar_why(layer->tar);

    return why ? why : layer->tree.why ? layer->tree.why : "";
}

int layer_error(const struct layer *layer) { return tar_why(layer->tar) ? 0 : layer->tree.error; }
uint64_t layer_entries(const struct layer *layer) { return layer->entries; }
uint64_t layer_size(const struct layer *layer) { return layer->size; }
int layer_is_opaque(const struct layer *layer) { return layer->opaque; }
int layer_has_root(const struct layer *layer) { return layer->root_listed; }

int layer_has_folder(const struct layer *layer, const char *path)
{
    return tree_has_folder(&layer->tree, path);
}

const char *layer_notes(const struct layer *layer, size_t *size)
{
    *size = layer->tree.notes_size;
    return layer->tree.notes;
}
