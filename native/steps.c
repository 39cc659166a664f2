/* The container's side of the executor: what the clone does to itself before it becomes the
 * container's program.
 *
 * Nothing here allocates, and until the last step nothing of the container has run. Paths are
 * resolved below the new root by the kernel (RESOLVE_IN_ROOT), and mounts are attached to
 * descriptors, so a path that changes meanwhile (a shared volume) cannot lead out. */
#include "clone.h"
#include "netlink.h"
#include "sys.h"

#include <errno.h>
#include <limits.h>
#include <linux/magic.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <termios.h>

void subject(struct clone *c, const char *text)
{
    snprintf(c->report.failure.subject, sizeof(c->report.failure.subject), "%s", text);
}

static int in_root_by(struct clone *c, const char *path, uint64_t flags, uint64_t rules)
{
    struct open_how how = {.flags = flags | O_CLOEXEC,
                           .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | rules};
    int fd, tries = 0;

    /* EAGAIN: something was renamed meanwhile and the kernel cannot rule out an escape. */
    do
        fd = sys_openat2(c->root, path, &how);
    while (fd < 0 && errno == EAGAIN && tries++ < 64);
    return fd;
}

int in_root(struct clone *c, const char *path, uint64_t flags)
{
    return in_root_by(c, path, flags, 0);
}

#define LINK_TO_NOTHING (-2)
#define MAX_LINKS 40        /* as the kernel's own, path_resolution(7) */

/* Replace the link that ends at `end` in `path` by what it says; the part before it is kept where
 * that is relative. */
static int expand_link(int parent, char *path, size_t end, const char *name)
{
    char link[PATH_MAX], expanded[PATH_MAX];
    ssize_t length = readlinkat(parent, name, link, sizeof(link));
    size_t before = end - strlen(name);
    int size;

    if (length < 0)
        return -1;
    size = snprintf(expanded, sizeof(expanded), "%.*s%.*s%s", link[0] == '/' ? 0 : (int)before,
                    path, (int)length, link, path + end);
    if (size < 0 || (size_t)size >= sizeof(expanded)) {
        errno = ENAMETOOLONG;
        return -1;
    }
    memcpy(path, expanded, (size_t)size + 1);
    return LINK_TO_NOTHING;
}

/* Make what is missing at the first `end` bytes of `path`, whose folder is there. */
static int make_part(struct clone *c, char *path, size_t end, int folder, mode_t mode)
{
    char part[PATH_MAX];
    char *name;
    int parent, made, saved;
    int fd;

    memcpy(part, path, end);
    part[end] = 0;
    fd = in_root(c, part, O_PATH);
    if (fd >= 0)
        return close(fd);
    if (errno != ENOENT)
        return -1;
    name = strrchr(part, '/');
    if (!name || !name[1])
        return 0;
    *name++ = 0;
    parent = in_root(c, part[0] ? part : "/", O_PATH | O_DIRECTORY);
    if (parent < 0)
        return -1;
    made = folder ? mkdirat(parent, name, mode) : mknodat(parent, name, S_IFREG | mode, 0);
    /* There, and yet it was not found: a link that leads to nothing. */
    if (made < 0 && errno == EEXIST)
        made = expand_link(parent, path, end, name);
    saved = errno;
    close(parent);
    errno = saved;
    return made;
}

static int make_parts(struct clone *c, char *path, int folder, mode_t mode)
{
    for (size_t end = 1, size = strlen(path); end <= size; end++) {
        int last = end == size, made;

        if (!last && path[end] != '/')
            continue;
        made = make_part(c, path, end, !last || folder, last ? mode : 0755);
        if (made < 0)
            return made;
    }
    return 0;
}

/* Open `wanted` below the root, making missing folders (and the last part, a folder or a file). */
static int make_path(struct clone *c, const char *wanted, int folder, mode_t mode)
{
    char path[PATH_MAX];
    size_t size = strlen(wanted);
    int fd = in_root(c, wanted, O_PATH), made;

    if (fd >= 0 || errno != ENOENT)
        return fd;
    if (size >= sizeof(path)) {
        errno = ENAMETOOLONG;
        return -1;
    }
    memcpy(path, wanted, size + 1);
    for (int links = 0; (made = make_parts(c, path, folder, mode)) < 0; links++) {
        if (made != LINK_TO_NOTHING)
            return -1;
        if (links == MAX_LINKS) {
            errno = ELOOP;
            return -1;
        }
    }
    return in_root(c, path, O_PATH);
}

static int attach(int mount, int target)
{
    return sys_move_mount(mount, "", target, "",
                          MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
}

/* The same, and done with both: a container may have more mounts than a process may have files. */
static int attach_and_close(int mount, int target)
{
    if (attach(mount, target) < 0)
        return -1;
    close(mount);
    close(target);
    return 0;
}

static int change(int mount, uint64_t set, uint64_t clear, uint64_t propagation, int recursive)
{
    struct mount_attr attr = {.attr_set = set, .attr_clr = clear, .propagation = propagation};

    if (!set && !clear && !propagation)
        return 0;
    return sys_mount_setattr(mount, "", AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0), &attr);
}

/* MS_PRIVATE … as mount(2) has them, with MS_REC for the mounts below too. */
static int propagate(int mount, uint64_t flags)
{
    return change(mount, 0, 0, flags & ~(uint64_t)MS_REC, (flags & MS_REC) != 0);
}

/* Give a file system the options in a step's list. */
static int configure(int fs, const struct step *step, int options)
{
    for (const char *at = NULL; (at = list_next(step, options, at));) {
        char key[64];
        const char *value = strchr(at, '=');
        size_t length = value ? (size_t)(value - at) : strlen(at);

        if (length >= sizeof(key)) {
            errno = EINVAL;
            return -1;
        }
        memcpy(key, at, length);
        key[length] = 0;
        if (sys_fsconfig(fs, value ? FSCONFIG_SET_STRING : FSCONFIG_SET_FLAG, key,
                         value ? value + 1 : NULL, 0) < 0)
            return -1;
    }
    return 0;
}

/* A new file system, not attached anywhere. */
static int new_mount(const char *type, const char *source, uint64_t attributes,
                     const struct step *step, int options, const char *mode)
{
    int fs = sys_fsopen(type, FSOPEN_CLOEXEC), mount, saved;

    if (fs < 0)
        return -1;
    if (source && *source && sys_fsconfig(fs, FSCONFIG_SET_STRING, "source", source, 0) < 0)
        goto bad;
    if (mode && sys_fsconfig(fs, FSCONFIG_SET_STRING, "mode", mode, 0) < 0)
        goto bad;
    if (step && configure(fs, step, options) < 0)
        goto bad;
    if (sys_fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
        goto bad;
    mount = sys_fsmount(fs, FSMOUNT_CLOEXEC, (unsigned)attributes);
    saved = errno;
    close(fs);
    errno = saved;
    return mount;
bad:
    saved = errno;
    close(fs);
    errno = saved;
    return -1;
}

/* The host's /proc, still in reach before the pivot: what is below sys shows the namespaces of
 * whoever reads or writes, and a new proc may not be mounted in the host's pid namespace. */
int open_proc(struct clone *c)
{
    struct statfs info;

    c->proc = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (c->proc < 0 || fstatfs(c->proc, &info) < 0)
        return -1;
    if (info.f_type == PROC_SUPER_MAGIC)
        return 0;
    errno = ENODEV;
    return -1;
}

static int step_root(struct clone *c, const struct step *step)
{
    /* As long as the host's can be reached. */
    if (c->proc < 0 && open_proc(c) < 0)
        return -1;
    c->root = arg_fd(step, 0);
    if (change(c->root, 0, 0, arg_number(step, 2), 1) < 0)
        return -1;
    return sys_move_mount(c->root, "", AT_FDCWD, arg_text(step, 1), MOVE_MOUNT_F_EMPTY_PATH);
}

/* What may lie over single files of a proc file system: what tells of the machine, not of
 * processes. */
static const char *const proc_files[] = {
    "cpuinfo", "diskstats", "meminfo", "stat", "swaps", "uptime", "loadavg", "slabinfo",
    "net/dev", "sys/kernel/ns_last_pid", "sys/crypto/fips_enabled", "sys/kernel/hostname",
};

/* A program that reads /proc/self, or a later step of ours, must find the kernel's: nothing else
 * may be mounted there, whatever links lead to it. */
static int check_proc(int target, const char *path)
{
    struct statfs info;

    if (fstatfs(target, &info) < 0)
        return -1;
    if (info.f_type != PROC_SUPER_MAGIC)
        return 0;
    for (size_t i = 0; i < sizeof(proc_files) / sizeof(*proc_files); i++)
        if (!strncmp(path, "/proc/", 6) && !strcmp(path + 6, proc_files[i]))
            return 0;
    errno = EPERM;
    return -1;
}

static int step_mount(struct clone *c, const struct step *step)
{
    char mode[8], *inherited = NULL;
    const char *type = arg_text(step, 0);
    struct stat info;
    int mount, target;

    /* An image whose /proc or /sys is a link would choose where they are. */
    if (!strcmp(type, "proc") || !strcmp(type, "sysfs"))
        target = in_root_by(c, arg_text(step, 2), O_PATH, RESOLVE_NO_SYMLINKS);
    else
        target = in_root(c, arg_text(step, 2), O_PATH);
    if (target < 0 && errno == ELOOP)
        return -1;
    if (target >= 0 && strcmp(type, "proc") && check_proc(target, arg_text(step, 2)) < 0)
        return -1;

    if (target >= 0 && !strcmp(arg_text(step, 0), "tmpfs") && fstat(target, &info) == 0) {
        /* A tmpfs over a folder of the image has that folder's mode; options given come later
         * and win. */
        snprintf(mode, sizeof(mode), "%o", info.st_mode & 07777);
        inherited = mode;
    } else if (target < 0) {
        target = make_path(c, arg_text(step, 2), 1, 0755);
    }
    if (target < 0)
        return -1;
    mount = new_mount(arg_text(step, 0), arg_text(step, 1), arg_number(step, 3), step, 4,
                      inherited);
    if (mount < 0 || propagate(mount, arg_number(step, 5)) < 0)
        return -1;
    return attach_and_close(mount, target);
}

static int step_bind(struct clone *c, const struct step *step)
{
    int mount = arg_fd(step, 0), target;
    struct stat info, place;

    if (fstat(mount, &info) < 0)
        return -1;
    /* A copy of a mount is its peer, and so is each mount below it: whatever is mounted there later
     * would appear on the host. Only who asks for that gets it. */
    if (!(arg_number(step, 6) & MS_SHARED) && change(mount, 0, 0, MS_SLAVE, 1) < 0)
        return -1;
    if (change(mount, arg_number(step, 2), arg_number(step, 3), 0, 0) < 0 ||
        change(mount, arg_number(step, 4), arg_number(step, 5), 0, 1) < 0 ||
        propagate(mount, arg_number(step, 6)) < 0)
        return -1;
    target = make_path(c, arg_text(step, 1), S_ISDIR(info.st_mode), 0755);
    if (target < 0 || fstat(target, &place) < 0 || check_proc(target, arg_text(step, 1)) < 0)
        return -1;
    if (S_ISDIR(info.st_mode) != S_ISDIR(place.st_mode)) {
        errno = ENOTDIR;    /* move_mount would only say EINVAL */
        return -1;
    }
    return attach_and_close(mount, target);
}

static int readonly_path(struct clone *c, const char *path)
{
    int place = in_root(c, path, O_PATH), tree;

    if (place < 0)
        return errno == ENOENT ? 0 : -1;
    tree = sys_open_tree(place, "", AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC |
                                        AT_RECURSIVE);
    if (tree < 0 || change(tree, MOUNT_ATTR_RDONLY, 0, 0, 1) < 0 || attach(tree, place) < 0)
        return -1;
    close(tree);
    close(place);
    return 0;
}

/* What covers files. An image or a volume may have anything in its place, a link to what is to be
 * hidden among it. */
static int open_null(struct clone *c)
{
    int null = in_root(c, "/dev/null", O_PATH);
    struct stat node;

    if (null >= 0) {
        if (fstat(null, &node) == 0 && S_ISCHR(node.st_mode) && node.st_rdev == makedev(1, 3))
            return null;
        close(null);
        errno = ENODEV;
    }
    subject(c, "/dev/null");
    return -1;
}

static int mask_path(struct clone *c, const char *path)
{
    int place = in_root(c, path, O_PATH), cover;
    struct stat info;

    if (place < 0)
        return errno == ENOENT ? 0 : -1;
    if (fstat(place, &info) < 0)
        return -1;
    if (!S_ISDIR(info.st_mode)) {
        int null = open_null(c);

        if (null < 0)
            return -1;
        cover = sys_open_tree(null, "", AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
        close(null);
    } else if (c->blank < 0) {
        /* One empty file system serves all folders; a detached mount cannot be cloned before
         * 6.15, so the first place gets the mount itself and the others clones of it. */
        c->blank = cover = new_mount("tmpfs", "tmpfs",
                                     MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV |
                                         MOUNT_ATTR_NOEXEC,
                                     NULL, 0, NULL);
    } else {
        cover = sys_open_tree(c->blank, "", AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
    }
    if (cover < 0 || attach(cover, place) < 0)
        return -1;
    if (cover != c->blank)
        close(cover);
    close(place);
    return 0;
}

static int each_path(struct clone *c, const struct step *step,
                     int (*act)(struct clone *, const char *))
{
    for (const char *path = NULL; (path = list_next(step, 0, path));)
        if (act(c, path) < 0) {
            if (!*c->report.failure.subject)
                subject(c, path);
            return -1;
        }
    return 0;
}

static int step_directory(struct clone *c, const struct step *step)
{
    int fd = make_path(c, arg_text(step, 0), 1, (mode_t)arg_number(step, 1));
    struct stat info;

    if (fd < 0 || fstat(fd, &info) < 0)
        return -1;
    close(fd);
    if (S_ISDIR(info.st_mode))
        return 0;
    errno = ENOTDIR;
    return -1;
}

/* The folder that holds `path`'s last part, and that part. */
static int parent_of(struct clone *c, const char *path, const char **name)
{
    char part[PATH_MAX];
    const char *slash = strrchr(path, '/');

    if (!slash || !slash[1] || (size_t)(slash - path) >= sizeof(part)) {
        errno = EINVAL;
        return -1;
    }
    memcpy(part, path, (size_t)(slash - path));
    part[slash - path] = 0;
    *name = slash + 1;
    return make_path(c, part[0] ? part : "/", 1, 0755);
}

static int step_symlink(struct clone *c, const struct step *step)
{
    const char *name;
    int parent = parent_of(c, arg_text(step, 1), &name), result;

    if (parent < 0)
        return -1;
    result = symlinkat(arg_text(step, 0), parent, name);
    if (result < 0 && errno == EEXIST)
        result = 0;
    close(parent);
    return result;
}

/* There already, and just what is wanted. */
static int is_node(int parent, const char *name, const struct step *step)
{
    struct stat info;

    if (fstatat(parent, name, &info, AT_SYMLINK_NOFOLLOW) == 0 &&
        (info.st_mode & S_IFMT) == ((mode_t)arg_number(step, 1) & S_IFMT) &&
        (S_ISFIFO(info.st_mode) || info.st_rdev == (dev_t)arg_number(step, 2)))
        return 1;
    errno = EEXIST;
    return 0;
}

static int step_node(struct clone *c, const struct step *step)
{
    const char *name;
    int parent = parent_of(c, arg_text(step, 0), &name);

    if (parent < 0)
        return -1;
    if (mknodat(parent, name, (mode_t)arg_number(step, 1), (dev_t)arg_number(step, 2)) < 0 &&
        (errno != EEXIST || !is_node(parent, name, step)))
        return -1;
    if (fchownat(parent, name, (uid_t)arg_number(step, 3), (gid_t)arg_number(step, 4),
                 AT_SYMLINK_NOFOLLOW) < 0)
        return -1;
    close(parent);
    return 0;
}

static int step_attributes(struct clone *c, const struct step *step)
{
    int place = in_root(c, arg_text(step, 0), O_PATH), result;

    if (place < 0)
        return -1;
    result = change(place, arg_number(step, 1), arg_number(step, 2), 0, 0);
    if (result == 0)
        result = propagate(place, arg_number(step, 3));
    close(place);
    return result;
}

static int step_reconfigure(struct clone *c, const struct step *step)
{
    int place = in_root(c, arg_text(step, 0), O_PATH), fs, result, saved;

    if (place < 0)
        return -1;
    fs = sys_fspick(place, "", FSPICK_CLOEXEC | FSPICK_EMPTY_PATH);
    saved = errno;
    close(place);
    errno = saved;
    if (fs < 0)
        return -1;
    result = configure(fs, step, 1);
    if (result == 0)
        result = sys_fsconfig(fs, FSCONFIG_CMD_RECONFIGURE, NULL, NULL, 0);
    saved = errno;
    close(fs);
    errno = saved;
    return result;
}

static int step_loopback(void)
{
    struct ifreq request = {.ifr_name = "lo"};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), result;

    if (fd < 0)
        return -1;
    result = ioctl(fd, SIOCGIFFLAGS, &request);
    request.ifr_flags |= IFF_UP;
    if (result == 0)
        result = ioctl(fd, SIOCSIFFLAGS, &request);
    close(fd);
    return result;
}

static int step_netlink(struct clone *c, const struct step *step)
{
    struct batch batch = {.data = step->args[0].data, .size = step->args[0].size};

    return netlink_step(&batch, step, 1, c->report.failure.subject,
                        sizeof(c->report.failure.subject));
}

static int open_terminal(struct clone *c, int *slave)
{
    int master = in_root(c, "/dev/pts/ptmx", O_RDWR | O_NOCTTY | O_NONBLOCK), unlocked = 0;
    struct statfs info;
    struct stat node;

    if (master < 0)
        return -1;
    /* A container that is joined may have put anything there. */
    if (fstatfs(master, &info) < 0 || fstat(master, &node) < 0)
        return -1;
    if (info.f_type != DEVPTS_SUPER_MAGIC || node.st_rdev != makedev(5, 2)) {
        errno = ENODEV;
        return -1;
    }
    if (ioctl(master, TIOCSPTLCK, &unlocked) < 0)
        return -1;
    *slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    return *slave < 0 ? -1 : master;
}

static int step_console(struct clone *c, const struct step *step)
{
    struct winsize size = {.ws_row = (unsigned short)arg_number(step, 0),
                           .ws_col = (unsigned short)arg_number(step, 1)};
    struct message message = {.kind = MESSAGE_CONSOLE};
    int slave, master = open_terminal(c, &slave);

    if (master < 0)
        return -1;
    if (size.ws_row && size.ws_col && ioctl(slave, TIOCSWINSZ, &size) < 0)
        return -1;
    if (arg_number(step, 2)) {
        int place = make_path(c, "/dev/console", 0, 0600);
        int tree = sys_open_tree(slave, "", AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);

        if (place < 0 || tree < 0 || attach(tree, place) < 0)
            return -1;
        close(tree);
        close(place);
    }
    if (message_send(c->executor->peer, &message, master) < 0)
        return -1;
    close(master);
    if (ioctl(slave, TIOCSCTTY, 0) < 0)
        return -1;
    for (int fd = 0; fd < 3; fd++)
        if (dup2(slave, fd) < 0)
            return -1;
    close(slave);
    return 0;
}

static int step_pivot(struct clone *c, const struct step *step)
{
    if (fchdir(c->root) < 0)
        return -1;
    /* pivot_root refuses to leave an initramfs: the old root stays, out of sight below the new. */
    if (!arg_number(step, 0))
        return chroot(".") < 0 ? -1 : chdir("/");
    /* With both paths the same, the old root lands on top of the new one and is taken off by the
     * next call: no folder in the image is needed for it (pivot_root(2), NOTES). */
    if (sys_pivot_root(".", ".") < 0 || umount2(".", MNT_DETACH) < 0)
        return -1;
    return chdir("/");
}

/* setns to a mount namespace sets root and working directory to that namespace's root. */
static int step_enter(struct clone *c)
{
    if (chdir("/") < 0)
        return -1;
    c->root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    return c->root < 0 ? -1 : 0;
}

static int step_sysctl(struct clone *c, const struct step *step)
{
    const char *value = arg_text(step, 1);
    struct open_how how = {.flags = O_WRONLY | O_CLOEXEC,
                           .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS};
    int fd, folder;
    ssize_t n;

    /* Those of a link are set before the root is attached. */
    if (c->proc < 0 && open_proc(c) < 0)
        return -1;
    folder = openat(c->proc, "sys", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0)
        return -1;
    fd = sys_openat2(folder, arg_text(step, 0), &how);
    close(folder);
    if (fd < 0)
        return -1;
    n = write(fd, value, strlen(value));
    close(fd);
    return n == (ssize_t)strlen(value) ? 0 : -1;
}

static int container_step(struct clone *c, uint32_t index)
{
    const struct step *step = &c->executor->plan->steps[index];

    switch (step->op) {
    case OP_JOIN:
        return setns(arg_fd(step, 0), (int)arg_number(step, 1));
    case OP_UNSHARE:
        return unshare((int)arg_number(step, 0));
    case OP_SESSION:
        return step_session(step);
    case OP_PROPAGATION:
        return mount(NULL, "/", NULL, arg_number(step, 0), NULL);
    case OP_ROOT:
        return step_root(c, step);
    case OP_MOUNT:
        return step_mount(c, step);
    case OP_BIND:
        return step_bind(c, step);
    case OP_READONLY:
        return each_path(c, step, readonly_path);
    case OP_MASK:
        return each_path(c, step, mask_path);
    case OP_DIRECTORY:
        return step_directory(c, step);
    case OP_SYMLINK:
        return step_symlink(c, step);
    case OP_NODE:
        return step_node(c, step);
    case OP_ATTRIBUTES:
        return step_attributes(c, step);
    case OP_RECONFIGURE:
        return step_reconfigure(c, step);
    case OP_HOSTNAME:
        return sethostname(arg_text(step, 0), strlen(arg_text(step, 0)));
    case OP_DOMAINNAME:
        return setdomainname(arg_text(step, 0), strlen(arg_text(step, 0)));
    case OP_LOOPBACK:
        return step_loopback();
    case OP_NETLINK:
        return step_netlink(c, step);
    case OP_CONSOLE:
        return step_console(c, step);
    case OP_PIVOT:
        return step_pivot(c, step);
    case OP_ENTER:
        return step_enter(c);
    case OP_SYSCTL:
        return step_sysctl(c, step);
    case OP_RLIMIT:
        return step_rlimit(step);
    case OP_IDENTITY:
        return step_identity(step);
    case OP_PERSONALITY:
        return personality((unsigned long)arg_number(step, 0));
    case OP_SCHEDULER:
        return step_scheduler(step);
    case OP_IO_PRIORITY:
        return step_io_priority(step);
    case OP_AFFINITY:
        return step_affinity(step);
    case OP_MEMORY_POLICY:
        return step_memory_policy(step);
    case OP_APPARMOR:
        return step_apparmor(c, step);
    case OP_HOOK:
        return step_hook(c, step);
    case OP_WAIT:
        return step_wait(c, index);
    case OP_LOOKUP:
        return step_lookup(step);
    case OP_INHERIT:
        return step_inherit(step);
    case OP_NO_NEW_PRIVS:
        return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    case OP_SECCOMP:
        return step_seccomp(c, step);
    case OP_CREDENTIALS:
        return step_credentials(c, step);
    case OP_PARENT_DEATH:
        return step_parent_death(c, step);
    case OP_UMASK:
        umask((mode_t)arg_number(step, 0));
        return 0;
    case OP_CWD:
        return step_cwd(step);
    case OP_CLOSE:
        return step_close(c, step);
    case OP_EXEC:
        return step_exec(c, step);
    default:
        errno = EINVAL;
        return -1;
    }
}

/* Ignored signals and handlers survive a clone; the program starts with defaults. */
static void default_signals(void)
{
    struct sigaction action = {.sa_handler = SIG_DFL};

    for (int number = 1; number < NSIG; number++)
        sigaction(number, &action, NULL);
}

static void write_late(const struct clone *c)
{
    struct failure failure = c->report.failure;

    if (write(c->late, &failure, sizeof(failure)) < 0)
        _exit(1);
}

static void fail(struct clone *c, uint32_t step)
{
    c->report.kind = MESSAGE_FAILED;
    c->report.failure.step = step;
    c->report.failure.error = errno;
    /* Whom it cannot be told nothing can be told. */
    if (c->late < 0)
        message_send(c->executor->peer, &c->report, -1);
    else
        write_late(c);
    _exit(1);
}

void container_side(const struct executor *e, uint32_t first)
{
    struct clone c = {.executor = e, .root = -1, .proc = -1, .blank = -1, .late = -1};

    default_signals();
    umask(0);
    for (int fd = 0; fd < 3; fd++)
        if (dup2(e->stdio[fd], fd) < 0)
            fail(&c, NO_STEP);
    for (uint32_t i = first; i < e->plan->count; i++) {
        const struct step *step = &e->plan->steps[i];

        if (plan_ops[step->op].side == SIDE_HOST) {
            struct message turn = {.kind = MESSAGE_TURN, .failure.step = i}, go;
            int fd;

            if (message_send(e->peer, &turn, -1) < 0 || message_receive(e->peer, &go, &fd) <= 0)
                _exit(1);
            while (i + 1 < e->plan->count &&
                   plan_ops[e->plan->steps[i + 1].op].side == SIDE_HOST)
                i++;
            continue;
        }
        uint64_t start = trace_start(e);

        if (container_step(&c, i) < 0)
            fail(&c, i);
        trace_end(e, i, start);
    }
    _exit(1);
}
