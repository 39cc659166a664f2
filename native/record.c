/* See record.h. Times are nanoseconds, CPU time microseconds; what is unknown is null. */
#include "record.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

uint64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static ssize_t read_text(int folder, const char *path, char *text, size_t size)
{
    int fd = openat(folder, path, O_RDONLY | O_CLOEXEC);
    ssize_t n;

    if (fd < 0)
        return -1;
    n = read(fd, text, size - 1);
    close(fd);
    if (n >= 0)
        text[n] = 0;
    return n;
}

uint64_t start_time(pid_t pid)
{
    char path[32], text[1024], *at;

    snprintf(path, sizeof(path), "/proc/%d/stat", pid);
    if (read_text(AT_FDCWD, path, text, sizeof(text)) <= 0)
        return 0;
    /* The second field is the name in brackets and may hold anything: count from the last one. */
    at = strrchr(text, ')');
    for (int field = 2; at && field < 22; field++)
        at = strchr(at + 1, ' ');
    return at ? strtoull(at + 1, NULL, 10) : 0;
}

#define RESERVED ".exit.json.next"
#define ROOM 1024

int record_reserve(struct record *record)
{
    static const char zeros[ROOM];
    int fd;

    if (!record->durable)
        return 0;
    fd = openat(record->folder, RESERVED,
                O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return -1;
    record->reserved = fd;
    if (fallocate(fd, 0, 0, ROOM) == 0)
        return 0;
    if (errno != EOPNOTSUPP)
        return -1;
    return pwrite(fd, zeros, ROOM, 0) == ROOM ? 0 : -1;
}

void record_forget(struct record *record)
{
    if (record->reserved >= 0)
        unlinkat(record->folder, RESERVED, 0);
}

/* Atomic, as publish is, into the room that was reserved. */
static int publish_reserved(const struct record *record, const char *text)
{
    size_t size = strlen(text);

    if (pwrite(record->reserved, text, size, 0) != (ssize_t)size ||
        ftruncate(record->reserved, (off_t)size) < 0 || fsync(record->reserved) < 0 ||
        renameat(record->folder, RESERVED, record->folder, "exit.json") < 0)
        return -1;
    return fsync(record->folder);
}

/* Atomic: whole under a name of its own, then renamed; on disk before the name where durable. */
static int publish(int folder, const char *name, const char *text, int durable)
{
    char temporary[40];
    size_t size = strlen(text);
    int fd;

    snprintf(temporary, sizeof(temporary), ".%s.%d", name, getpid());
    fd = openat(folder, temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return -1;
    if (write(fd, text, size) != (ssize_t)size || (durable && fsync(fd) < 0)) {
        int saved = errno ? errno : ENOSPC;

        close(fd);
        unlinkat(folder, temporary, 0);
        errno = saved;
        return -1;
    }
    close(fd);
    if (renameat(folder, temporary, folder, name) < 0) {
        unlinkat(folder, temporary, 0);
        return -1;
    }
    return durable ? fsync(folder) : 0;
}

int record_run(struct record *record, pid_t pid)
{
    char text[640];

    record->started = now_ns();
    snprintf(text, sizeof(text),
             "{\"run\":\"%.100s\",\"boot\":\"%.100s\",\"monitor\":%d,\"monitor_start\":%llu,"
             "\"pid\":%d,\"pid_start\":%llu,\"started\":%llu}\n",
             record->run, record->boot, getpid(), (unsigned long long)start_time(getpid()), pid,
             (unsigned long long)start_time(pid), (unsigned long long)record->started);
    return publish(record->state, "run.json", text, 0);
}

/* "key 123" lines; -1 where the file or the key is missing. */
static long long counter(int cgroup, const char *file, const char *key)
{
    char text[4096], *at;
    size_t size = strlen(key);

    if (cgroup < 0 || read_text(cgroup, file, text, sizeof(text)) <= 0)
        return -1;
    if (!size)
        return atoll(text);
    for (at = text; at; at = (at = strchr(at, '\n')) ? at + 1 : NULL)
        if (!strncmp(at, key, size) && at[size] == ' ')
            return atoll(at + size + 1);
    return -1;
}

static const char *number(char *text, size_t size, long long value)
{
    if (value < 0)
        return "null";
    snprintf(text, size, "%lld", value);
    return text;
}

int record_exit(const struct record *record, int status, const char *reason, uint64_t log_lost)
{
    char text[1024], cpu[24], memory[24], quoted[64] = "null";
    long long kills = counter(record->cgroup, "memory.events", "oom_kill");
    int signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;

    if (reason)
        snprintf(quoted, sizeof(quoted), "\"%s\"", reason);
    snprintf(text, sizeof(text),
             "{\"run\":\"%.100s\",\"code\":%d,\"signal\":%d,\"oom_killed\":%s,\"started\":%llu,"
             "\"finished\":%llu,\"cpu_usec\":%s,\"memory_peak\":%s,\"log_lost\":%llu,"
             "\"reason\":%s,\"error\":null}\n",
             record->run, signal ? 128 + signal : WEXITSTATUS(status), signal,
             kills < 0 ? "null" : kills > 0 ? "true" : "false",
             (unsigned long long)record->started, (unsigned long long)now_ns(),
             number(cpu, sizeof(cpu), counter(record->cgroup, "cpu.stat", "usage_usec")),
             number(memory, sizeof(memory), counter(record->cgroup, "memory.peak", "")),
             (unsigned long long)log_lost, quoted);
    if (record->reserved >= 0)
        return publish_reserved(record, text);
    return publish(record->folder, "exit.json", text, record->durable);
}
