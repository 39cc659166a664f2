/* What the process is and may do: session, identity, limits, privileges, and its last step, exec.
 * Part of the container's side: nothing here allocates. */
#include "clone.h"
#include "hook.h"
#include "sys.h"

#include <errno.h>
#include <grp.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/ioprio.h>
#include <linux/keyctl.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

int step_session(const struct step *step)
{
    if (setsid() < 0)
        return -1;
    if (!arg_number(step, 0))
        return 0;
    /* Or it would keep the caller's, with the caller's keys in it (session-keyring(7)). */
    if (syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL) < 0 && errno != ENOSYS)
        return -1;
    return 0;
}

/* In a user namespace of its own: who it is there. */
int step_identity(const struct step *step)
{
    gid_t gid = (gid_t)arg_number(step, 1);
    uid_t uid = (uid_t)arg_number(step, 0);

    /* The caller's groups are not mapped. Refused where an ordinary user made the namespace
     * (user_namespaces(7), setgroups): then they show as the overflow group and give nothing. */
    if (setgroups(0, NULL) < 0 && errno != EPERM)
        return -1;
    if (setresgid(gid, gid, gid) < 0)
        return -1;
    return setresuid(uid, uid, uid);
}

int step_rlimit(const struct step *step)
{
    struct rlimit limit = {.rlim_cur = arg_number(step, 1), .rlim_max = arg_number(step, 2)};

    return setrlimit((__rlimit_resource_t)arg_number(step, 0), &limit);
}

int step_seccomp(struct clone *c, const struct step *step)
{
    struct message message = {.kind = MESSAGE_NOTIFY};
    struct sock_fprog program = {
        .len = (unsigned short)(step->args[0].size / sizeof(struct sock_filter)),
        .filter = (struct sock_filter *)step->args[0].data,
    };
    int listener = (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, arg_number(step, 1),
                                &program);

    if (listener < 0 || !(arg_number(step, 1) & SECCOMP_FILTER_FLAG_NEW_LISTENER))
        return listener;
    if (message_send(c->executor->peer, &message, listener) < 0)
        return -1;
    return close(listener);
}

/* The host's /dev/null is a file of the host: whoever is root in the container could change its mode
 * through the open descriptor. The container's own stands in for it where there is one. */
static int own_null(struct clone *c, int fd)
{
    int own = in_root(c, "/dev/null", O_RDWR | O_NONBLOCK | O_NOCTTY), result;
    struct stat node;

    if (own < 0)
        return 0;
    result = fstat(own, &node);
    if (result == 0 && S_ISCHR(node.st_mode) && node.st_rdev == makedev(1, 3))
        result = dup2(own, fd);
    close(own);
    return result < 0 ? -1 : 0;
}

/* Pipes and the terminal belong to the container's user, or it could not open /dev/stdout. */
static int give_stdio(struct clone *c, uid_t uid, gid_t gid)
{
    for (int fd = 0; fd < 3; fd++) {
        struct stat info;

        if (fstat(fd, &info) < 0)
            return -1;
        if (S_ISCHR(info.st_mode) && info.st_rdev == makedev(1, 3) && own_null(c, fd) < 0)
            return -1;
        /* A pipe whose owner has no id in our user namespace stays its owner's (EPERM), and one
         * of a read-only file system cannot be given (EROFS): the descriptor works all the same. */
        if (S_ISFIFO(info.st_mode) && fchown(fd, uid, gid) < 0 && errno != EPERM && errno != EROFS)
            return -1;
        /* The terminal keeps its group: 5, tty. */
        if (isatty(fd) && fchown(fd, uid, (gid_t)-1) < 0 && errno != EPERM && errno != EROFS)
            return -1;
    }
    return 0;
}

static int set_capabilities(uint64_t permitted, uint64_t effective, uint64_t inheritable,
                            uint64_t ambient)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2];

    for (int word = 0; word < 2; word++)
        data[word] = (struct __user_cap_data_struct){
            .permitted = (uint32_t)(permitted >> (32 * word)),
            .effective = (uint32_t)(effective >> (32 * word)),
            .inheritable = (uint32_t)(inheritable >> (32 * word)),
        };
    if (syscall(SYS_capset, &header, data) < 0)
        return -1;
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0)
        return -1;
    for (unsigned long cap = 0; cap < 64; cap++)
        if (ambient >> cap & 1 && prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap, 0, 0) < 0)
            return -1;
    return 0;
}

int step_credentials(struct clone *c, const struct step *step)
{
    uid_t uid = (uid_t)arg_number(step, 0);
    gid_t gid = (gid_t)arg_number(step, 1);
    const struct arg *groups = &step->args[2];
    uint64_t bounding = arg_number(step, 3);

    if (give_stdio(c, uid, gid) < 0)
        return -1;
    for (unsigned long cap = 0; cap < 64; cap++)
        if (!(bounding >> cap & 1) && prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0) {
            if (errno == EINVAL)
                break;  /* past the kernel's last capability */
            return -1;
        }
    if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0)
        return -1;
    /* Where setgroups is denied there are no groups to give up either (user_namespaces(7)). */
    if (setgroups(groups->size / sizeof(gid_t), (const gid_t *)groups->data) < 0 &&
        (groups->size || errno != EPERM))
        return -1;
    if (setresgid(gid, gid, gid) < 0 || setresuid(uid, uid, uid) < 0)
        return -1;
    return set_capabilities(arg_number(step, 4), arg_number(step, 5), arg_number(step, 6),
                            arg_number(step, 7));
}

int step_parent_death(struct clone *c, const struct step *step)
{
    struct pollfd peer = {.fd = c->executor->peer};

    /* A change of user clears this (prctl(2)), so it stands after it. */
    if (prctl(PR_SET_PDEATHSIG, arg_number(step, 0), 0, 0, 0) < 0)
        return -1;
    /* The parent may have died before the call: then its end of the socket is closed. */
    if (poll(&peer, 1, 0) == 1 && peer.revents & POLLHUP)
        _exit(1);
    return 0;
}

int step_cwd(const struct step *step)
{
    char where[PATH_MAX];

    if (chdir(arg_text(step, 0)) < 0)
        return -1;
    /* A working directory outside the root would be a way out: getcwd tells it by a path that
     * does not begin with a slash (getcwd(2)). */
    if (syscall(SYS_getcwd, where, sizeof(where)) < 0)
        return -1;
    if (where[0] == '/')
        return 0;
    errno = ENOENT;
    return -1;
}

#define HOOK_WORDS 512

static int words(const struct step *step, int index, char **list)
{
    size_t used = 0;

    for (const char *at = NULL; (at = list_next(step, index, at));) {
        if (used == HOOK_WORDS - 1) {
            errno = E2BIG;
            return -1;
        }
        list[used++] = (char *)at;
    }
    list[used] = NULL;
    return 0;
}

int step_hook(struct clone *c, const struct step *step)
{
    char *argv[HOOK_WORDS], *envp[HOOK_WORDS], pid[16], said[sizeof(c->report.failure.subject)];
    struct hook hook = {
        .path = arg_text(step, 0),
        .argv = argv,
        .envp = envp,
        .timeout = (int)arg_number(step, 3),
        .state = {arg_text(step, 4), pid, arg_text(step, 5)},
    };
    int result, saved;

    if (words(step, 1, argv) < 0 || words(step, 2, envp) < 0)
        return -1;
    snprintf(pid, sizeof(pid), "%d", getpid());
    result = hook_run(&hook, said, sizeof(said));
    saved = errno;
    subject(c, result < 0 ? said : "");
    errno = saved;
    return result;
}

int step_scheduler(const struct step *step)
{
    /* struct sched_attr, made by Python (sched_setattr(2)). */
    return (int)syscall(SYS_sched_setattr, 0, step->args[0].data, 0);
}

int step_io_priority(const struct step *step)
{
    return (int)syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, (int)arg_number(step, 0));
}

int step_affinity(const struct step *step)
{
    return (int)syscall(SYS_sched_setaffinity, 0, step->args[0].size, step->args[0].data);
}

int step_memory_policy(const struct step *step)
{
    const struct arg *nodes = &step->args[1];

    /* The kernel takes one bit less than it is told of (get_nodes, mm/mempolicy.c). */
    return (int)syscall(SYS_set_mempolicy, (int)arg_number(step, 0),
                        nodes->size ? nodes->data : NULL, nodes->size * 8ul + 1);
}

/* Takes effect at the exec (apparmor's interface in proc, attr/exec). */
int step_apparmor(struct clone *c, const struct step *step)
{
    char text[300];
    int size = snprintf(text, sizeof(text), "exec %s", arg_text(step, 0));
    int fd, result, saved, borrowed = c->proc >= 0;

    if (size < 0 || (size_t)size >= sizeof(text)) {
        errno = ENAMETOOLONG;
        return -1;
    }
    /* Without a root of its own nobody has opened it: this comes before the container's is joined. */
    if (!borrowed && open_proc(c) < 0)
        return -1;
    fd = openat(c->proc, "thread-self/attr/apparmor/exec", O_WRONLY | O_CLOEXEC);
    if (!borrowed) {
        saved = errno;
        close(c->proc);
        c->proc = -1;
        errno = saved;
    }
    if (fd < 0)
        return -1;
    result = write(fd, text, (size_t)size) == size ? 0 : -1;
    close(fd);
    return result;
}

/* Find the program as exec will, so that `create` can say that it is not there. */
int step_lookup(const struct step *step)
{
    int error = ENOENT;

    for (const char *path = NULL; (path = list_next(step, 0, path));) {
        struct stat info;

        if (stat(path, &info) < 0) {
            if (errno == EACCES)
                error = EACCES;
            else if (errno != ENOENT && errno != ENOTDIR)
                return -1;
        } else if (S_ISREG(info.st_mode) && access(path, X_OK) == 0) {
            return 0;
        } else {
            error = EACCES;
        }
    }
    errno = error;
    return -1;
}

static void close_but(const struct executor *e, int fifo, int late, uint32_t next)
{
    int end = PLAN_FIRST_FD + (int)e->plan->fds;

    for (int fd = 3; fd < end; fd++) {
        int needed = fd == fifo || fd == late;

        for (uint32_t i = next; i < e->plan->count && !needed; i++)
            needed = e->plan->steps[i].op == OP_INHERIT && arg_fd(&e->plan->steps[i], 0) == fd;
        if (!needed)
            close(fd);
    }
}

/* Everything is done but what `start` lets happen: from here on nobody but a file hears of a
 * failure. */
int step_wait(struct clone *c, uint32_t index)
{
    const struct executor *e = c->executor;
    const struct step *step = &e->plan->steps[index];
    struct message message = {.kind = MESSAGE_WAITING};
    int fifo = arg_fd(step, 0);
    /* Above those that `inherit` puts into place. */
    int late = fcntl(arg_fd(step, 1), F_DUPFD_CLOEXEC, PLAN_FIRST_FD + (int)e->plan->fds);
    char byte;
    ssize_t got;

    if (late < 0)
        return -1;
    /* What of the host is still open must not stay so for as long as nobody says start. */
    close_but(e, fifo, late, index + 1);
    if (c->root >= PLAN_FIRST_FD + (int)e->plan->fds)
        close(c->root);
    if (c->proc >= 0)
        close(c->proc);
    if (c->blank >= 0)
        close(c->blank);
    if (message_send(e->peer, &message, -1) < 0)
        return -1;
    c->late = late;
    close(e->peer);
    do
        got = read(fifo, &byte, 1);
    while (got < 0 && errno == EINTR);
    return got < 0 ? -1 : 0;
}

/* Descriptors come in ascending order, and each from a higher place than it goes to. */
int step_inherit(const struct step *step)
{
    return dup2(arg_fd(step, 0), (int)arg_number(step, 1));
}

/* The last of what is ours: after it a seccomp filter need not know more than the exec. */
int step_close(struct clone *c, const struct step *step)
{
    struct message message = {.kind = MESSAGE_EXEC};
    sigset_t none;

    if (c->late < 0 && message_send(c->executor->peer, &message, -1) < 0)
        return -1;
    sigemptyset(&none);
    if (sigprocmask(SIG_SETMASK, &none, NULL) < 0)
        return -1;
    return sys_close_range((unsigned)arg_number(step, 0), ~0u, CLOSE_RANGE_CLOEXEC);
}

int step_exec(struct clone *c, const struct step *step)
{
    const struct executor *e = c->executor;
    int error = ENOENT;

    for (const char *path = NULL; (path = list_next(step, 2, path));) {
        execve(path, e->argv, e->envp);
        if (errno == EACCES)
            error = EACCES;
        else if (errno != ENOENT && errno != ENOTDIR)
            return -1;
    }
    errno = error;
    return -1;
}
