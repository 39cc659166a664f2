/* See hook.h. Nothing here allocates, and only calls that a seccomp filter for containers lets
 * through are made: no clone3, no pidfd. */
#include "hook.h"
#include "sys.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>

#define TICK_MS 10

static uint64_t now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* A file, not a pipe: a hook that does not read its state must not stop us. */
static int state_file(const struct hook *hook)
{
    int fd = memfd_create("state", MFD_CLOEXEC);

    for (int i = 0; fd >= 0 && i < 3; i++) {
        const char *at = hook->state[i];
        size_t left = strlen(at);

        while (left) {
            ssize_t n = write(fd, at, left);

            if (n < 0 && errno == EINTR)
                continue;
            if (n < 0) {
                close(fd);
                return -1;
            }
            at += n;
            left -= (size_t)n;
        }
    }
    if (fd >= 0)
        lseek(fd, 0, SEEK_SET);
    return fd;
}

static void become(const struct hook *hook, int state, int output)
{
    sigset_t none;

    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    if (dup2(state, 0) < 0 || dup2(output, 1) < 0 || dup2(output, 2) < 0 ||
        sys_close_range(3, ~0u, CLOSE_RANGE_CLOEXEC) < 0)
        _exit(126);
    execve(hook->path, hook->argv, hook->envp);
    dprintf(2, "%s", strerror(errno));
    _exit(127);
}

/* The last `size` bytes of what comes: a program's reason stands at the end of its words. */
struct tail {
    char *text;
    size_t size, used;
};

static void keep(struct tail *tail, const char *data, size_t count)
{
    size_t room = tail->size - 1;

    if (count > room) {
        data += count - room;
        count = room;
    }
    if (tail->used + count > room) {
        size_t away = tail->used + count - room;

        memmove(tail->text, tail->text + away, tail->used - away);
        tail->used -= away;
    }
    memcpy(tail->text + tail->used, data, count);
    tail->used += count;
}

static int read_some(int fd, struct tail *tail)
{
    char data[512];
    ssize_t n = read(fd, data, sizeof(data));

    if (n > 0)
        keep(tail, data, (size_t)n);
    return n > 0;
}

/* Its wait status; -1 with ETIMEDOUT when it was killed for being late. */
static int follow(pid_t pid, int output, int timeout, struct tail *tail)
{
    uint64_t end = timeout ? now_ms() + (uint64_t)timeout : UINT64_MAX;
    struct pollfd pipe = {.fd = output, .events = POLLIN};
    int status, open = 1;

    for (;;) {
        pid_t got;

        /* Whatever it started may hold the pipe open: its own end is what counts. */
        if (open && poll(&pipe, 1, TICK_MS) > 0)
            open = read_some(output, tail);
        else if (!open)
            poll(NULL, 0, 1);
        got = waitpid(pid, &status, WNOHANG);
        if (got < 0 && errno != EINTR)
            return -1;
        if (got == pid)
            break;
        if (now_ms() >= end) {
            kill(pid, SIGKILL);
            waitpid(pid, &status, 0);
            errno = ETIMEDOUT;
            return -1;
        }
    }
    while (open && poll(&pipe, 1, 0) > 0)
        open = read_some(output, tail);
    return status;
}

static int judge(int status, const struct tail *tail, char *said, size_t size)
{
    size_t used = tail->used;
    const char *what = WIFSIGNALED(status) ? "signal" : "exit status";
    int number = WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status);

    if (!status)
        return 0;
    while (used && (tail->text[used - 1] == '\n' || tail->text[used - 1] == ' '))
        used--;
    snprintf(said, size, "%s %d%s%.*s", what, number, used ? ": " : "", (int)used, tail->text);
    errno = ECANCELED;
    return -1;
}

int hook_run(const struct hook *hook, char *said, size_t size)
{
    char text[200];
    struct tail tail = {.text = text, .size = sizeof(text)};
    int pipes[2] = {-1, -1}, state = state_file(hook), status, saved;
    pid_t pid;

    said[0] = 0;
    if (state < 0)
        return -1;
    if (pipe2(pipes, O_CLOEXEC) < 0) {
        close(state);
        return -1;
    }
    pid = fork();
    if (pid == 0)
        become(hook, state, pipes[1]);
    saved = errno;
    close(pipes[1]);
    close(state);
    errno = saved;
    status = pid < 0 ? -1 : follow(pid, pipes[0], hook->timeout, &tail);
    saved = errno;
    close(pipes[0]);
    errno = saved;
    return status < 0 ? -1 : judge(status, &tail, said, size);
}
