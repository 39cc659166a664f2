/* The host's side of the executor. See executor.h. */
#include "executor.h"
#include "netlink.h"
#include "sys.h"

#include <errno.h>
#include <linux/bpf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>

uint64_t trace_start(const struct executor *e)
{
    struct timespec now;

    if (e->trace < 0)
        return 0;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void trace_end(const struct executor *e, uint32_t step, uint64_t start)
{
    struct duration entry = {.step = step};

    if (e->trace < 0)
        return;
    entry.nanoseconds = trace_start(e) - start;
    /* A full pipe loses entries, never the container. */
    if (write(e->trace, &entry, sizeof(entry)) < 0)
        return;
}

static char **vector(const struct step *step, int index)
{
    char **list = calloc(list_count(step, index) + 1, sizeof(*list));
    size_t used = 0;

    if (list)
        for (const char *at = NULL; (at = list_next(step, index, at));)
            list[used++] = (char *)at;
    return list;
}

static int write_proc(pid_t pid, const char *name, const char *text)
{
    char path[64];
    size_t size = strlen(text);
    int fd, saved;
    ssize_t n;

    snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
    fd = open(path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return -1;
    n = write(fd, text, size);
    saved = errno;
    close(fd);
    errno = n < 0 ? saved : EIO;
    return n == (ssize_t)size ? 0 : -1;
}

#define LOAD_TRIES 1000

static int attach_device_program(int cgroup, const struct arg *program)
{
    union bpf_attr load, attach;
    int fd = -1, result, saved;

    memset(&load, 0, sizeof(load));
    load.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE;
    load.insns = (uintptr_t)program->data;
    load.insn_cnt = program->size / sizeof(struct bpf_insn);
    load.license = (uintptr_t)"Apache-2.0";
    /* The verifier gives up where a signal comes, also one that stops or continues the process. */
    for (int tries = 0; tries < LOAD_TRIES; tries++) {
        fd = (int)syscall(SYS_bpf, BPF_PROG_LOAD, &load, sizeof(load));
        if (fd >= 0 || errno != EAGAIN)
            break;
    }
    if (fd < 0)
        return -1;
    memset(&attach, 0, sizeof(attach));
    attach.target_fd = (uint32_t)cgroup;
    attach.attach_bpf_fd = (uint32_t)fd;
    attach.attach_type = BPF_CGROUP_DEVICE;
    /* MULTI: rules of the folders above stay in force beside ours. */
    attach.attach_flags = BPF_F_ALLOW_MULTI;
    result = (int)syscall(SYS_bpf, BPF_PROG_ATTACH, &attach, sizeof(attach));
    saved = errno;
    close(fd);
    errno = saved;
    return result;
}

static int time_offsets(const struct step *step)
{
    if (unshare(CLONE_NEWTIME) < 0)
        return -1;
    if (!*arg_text(step, 0))
        return 0;
    /* Only until the first process enters the new namespace can its offsets be written
     * (time_namespaces(7)). */
    return write_proc(getpid(), "timens_offsets", arg_text(step, 0));
}

static int join_cgroup_late(int cgroup, pid_t pid)
{
    char text[16];
    int fd = openat(cgroup, "cgroup.procs", O_WRONLY | O_CLOEXEC);
    int n = snprintf(text, sizeof(text), "%d", pid), result;

    if (fd < 0)
        return -1;
    result = write(fd, text, (size_t)n) == n ? 0 : -1;
    close(fd);
    return result;
}

static int clone_container(struct executor *e, uint64_t flags, uint32_t next)
{
    int pair[2], late = 0;
    struct clone_args args = {.exit_signal = SIGCHLD};
    struct message go;
    int ignored;

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return -1;
    args.flags = flags | CLONE_PIDFD;
    if (e->sibling) {
        args.flags |= CLONE_PARENT;
        args.exit_signal = 0;   /* it is the caller's own then (clone(2), CLONE_PARENT) */
    }
    args.pidfd = (uintptr_t)&e->pidfd;
    if (e->cgroup >= 0) {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = (uint64_t)e->cgroup;
    }
    e->pid = sys_clone3(&args);
    if (e->pid < 0 && e->cgroup >= 0 && (errno == EBUSY || errno == EOPNOTSUPP)) {
        /* Not a leaf, or threaded: start beside it and be moved before the first step. */
        args.flags &= ~(uint64_t)CLONE_INTO_CGROUP;
        args.cgroup = 0;
        late = 1;
        e->pid = sys_clone3(&args);
    }
    if (e->pid == 0) {
        close(pair[0]);
        e->peer = pair[1];
        /* The parent's first GO: it has moved us where we belong. */
        if (message_receive(e->peer, &go, &ignored) <= 0)
            _exit(1);
        container_side(e, next);
    }
    close(pair[1]);
    e->peer = pair[0];
    if (e->pid < 0)
        return -1;
    if (late && join_cgroup_late(e->cgroup, e->pid) < 0)
        return -1;
    go = (struct message){.kind = MESSAGE_GO};
    return message_send(e->peer, &go, -1);
}

/* The clone's end of a link is born in its network namespace, which only its pid names. */
static int host_links(struct executor *e, const struct step *step)
{
    struct batch batch = {step->args[0].data, step->args[0].size, arg_number(step, 1), e->pid};

    return netlink_step(&batch, step, 2, e->failure.subject, sizeof(e->failure.subject));
}

static int host_step(struct executor *e, uint32_t index)
{
    const struct step *step = &e->plan->steps[index];

    switch (step->op) {
    case OP_DEVICES:
        return attach_device_program(arg_fd(step, 0), &step->args[1]);
    case OP_JOIN_FIRST:
        /* Only children enter a pid namespace: the clone will be born there. */
        return setns(arg_fd(step, 0), (int)arg_number(step, 1));
    case OP_INITIAL_AFFINITY:
        return (int)syscall(SYS_sched_setaffinity, 0, step->args[0].size, step->args[0].data);
    case OP_TIME:
        return time_offsets(step);
    case OP_CLONE:
        return clone_container(e, arg_number(step, 0), index + 1);
    case OP_ID_MAPS:
        if (write_proc(e->pid, "uid_map", arg_text(step, 0)) < 0)
            return -1;
        return write_proc(e->pid, "gid_map", arg_text(step, 1));
    case OP_OOM_SCORE:
        return write_proc(e->pid, "oom_score_adj", arg_text(step, 0));
    case OP_NETLINK_HOST:
        return host_links(e, step);
    case OP_READY:
    case OP_SYNC:
        return e->sync(e->context, index);
    default:
        errno = EINVAL;
        return -1;
    }
}

static int failed(struct executor *e, uint32_t step, int error)
{
    /* The subject stays: a step that has several objects has named the one. */
    e->failure.step = step;
    e->failure.error = error;
    return -1;
}

/* Steps of the host from `index` on, up to the clone; returns the first that is not done, or NO_STEP
 * after a failure. */
static uint32_t host_steps(struct executor *e, uint32_t index)
{
    for (; index < e->plan->count; index++) {
        enum side side = plan_ops[e->plan->steps[index].op].side;

        if (side == SIDE_CONTAINER)
            break;
        uint64_t start = trace_start(e);

        if (side == SIDE_HOST && host_step(e, index) < 0) {
            failed(e, index, errno);
            return NO_STEP;
        }
        if (side == SIDE_HOST)
            trace_end(e, index, start);
        /* From here on the clone says whose turn it is. */
        if (e->plan->steps[index].op == OP_CLONE)
            return index + 1;
    }
    return index;
}

static int take_descriptor(struct executor *e, uint32_t kind, int fd)
{
    int result, saved;

    if (fd < 0 || (!e->pass && kind != MESSAGE_CONSOLE)) {
        errno = EPROTO;
        return -1;
    }
    if (e->pass) {
        result = e->pass(e->context, kind, fd);
        saved = errno;
        close(fd);
        errno = saved;
        return result;
    }
    if (e->console >= 0)
        close(e->console);
    e->console = fd;
    return 0;
}

/* Serve the clone until it has become the container's program. */
static int follow(struct executor *e)
{
    struct message message, go = {.kind = MESSAGE_GO};
    int fd, announced = 0;

    for (;;) {
        ssize_t got = message_receive(e->peer, &message, &fd);

        if (got == 0)
            /* The socket closes on exec. Closed before the clone announced it, it died. */
            return announced ? 0 : failed(e, NO_STEP, ECHILD);
        if (got != (ssize_t)sizeof(message))
            return failed(e, NO_STEP, got < 0 ? errno : EPROTO);
        switch (message.kind) {
        case MESSAGE_CONSOLE:
        case MESSAGE_NOTIFY:
            if (take_descriptor(e, message.kind, fd) < 0)
                return failed(e, NO_STEP, errno);
            break;
        case MESSAGE_TURN:
            if (message.failure.step >= e->plan->count)
                return failed(e, NO_STEP, EPROTO);
            if (host_steps(e, message.failure.step) == NO_STEP)
                return -1;
            if (message_send(e->peer, &go, -1) < 0)
                return failed(e, message.failure.step, errno);
            break;
        case MESSAGE_EXEC:
            announced = 1;
            break;
        case MESSAGE_WAITING:
            return 0;
        case MESSAGE_FAILED:
            message.failure.subject[sizeof(message.failure.subject) - 1] = 0;
            e->failure = message.failure;
            return -1;
        default:
            return failed(e, NO_STEP, EPROTO);
        }
    }
}

int executor_run(struct executor *e)
{
    const struct step *exec = &e->plan->steps[e->plan->count - 1];
    int result = -1;

    e->pid = -1;
    e->pidfd = e->console = e->peer = -1;
    e->failure = (struct failure){.step = NO_STEP};
    e->argv = vector(exec, 0);
    e->envp = vector(exec, 1);
    if (!e->argv || !e->envp)
        failed(e, NO_STEP, ENOMEM);
    else if (host_steps(e, 0) != NO_STEP)
        result = follow(e);
    if (e->peer >= 0)
        close(e->peer);
    e->peer = -1;
    free(e->argv);
    free(e->envp);
    e->argv = e->envp = NULL;
    if (result < 0 && e->pid > 0) {
        sys_pidfd_send_signal(e->pidfd, SIGKILL);
        /* A sibling is its parent's to reap. */
        while (!e->sibling && waitpid(e->pid, NULL, 0) < 0 && errno == EINTR)
            ;
    }
    if (result < 0 && e->console >= 0) {
        close(e->console);
        e->console = -1;
    }
    return result;
}
