"""The cffi extension ``pycontain._native._kernel``: the interpreter's hands, without any state."""

from __future__ import annotations

from cffi import FFI

ffibuilder = FFI()
ffibuilder.cdef(
    """
    int openat2(int dir, const char *path, uint64_t flags, uint64_t mode, uint64_t resolve);
    int fsopen(const char *type);
    int fsconfig_string(int fs, const char *key, const char *value);
    int fsconfig_flag(int fs, const char *key);
    int fsconfig_create(int fs);
    int fsmount(int fs, unsigned attributes);
    int open_tree(int dir, const char *path, unsigned flags);
    int move_mount(int from, int dir, const char *path);
    int unmount(const char *path);
    int mount_setattr(int fd, unsigned flags, uint64_t set, uint64_t clear, uint64_t propagation);
    int mount_idmap(int fd, unsigned flags, int user_namespace);
    int idle_in_user_namespace(int *pidfd);
    int reap(int pid);
    int set_subreaper(void);
    int watch_start(void);
    int watch_folder(int fd, const char *path);
    int enter(int fd, int types);
    int spawn(int program, char *const *argv, const int *fds, int count, int cgroup, int child,
              int *pidfd);
    int netlink_in(int network);
    int mount_apart(const char *type, const char *options, char *const *folders, int count,
                    int *at);
    int tree_apart(int namespace, const char *path, int *at);
    int channel(int *pair);
    int send_go(int socket);
    int send_stop(int socket);
    ssize_t receive(int socket, void *message, int *fd);
    int message_size(void);
    int hook_run_words(const char *path, char *const *argv, char *const *envp, int timeout,
                       const char *state, char *said, size_t size);
    int pidfd_send_signal(int pidfd, int signal);
    const char *plan_check(const char *bytes, unsigned long size);
    const char *plan_op_name(int op);
    int plan_op_side(int op);
    const char *plan_op_args(int op);
    """
)
SOURCE = """
#include <errno.h>
#include <sched.h>
#include <sys/inotify.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include "apart.h"
#include "hook.h"
#include "message.h"
#include "sys.h"
#include "spawn.h"

static int openat2(int dir, const char *path, uint64_t flags, uint64_t mode, uint64_t resolve)
{
    struct open_how how = {.flags = flags | O_CLOEXEC, .mode = mode, .resolve = resolve};
    return sys_openat2(dir, path, &how);
}
static int fsopen(const char *type) { return sys_fsopen(type, FSOPEN_CLOEXEC); }
static int fsconfig_string(int fs, const char *key, const char *value)
{
    return sys_fsconfig(fs, FSCONFIG_SET_STRING, key, value, 0);
}
static int fsconfig_flag(int fs, const char *key)
{
    return sys_fsconfig(fs, FSCONFIG_SET_FLAG, key, NULL, 0);
}
static int fsconfig_create(int fs)
{
    return sys_fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0);
}
static int fsmount(int fs, unsigned attributes)
{
    return sys_fsmount(fs, FSMOUNT_CLOEXEC, attributes);
}
static int open_tree(int dir, const char *path, unsigned flags)
{
    return sys_open_tree(dir, path, flags | OPEN_TREE_CLOEXEC);
}
static int move_mount(int from, int dir, const char *path)
{
    return sys_move_mount(from, "", dir, path, MOVE_MOUNT_F_EMPTY_PATH);
}
/* <sys/mount.h> has functions of our names. 2 and 8: MNT_DETACH, UMOUNT_NOFOLLOW (umount2(2)). */
static int unmount(const char *path) { return (int)syscall(SYS_umount2, path, 2 | 8); }
static int mount_setattr(int fd, unsigned flags, uint64_t set, uint64_t clear,
                         uint64_t propagation)
{
    struct mount_attr attr = {.attr_set = set, .attr_clr = clear, .propagation = propagation};
    return sys_mount_setattr(fd, "", flags | AT_EMPTY_PATH, &attr);
}
static int mount_idmap(int fd, unsigned flags, int user_namespace)
{
    struct mount_attr attr = {.attr_set = MOUNT_ATTR_IDMAP, .userns_fd = user_namespace};
    return sys_mount_setattr(fd, "", flags | AT_EMPTY_PATH, &attr);
}
/* No exit signal: no handler and no wait of the caller meets it. It ends with the caller, whose
 * locks it would hold for ever else. */
static int idle_in_user_namespace(int *pidfd)
{
    struct clone_args args = {.flags = CLONE_NEWUSER | CLONE_PIDFD | CLONE_CLEAR_SIGHAND,
                              .pidfd = (uintptr_t)pidfd};
    int caller = getpid();
    int pid = sys_clone3(&args);

    if (pid != 0)
        return pid;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != caller) /* it died before that */
        _exit(0);
    for (;;)
        pause();
}
static int set_subreaper(void) { return prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); }
static int watch_start(void) { return inotify_init1(IN_CLOEXEC | IN_NONBLOCK); }
static int watch_folder(int fd, const char *path)
{
    const uint32_t events = IN_MODIFY | IN_CREATE | IN_MOVED_FROM | IN_DELETE | IN_ONLYDIR;

    return inotify_add_watch(fd, path, events);
}
static int reap(int pid)
{
    return waitpid(pid, NULL, __WALL);
}
static int enter(int fd, int types) { return setns(fd, types); }
static int pidfd_send_signal(int pidfd, int signal) { return sys_pidfd_send_signal(pidfd, signal); }
static int channel(int *pair)
{
    return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair);
}
static int message_size(void) { return sizeof(struct message); }
static int send_go(int socket)
{
    struct message go = {.kind = MESSAGE_GO};
    return message_send(socket, &go, -1);
}
/* Any other word than GO. */
static int send_stop(int socket)
{
    struct message stop = {.kind = MESSAGE_FAILED};
    return message_send(socket, &stop, -1);
}
static ssize_t receive(int socket, void *message, int *fd)
{
    return message_receive(socket, message, fd);
}
static int hook_run_words(const char *path, char *const *argv, char *const *envp, int timeout,
                          const char *state, char *said, size_t size)
{
    struct hook hook = {path, argv, envp, timeout, {state, "", ""}};
    return hook_run(&hook, said, size);
}
"""

ffibuilder.set_source("pycontain._native._kernel", SOURCE)
