/* The OCI runner: carries one plan out for `pycontain-runtime` and ends. No image, no monitor.
 *
 * The container's first process is born as its sibling, so it belongs to the command that started
 * the runner, and when that has ended, to the nearest subreaper. What is the command's part (state,
 * hooks, id maps of ordinary users) is done at sync points: the runner says where it is, over the
 * socket of `owner`, and waits for GO. Without an answer the container does not come to be. */
#include "executor.h"
#include "sys.h"

#include <errno.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/stat.h>

static struct runner {
    struct plan plan;
    struct executor executor;
    int owner;
} r;

static int ask(uint32_t kind, uint32_t step, int fd)
{
    struct message message = {.kind = kind, .pid = r.executor.pid, .failure.step = step}, answer;
    int ignored;

    if (message_send(r.owner, &message, fd) < 0)
        return -1;
    if (message_receive(r.owner, &answer, &ignored) <= 0 || answer.kind != MESSAGE_GO) {
        errno = ECANCELED;
        return -1;
    }
    return 0;
}

static int sync_point(void *context, uint32_t step)
{
    (void)context;
    return ask(MESSAGE_TURN, step, -1);
}

static int pass(void *context, uint32_t kind, int fd)
{
    (void)context;
    return ask(kind, NO_STEP, fd);
}

static void take_setting(const struct step *step)
{
    switch (step->op) {
    case OP_OWNER:
        r.owner = arg_fd(step, 0);
        break;
    case OP_CGROUP:
        r.executor.cgroup = arg_fd(step, 0);
        break;
    case OP_STREAMS:
        for (int i = 0; i < 3; i++)
            r.executor.stdio[i] = arg_fd(step, i);
        break;
    case OP_TRACE:
        r.executor.trace = arg_fd(step, 0);
        break;
    default:
        break;
    }
}

static int report(uint32_t kind)
{
    struct message message = {.kind = kind, .pid = r.executor.pid,
                              .failure = r.executor.failure};

    return message_send(r.owner, &message, -1);
}

int main(void)
{
    const char *why;

    /* Before anything of a container is near: nobody in it may look at us or trace us. */
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    umask(077);
    r.owner = r.executor.cgroup = r.executor.trace = -1;
    r.executor.stdio[1] = 1;
    r.executor.stdio[2] = 2;
    /* Descriptor 3 stays open: what is opened later must lie above those that were handed over. */
    if (plan_read(PLAN_FD, &r.plan, &why) < 0)
        return 2;
    for (uint32_t i = 0; i < r.plan.count; i++)
        take_setting(&r.plan.steps[i]);
    if (r.owner < 0)
        return 2;
    r.executor.plan = &r.plan;
    r.executor.sibling = 1;
    r.executor.sync = sync_point;
    r.executor.pass = pass;
    if (executor_run(&r.executor) < 0) {
        report(MESSAGE_FAILED);
        return 1;
    }
    /* Whoever started it is gone, and with it what the container is known by. */
    if (ask(MESSAGE_DONE, NO_STEP, -1) < 0) {
        sys_pidfd_send_signal(r.executor.pidfd, SIGKILL);
        return 1;
    }
    return 0;
}
