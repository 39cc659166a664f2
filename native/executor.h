/* The executor: clones a process and carries a plan out.
 *
 * The list is walked once. Steps of the container's side run in the clone, steps of the host's
 * side in the parent; where the side changes, the clone says so over a socket pair and waits.
 * Those changes are the sync points: id maps, hooks, network, console, the run record. */
#ifndef PYCONTAIN_EXECUTOR_H
#define PYCONTAIN_EXECUTOR_H

#include "message.h"
#include "plan.h"

#include <stdint.h>
#include <sys/types.h>

struct executor {
    const struct plan *plan;
    int cgroup;         /* where the clone starts, -1 for here */
    int stdio[3];       /* what becomes the clone's 0, 1, 2 (not used with a console) */
    pid_t pid;
    int pidfd;
    int trace;          /* pipe for durations, -1 when nobody wants to know */
    int console;        /* the terminal's other end, -1 without one */
    int peer;           /* socket to the clone */
    char **argv, **envp;
    int sibling;        /* the clone is its own parent's child (CLONE_PARENT) */
    /* called at OP_READY and OP_SYNC in the parent; 0 or -1 with errno */
    int (*sync)(void *context, uint32_t step);
    /* called with a descriptor that the clone hands out, MESSAGE_CONSOLE or MESSAGE_NOTIFY, and
     * that is closed afterwards; NULL: the console is kept in `console` */
    int (*pass)(void *context, uint32_t kind, int fd);
    void *context;
    struct failure failure;
};

/* Carry the plan out up to the successful execve, or to a `wait`. 0; or -1 with failure filled in
 * and the clone killed, and reaped unless it is a sibling. */
int executor_run(struct executor *executor);

/* The clone's side, never returns. (steps.c) */
void container_side(const struct executor *executor, uint32_t first) __attribute__((noreturn));

/* What goes through the trace pipe for each step that is done. */
struct duration {
    uint32_t step;
    uint32_t zero;
    uint64_t nanoseconds;
};
uint64_t trace_start(const struct executor *executor);
void trace_end(const struct executor *executor, uint32_t step, uint64_t start);

#endif
