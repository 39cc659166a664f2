/* The executor: clones a process and carries a plan out.
 *
 * The list is walked once. Steps of the container's side run in the clone, steps of the host's
 * side in the parent; where the side changes, the clone says so over a socket pair and waits.
 * Those changes are the sync points: id maps, hooks, network, console, the run record. */
#ifndef PYCONTAIN_EXECUTOR_H
#define PYCONTAIN_EXECUTOR_H

#include "plan.h"

#include <stdint.h>
#include <sys/types.h>

#define NO_STEP UINT32_MAX

/* Why a plan could not be carried out. */
struct failure {
    uint32_t step;      /* index in the plan, NO_STEP outside it */
    int32_t error;      /* errno */
    char subject[120];  /* which of several objects, empty when the step says it */
};

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
    /* called at OP_READY in the parent; 0 or -1 with errno */
    int (*ready)(void *context);
    void *context;
    struct failure failure;
};

/* Carry the plan out up to the successful execve. 0; or -1 with failure filled in and the clone
 * killed and reaped. */
int executor_run(struct executor *executor);

/* The clone's side, never returns. (steps.c) */
void container_side(const struct executor *executor, uint32_t first) __attribute__((noreturn));

/* Messages between the two. */
enum message_kind { MESSAGE_TURN = 1, MESSAGE_GO, MESSAGE_CONSOLE, MESSAGE_EXEC, MESSAGE_FAILED };
struct message {
    uint32_t kind;
    struct failure failure;  /* step alone for TURN */
};
/* What goes through the trace pipe for each step that is done. */
struct duration {
    uint32_t step;
    uint32_t zero;
    uint64_t nanoseconds;
};
uint64_t trace_start(const struct executor *executor);
void trace_end(const struct executor *executor, uint32_t step, uint64_t start);

int message_send(int socket, const struct message *message, int fd);
ssize_t message_receive(int socket, struct message *message, int *fd);

#endif
