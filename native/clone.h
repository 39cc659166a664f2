/* What the files of the clone's side share: steps.c (mounts and the walk), process.c (what the
 * process is and may do), hook.c. */
#ifndef PYCONTAIN_CLONE_H
#define PYCONTAIN_CLONE_H

#include "executor.h"

struct clone {
    const struct executor *executor;
    int root;       /* the new root's mount */
    int proc;       /* the host's /proc, checked to be one */
    int blank;      /* the empty read-only folder that masks folders */
    int late;       /* the file for a failure after `wait`, -1 before it */
    struct message report;
};

/* Name the one of several objects that a step fails on. */
void subject(struct clone *c, const char *text);
/* Open a path below the root (openat2, RESOLVE_IN_ROOT). */
int in_root(struct clone *c, const char *path, uint64_t flags);
/* The host's /proc: c->proc. */
int open_proc(struct clone *c);

int step_session(const struct step *step);
int step_identity(const struct step *step);
int step_rlimit(const struct step *step);
int step_seccomp(struct clone *c, const struct step *step);
int step_credentials(struct clone *c, const struct step *step);
int step_parent_death(struct clone *c, const struct step *step);
int step_cwd(const struct step *step);
int step_scheduler(const struct step *step);
int step_io_priority(const struct step *step);
int step_affinity(const struct step *step);
int step_memory_policy(const struct step *step);
int step_apparmor(struct clone *c, const struct step *step);
int step_lookup(const struct step *step);
int step_wait(struct clone *c, uint32_t index);
int step_inherit(const struct step *step);
int step_close(struct clone *c, const struct step *step);
int step_exec(struct clone *c, const struct step *step);
int step_hook(struct clone *c, const struct step *step);

#endif
