/* See spawn.h. Two clones that share the caller's memory, as vfork does: the first only makes the
 * second and ends, so that the program belongs to the nearest subreaper and not to the caller. */
#include "spawn.h"
#include "plan.h"
#include "sys.h"
#include "vfork.h"

#include <errno.h>
#include <linux/netlink.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>

struct order {
    int program;
    char *const *argv;
    const int *fds;
    int count;
    int cgroup;
    int *pidfd;
    volatile int pid;
    volatile int error;
};

/* In the child, on the caller's stack: nothing here allocates. */
static __attribute__((noinline, noreturn)) void become(struct order *order)
{
    char *const none[] = {NULL};
    int copies[PLAN_MAX_FDS + 1];
    int program, opened, null, first = 3 + order->count;
    sigset_t empty;

    if (setsid() < 0 || chdir("/") < 0)
        goto bad;
    /* Out of the way first: a descriptor may stand where another has to go. */
    for (int i = 0; i < order->count; i++)
        if ((copies[i] = fcntl(order->fds[i], F_DUPFD_CLOEXEC, first)) < 0)
            goto bad;
    program = fcntl(order->program, F_DUPFD_CLOEXEC, first);
    opened = open("/dev/null", O_RDWR | O_CLOEXEC);
    null = opened < 0 ? -1 : fcntl(opened, F_DUPFD_CLOEXEC, first);
    if (program < 0 || null < 0)
        goto bad;
    for (int i = 0; i < order->count; i++)
        if (dup2(copies[i], 3 + i) < 0)
            goto bad;
    for (int fd = 0; fd < 3; fd++)
        if (dup2(null, fd) < 0)
            goto bad;
    if (sys_close_range((unsigned)first, ~0u, CLOSE_RANGE_CLOEXEC) < 0)
        goto bad;
    sigemptyset(&empty);
    sigprocmask(SIG_SETMASK, &empty, NULL);
    syscall(SYS_execveat, program, "", order->argv, none, AT_EMPTY_PATH);
bad:
    order->error = errno;
    _exit(1);
}

/* Clone what becomes the program. Inlined: the child shares the caller's stack. */
static inline __attribute__((always_inline)) void start(struct order *order)
{
    struct clone_args args = {
        .flags = CLONE_VM | CLONE_VFORK | CLONE_PIDFD | CLONE_CLEAR_SIGHAND,
        .pidfd = (uintptr_t)order->pidfd,
        .exit_signal = SIGCHLD,
    };
    long pid;

    if (order->cgroup >= 0) {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = (uint64_t)order->cgroup;
    }
    pid = clone3_vfork(&args);
    if (pid == 0)
        become(order);
    if (pid < 0)
        order->error = (int)-pid;
    order->pid = (int)pid;
}

static __attribute__((noinline, noreturn)) void go_between(struct order *order)
{
    start(order);
    _exit(0);
}

/* The program belongs to the nearest subreaper. */
static __attribute__((noinline)) void start_detached(struct order *order)
{
    /* CLONE_FILES: the pidfd has to land in the caller's table. No exit signal: the caller's
     * SIGCHLD handler and its waits never see the go-between. */
    struct clone_args args = {.flags = CLONE_VM | CLONE_VFORK | CLONE_FILES | CLONE_CLEAR_SIGHAND};
    long between = clone3_vfork(&args);

    if (between == 0)
        go_between(order);
    if (between < 0) {
        order->error = (int)-between;
        return;
    }
    while (waitpid((pid_t)between, NULL, __WALL) < 0 && errno == EINTR)
        ;
    /* Somebody killed the go-between before it could say anything. */
    if (order->pid < 0 && !order->error)
        order->error = ECHILD;
}

static __attribute__((noinline)) void start_child(struct order *order)
{
    start(order);
}

int spawn(int program, char *const *argv, const int *fds, int count, int cgroup, int child,
          int *pidfd)
{
    struct order order = {program, argv, fds, count, cgroup, pidfd, -1, 0};
    sigset_t all, before;

    *pidfd = -1;
    if (count < 0 || count > PLAN_MAX_FDS + 1) {
        errno = EINVAL;
        return -1;
    }
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &before);
    if (child)
        start_child(&order);
    else
        start_detached(&order);
    sigprocmask(SIG_SETMASK, &before, NULL);
    if (!order.error)
        return order.pid;
    if (*pidfd >= 0)
        close(*pidfd);
    *pidfd = -1;
    errno = order.error;
    return -1;
}

struct visit {
    int network;
    volatile int socket;
    volatile int error;
};

static __attribute__((noinline, noreturn)) void go_and_open(struct visit *visit)
{
    if (setns(visit->network, CLONE_NEWNET) < 0 ||
        (visit->socket = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_ROUTE)) < 0)
        visit->error = errno;
    _exit(0);
}

/* A socket belongs to the network namespace that its maker is in. */
static __attribute__((noinline)) void visit_network(struct visit *visit)
{
    struct clone_args args = {.flags = CLONE_VM | CLONE_VFORK | CLONE_FILES | CLONE_CLEAR_SIGHAND};
    long visitor = clone3_vfork(&args);

    if (visitor == 0)
        go_and_open(visit);
    if (visitor < 0) {
        visit->error = (int)-visitor;
        return;
    }
    while (waitpid((pid_t)visitor, NULL, __WALL) < 0 && errno == EINTR)
        ;
    if (visit->socket < 0 && !visit->error)
        visit->error = ECHILD;
}

int netlink_in(int network)
{
    struct visit visit = {network, -1, 0};
    sigset_t all, before;

    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &before);
    visit_network(&visit);
    sigprocmask(SIG_SETMASK, &before, NULL);
    errno = visit.error;
    return visit.socket;
}

const char *plan_check(const char *bytes, unsigned long size)
{
    struct plan plan;
    const char *why = NULL;
    char *copy = malloc(size ? size : 1);

    if (!copy)
        return "no memory";
    memcpy(copy, bytes, size);
    if (plan_parse(copy, size, &plan, &why) == 0) {
        plan_free(&plan);
        return NULL;
    }
    free(copy);
    return why;
}

const char *plan_op_name(int op)
{
    return op > 0 && op < OP_COUNT ? plan_ops[op].name : NULL;
}

int plan_op_side(int op)
{
    return plan_ops[op].side;
}

const char *plan_op_args(int op)
{
    return plan_ops[op].args;
}
