/* See apart.h. What takes a process in another mount namespace than the caller's.
 *
 * fsconfig(2) takes 255 bytes for one option; mount(2) takes a page for all of them,
 * but it needs a place to mount on. The place is a mount namespace that lasts as long as the one
 * process in it, and names in the page are short because they are its descriptors' numbers. */
#include "apart.h"
#include "message.h"
#include "vfork.h"

#include <errno.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/wait.h>

struct order {
    void (*act)(struct order *order);
    const char *type;
    const char *options;
    char *const *folders;
    int count;
    int namespace;
    const char *path;
    int socket;
    volatile int at;
    volatile int error;
};

/* What has to exist to be mounted on. It is /proc because that exists wherever the numbers work. */
#define PLACE "/proc"

static int leave_the_namespace(void)
{
    if (unshare(CLONE_NEWNS) < 0)
        return -1;
    return mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL);
}

/* From here on: since Linux 5.14 overlayfs wants layers out of the mounter's own namespace. */
static int open_folders(struct order *order)
{
    for (int i = 0; i < order->count; i++) {
        int fd = open(order->folders[i], O_PATH | O_DIRECTORY | O_CLOEXEC);

        if (fd < 0) {
            order->at = i;
            return -1;
        }
        if (fd != i + 1) {
            errno = EBADF;
            return -1;
        }
    }
    return 0;
}

/* On the caller's stack and in its memory, so nothing here allocates; the descriptors are copies,
 * so that none stays with the caller whoever is killed. */
static __attribute__((noinline, noreturn)) void make_and_send(struct order *order)
{
    struct message made = {.kind = MESSAGE_DONE};
    int tree;

    order->at = APART_NAMESPACE;
    if (leave_the_namespace() < 0 || dup2(order->socket, 0) < 0 || sys_close_range(1, ~0u, 0) < 0)
        goto bad;
    if (open_folders(order) < 0 || chdir("/proc/self/fd") < 0)
        goto bad;
    order->at = APART_MOUNT;
    if (mount(order->type, PLACE, order->type, 0, order->options) < 0)
        goto bad;
    tree = sys_open_tree(AT_FDCWD, PLACE, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
    if (tree < 0 || message_send(0, &made, tree) < 0)
        goto bad;
    _exit(0);
bad:
    order->error = errno;
    _exit(1);
}

/* The same for what is mounted in a namespace already. Whoever lives there sees nothing of this
 * process: it is in the caller's pid namespace, and opens nothing but the folder. */
static __attribute__((noinline, noreturn)) void copy_and_send(struct order *order)
{
    struct message made = {.kind = MESSAGE_DONE};
    struct open_how how = {.flags = O_PATH | O_DIRECTORY | O_CLOEXEC,
                           .resolve = RESOLVE_NO_SYMLINKS};
    int folder, tree;

    order->at = APART_NAMESPACE;
    if (setns(order->namespace, CLONE_NEWNS) < 0)
        goto bad;
    order->at = APART_MOUNT;
    folder = sys_openat2(AT_FDCWD, order->path, &how);
    if (folder < 0)
        goto bad;
    tree = sys_open_tree(folder, "",
                         OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH | AT_RECURSIVE);
    if (tree < 0 || message_send(order->socket, &made, tree) < 0)
        goto bad;
    _exit(0);
bad:
    order->error = errno;
    _exit(1);
}

static __attribute__((noinline)) void carry_out(struct order *order)
{
    /* No exit signal: the caller's SIGCHLD handler and its waits never see it. */
    struct clone_args args = {.flags = CLONE_VM | CLONE_VFORK | CLONE_CLEAR_SIGHAND};
    long pid = clone3_vfork(&args);

    if (pid == 0)
        order->act(order);
    if (pid < 0) {
        order->error = (int)-pid;
        return;
    }
    while (waitpid((pid_t)pid, NULL, __WALL) < 0 && errno == EINTR)
        ;
}

static int tree_of(struct order *order, int *at)
{
    struct message made;
    int pair[2], tree = -1;
    sigset_t all, before;

    *at = APART_START;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return -1;
    order->socket = pair[1];
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &before);
    carry_out(order);
    sigprocmask(SIG_SETMASK, &before, NULL);
    close(pair[1]);
    /* Nothing where it was killed; no descriptor where this process has none to spare. */
    if (!order->error && message_receive(pair[0], &made, &tree) <= 0)
        order->error = ECHILD;
    close(pair[0]);
    *at = order->at;
    if (tree < 0)
        errno = order->error ? order->error : EMFILE;
    return tree;
}

int mount_apart(const char *type, const char *options, char *const *folders, int count, int *at)
{
    struct order order = {.act = make_and_send, .type = type, .options = options,
                          .folders = folders, .count = count, .at = APART_START};

    return tree_of(&order, at);
}

int tree_apart(int namespace, const char *path, int *at)
{
    struct order order = {.act = copy_and_send, .namespace = namespace, .path = path,
                          .at = APART_START};

    return tree_of(&order, at);
}
