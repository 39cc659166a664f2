/* The folder that a layer is unpacked into: entering its folders, whatever links stand on the way,
 * and removing from it.
 *
 * One folder is entered at a time. Every change is made in it by a name without a slash, and its
 * time is put right when it is left, so no list of folders is kept. Nobody else may change the tree
 * meanwhile. */
#ifndef PYCONTAIN_TREE_H
#define PYCONTAIN_TREE_H

#include <limits.h>
#include <stddef.h>
#include <sys/stat.h>
#include <time.h>

#define TREE_DEPTH 500             /* of folders; what walks a tree may then hold each one open */
#define TREE_MAX_NOTES (64u << 20)

/* What the caller has to deal with later: records of a letter and NUL-terminated strings. */
enum note {
    NOTE_IMPLICIT = '+',  /* PATH: a folder was made that no entry had listed */
    NOTE_LISTED = '-',    /* PATH: an entry listed a folder that was there, or says that it has
                             nothing to do with what is below */
    NOTE_LINK = 'L',      /* PATH, TARGET: a hard link to what is not in this layer */
    NOTE_LEFT_OUT = 'D',  /* PATH: a device that a user namespace cannot have */
    NOTE_HIDDEN = 'W',    /* PATH: a whiteout was here, and what stands here now does not tell */
};

struct tree {
    int root;
    const char *opaque;      /* the attribute of a folder that hides what is below it */
    int fd;                  /* the folder that is entered, or -1 */
    char path[PATH_MAX];     /* its path, on which there are no links; "" is the root */
    char asked[PATH_MAX];    /* the path that it was entered by */
    int asked_holds;         /* that path still leads there */
    int depth;
    int default_acls;        /* some folder gives an ACL to what is made in it */
    int gives_acl;           /* the one that is entered does */
    struct timespec mtime;   /* what it is to have */
    int changed;
    char *notes;
    size_t notes_size;
    size_t notes_room;
    const char *why;         /* of the last failure */
    int error;               /* errno, or 0 */
};

/* `root` stays the caller's. All others return -1 on failure. */
void tree_init(struct tree *tree, int root, int rootless);
void tree_free(struct tree *tree);

/* `path` has no empty, "." and ".." components. Links on it are followed as if the root were "/";
 * what is missing is made. */
int tree_enter(struct tree *tree, const char *path);
int tree_leave(struct tree *tree);
/* Make a folder, or take the one that is there, and enter it. */
int tree_enter_new(struct tree *tree, const char *name);
/* A folder on the way to something else, without making any: a descriptor, or -1 with ENOENT where
 * there is none. */
int tree_find(struct tree *tree, const char *path);
/* Whether there is a folder at `path`, without links on it. */
int tree_has_folder(const struct tree *tree, const char *path);

/* Remove whatever `name` is in the folder that is entered. */
int tree_clear(struct tree *tree, const char *name);
int tree_set_opaque(struct tree *tree, int fd);
/* At the end: what a NOTE_HIDDEN tells of and is a folder by now becomes opaque. No folder is
 * entered then. */
int tree_hide(struct tree *tree);
int tree_is_whiteout(const struct stat *info);
/* Of something new in a folder that gives an ACL to what is made in it. */
int tree_drop_given_acls(struct tree *tree, int fd, int folder);

/* `name` in the folder that is entered, "" is the folder itself; `target` may be NULL. */
int tree_note(struct tree *tree, enum note kind, const char *name, const char *target);

int tree_fail(struct tree *tree, const char *step);
int tree_refuse(struct tree *tree, const char *why);

#endif
