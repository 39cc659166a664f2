/* Mounts that only mount(2) can make, made where nobody sees them. */
#ifndef PYCONTAIN_APART_H
#define PYCONTAIN_APART_H

/* Where mount_apart failed, below 0; from 0 on it is the folder of that index. */
enum {
    APART_START = -1,       /* no process, or it was killed */
    APART_NAMESPACE = -2,   /* no mount namespace of its own, or no /proc; or not the one to enter */
    APART_MOUNT = -3,       /* mount(2) or open_tree(2) refused */
};

/* Return a detached mount of a new file system of `type`, or -1 with errno and *at. In `options`
 * (mount(2)'s last argument, less than a page) the relative name "1" is the first of `folders`,
 * "2" the second, and so on. It is made in a process with a mount namespace of its own: neither
 * the caller's namespace nor its working folder nor its descriptors are touched. */
int mount_apart(const char *type, const char *options, char *const *folders, int count, int *at);

/* Return a detached copy of the folder `path` of a mount namespace, with the mounts below it, or -1
 * with errno and *at. A process that enters the namespace makes it: mounts of another one than the
 * caller's are not copied (open_tree(2)). No link in `path` is followed. */
int tree_apart(int namespace, const char *path, int *at);

#endif
