/* Running one hook (runtime-spec, config.md, "POSIX-platform Hooks"): in the clone for those of the
 * container's namespaces, in the interpreter for those of the runtime's. */
#ifndef PYCONTAIN_HOOK_H
#define PYCONTAIN_HOOK_H

#include <stddef.h>

struct hook {
    const char *path;
    char *const *argv;
    char *const *envp;
    int timeout;              /* ms, 0 for none */
    const char *state[3];     /* its standard input, in pieces */
};

/* 0 when it ended with 0. Otherwise -1 with errno: ECANCELED when it ran and failed, with how it
 * ended and the last of what it printed in `said`; ETIMEDOUT when it was killed. */
int hook_run(const struct hook *hook, char *said, size_t size);

#endif
