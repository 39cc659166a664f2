/* See record.h. Times are nanoseconds, CPU time microseconds; what is unknown is null. */
#include "record.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
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
    size_t have = 0;
    ssize_t n;

    if (fd < 0)
        return -1;
    /* One read of a file of the kernel may end at a line before its end. */
    while ((n = read(fd, text + have, size - 1 - have)) > 0)
        have += (size_t)n;
    close(fd);
    text[have] = 0;
    return n < 0 ? -1 : (ssize_t)have;
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
#define ROOM 2048

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

/* What all devices of io.stat have under `key` together; -1 where there is no such file. Each line is
 * "MAJ:MIN rbytes=1 wbytes=2 ..."; one without IO may have no keys. */
static long long io_total(int cgroup, const char *key)
{
    char text[16384], *at = text;
    long long total = 0;

    if (cgroup < 0 || read_text(cgroup, "io.stat", text, sizeof(text)) < 0)
        return -1;
    for (size_t size = strlen(key); (at = strstr(at, key)); at += size)
        if (at > text && at[-1] == ' ' && at[size] == '=')
            total += atoll(at + size + 1);
    return total;
}

/* The "total" of the line "some" of a pressure file, in microseconds; -1 where there is none. */
static long long stalled(int cgroup, const char *file)
{
    char text[512], *at;

    if (cgroup < 0 || read_text(cgroup, file, text, sizeof(text)) <= 0 || strncmp(text, "some ", 5))
        return -1;
    at = strstr(text, "total=");
    return at ? atoll(at + 6) : -1;
}

void record_watch_network(struct record *record, pid_t pid)
{
    struct stat ours, theirs;
    char path[64];

    snprintf(path, sizeof(path), "/proc/%d/ns/net", pid);
    if (stat("/proc/self/ns/net", &ours) < 0 || stat(path, &theirs) < 0 ||
        (ours.st_ino == theirs.st_ino && ours.st_dev == theirs.st_dev))
        return;
    snprintf(path, sizeof(path), "/proc/%d/net/dev", pid);
    record->net = open(path, O_RDONLY | O_CLOEXEC);
}

/* Bytes received and sent by all interfaces but the loopback. After two lines of headings each line is
 * "name: " and 16 numbers, of which the first and the ninth count bytes (proc_pid_net(5)). */
static void network_totals(const struct record *record, long long *received, long long *sent)
{
    char text[16384], *line, *at;
    ssize_t n, have = 0;

    *received = *sent = -1;
    if (record->net < 0)
        return;
    while ((n = read(record->net, text + have, sizeof(text) - 1 - (size_t)have)) > 0)
        have += n;
    if (n < 0)
        return;
    text[have] = 0;
    *received = *sent = 0;
    for (line = text; line && *line; line = (line = strchr(line, '\n')) ? line + 1 : NULL) {
        char *end = strchr(line, '\n');

        at = strchr(line, ':');
        line += strspn(line, " ");
        if (!at || (end && at > end) || !strncmp(line, "lo:", 3))
            continue;
        *received += (long long)strtoull(at + 1, &at, 10);
        for (int field = 1; field < 8; field++)
            strtoull(at, &at, 10);
        *sent += (long long)strtoull(at, NULL, 10);
    }
}

struct text {
    char *at;
    size_t left;
};

static void put_number(struct text *text, const char *key, long long value)
{
    int size = value < 0 ? snprintf(text->at, text->left, ",\"%s\":null", key)
                         : snprintf(text->at, text->left, ",\"%s\":%lld", key, value);

    if (size > 0 && (size_t)size < text->left) {
        text->at += size;
        text->left -= (size_t)size;
    }
}

/* What the container used, as members of a JSON object, each after a comma. */
static void put_totals(const struct record *record, struct text *text)
{
    static const struct {
        const char *name, *file, *key;
    } counters[] = {
        {"cpu_usec", "cpu.stat", "usage_usec"},
        {"cpu_user_usec", "cpu.stat", "user_usec"},
        {"cpu_system_usec", "cpu.stat", "system_usec"},
        {"memory_peak", "memory.peak", ""},
        {"pids_peak", "pids.peak", ""},
    };
    static const struct {
        const char *name, *key;
    } io[] = {
        {"block_read", "rbytes"},
        {"block_written", "wbytes"},
        {"block_reads", "rios"},
        {"block_writes", "wios"},
    };
    static const struct {
        const char *name, *file;
    } pressure[] = {
        {"cpu_stalled_usec", "cpu.pressure"},
        {"memory_stalled_usec", "memory.pressure"},
        {"io_stalled_usec", "io.pressure"},
    };
    long long received, sent;

    for (size_t i = 0; i < sizeof(counters) / sizeof(*counters); i++)
        put_number(text, counters[i].name,
                   counter(record->cgroup, counters[i].file, counters[i].key));
    for (size_t i = 0; i < sizeof(io) / sizeof(*io); i++)
        put_number(text, io[i].name, io_total(record->cgroup, io[i].key));
    for (size_t i = 0; i < sizeof(pressure) / sizeof(*pressure); i++)
        put_number(text, pressure[i].name, stalled(record->cgroup, pressure[i].file));
    network_totals(record, &received, &sent);
    put_number(text, "net_received", received);
    put_number(text, "net_sent", sent);
}

int record_exit(const struct record *record, int status, const char *reason, uint64_t log_lost)
{
    char text[ROOM], totals[1024] = "", quoted[64] = "null";
    struct text more = {totals, sizeof(totals)};
    long long kills = counter(record->cgroup, "memory.events", "oom_kill");
    int signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;

    if (reason)
        snprintf(quoted, sizeof(quoted), "\"%s\"", reason);
    put_totals(record, &more);
    snprintf(text, sizeof(text),
             "{\"run\":\"%.100s\",\"code\":%d,\"signal\":%d,\"oom_killed\":%s,\"started\":%llu,"
             "\"finished\":%llu%s,\"log_lost\":%llu,\"reason\":%s,\"error\":null}\n",
             record->run, signal ? 128 + signal : WEXITSTATUS(status), signal,
             kills < 0 ? "null" : kills > 0 ? "true" : "false",
             (unsigned long long)record->started, (unsigned long long)now_ns(), totals,
             (unsigned long long)log_lost, quoted);
    if (record->reserved >= 0)
        return publish_reserved(record, text);
    return publish(record->folder, "exit.json", text, record->durable);
}
