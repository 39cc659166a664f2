/* The init of --init and of pods: starts one program, reaps whatever is left to it, passes signals
 * on, and ends with the program's status. Without a program it only reaps, until SIGTERM or SIGINT.
 *
 * Usage: init [-- PROGRAM [ARGUMENT…]] */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static const char *base(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash ? slash + 1 : path;
}

static pid_t start(char **argv, const sigset_t *before)
{
    int report[2], error;
    pid_t pid;

    if (pipe2(report, O_CLOEXEC) < 0)
        return -1;
    pid = fork();
    if (pid == 0) {
        /* A process group of its own in the foreground: Ctrl-C reaches the program, not us. */
        if (setpgid(0, 0) == 0 && isatty(0)) {
            signal(SIGTTOU, SIG_IGN);
            tcsetpgrp(0, getpid());
            signal(SIGTTOU, SIG_DFL);
        }
        sigprocmask(SIG_SETMASK, before, NULL);
        execvp(argv[0], argv);
        error = errno;
        if (write(report[1], &error, sizeof(error)) < 0)
            _exit(1);
        _exit(127);
    }
    close(report[1]);
    if (pid > 0 && read(report[0], &error, sizeof(error)) == sizeof(error)) {
        dprintf(2, "init: %s: %s\n", argv[0], strerror(error));
        _exit(error == ENOENT ? 127 : 126);
    }
    close(report[0]);
    return pid;
}

static int status_code(int status)
{
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

int main(int argc, char **argv)
{
    sigset_t all, before;
    pid_t program = 0;

    if (argc > 1 && (strcmp(argv[1], "--") != 0 || argc == 2)) {
        dprintf(2, "usage: %s [-- PROGRAM [ARGUMENT...]]\n", base(argv[0]));
        return 64;
    }
    /* Where it is not pid 1 (--pid host), orphans still come here. */
    if (getpid() != 1)
        prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &before);
    if (argc > 2) {
        program = start(argv + 2, &before);
        if (program < 0) {
            dprintf(2, "init: fork: %s\n", strerror(errno));
            return 126;
        }
    }
    for (;;) {
        int signal_number, status;
        pid_t pid;

        if (sigwait(&all, &signal_number))
            continue;
        if (signal_number == SIGCHLD) {
            while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
                if (pid == program)
                    return status_code(status);
        } else if (program) {
            kill(program, signal_number);
        } else if (signal_number == SIGTERM || signal_number == SIGINT) {
            return 0;
        }
    }
}
