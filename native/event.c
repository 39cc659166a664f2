/* Appending to the journal of events. The form of a line, and who may do what with the files, is in
 * pycontain/store/journal.py; here are only appends, the files are rotated there.
 *
 * Nothing here fails: an event that cannot be written is lost, the records tell what happened. */
#include "event.h"
#include "record.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define JOURNAL "journal"
#define ABOUT "event"
#define AFTER "event.after"
#define ABOUT_MOST (64 << 10)
#define ATTEMPTS 100

static bool same_file(const struct stat *one, const struct stat *other)
{
    return one->st_dev == other->st_dev && one->st_ino == other->st_ino;
}

/* The journal's newest file, locked shared: it is not rotated away as long as it is open. */
static int open_journal(int folder)
{
    struct stat ours, newest;

    for (int i = 0; i < ATTEMPTS; i++) {
        int fd = openat(folder, JOURNAL, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

        if (fd < 0)
            return -1;
        if (flock(fd, LOCK_SH) == 0 && fstat(fd, &ours) == 0 &&
            fstatat(folder, JOURNAL, &newest, AT_SYMLINK_NOFOLLOW) == 0 &&
            same_file(&ours, &newest))
            return fd;
        close(fd);
    }
    return -1;
}

/* Whether the last line was torn: its writer was killed, or there was no room for all of it. */
static bool is_torn(int fd)
{
    struct stat info;
    char last = '\n';

    return fstat(fd, &info) == 0 && info.st_size > 0 &&
           pread(fd, &last, 1, info.st_size - 1) == 1 && last != '\n';
}

/* One write: with O_APPEND those of many processes do not mix. */
static void append(int folder, const char *line, size_t size)
{
    int fd = open_journal(folder);
    struct iovec parts[2] = {{"\n", 1}, {(void *)line, size}};
    bool torn;

    if (fd < 0)
        return;
    torn = is_torn(fd);
    while (writev(fd, parts + !torn, 1 + torn) < 0 && errno == EINTR)
        ;
    close(fd);
}

/* A file of the container's state folder as a string, NULL where there is none. */
static char *read_text(const struct events *events, const char *name)
{
    int fd = openat(events->state, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    struct stat info;
    char *text = NULL;

    if (fd < 0)
        return NULL;
    if (fstat(fd, &info) == 0 && info.st_size > 0 && info.st_size <= ABOUT_MOST &&
        (text = malloc((size_t)info.st_size + 1))) {
        ssize_t n = read(fd, text, (size_t)info.st_size);

        if (n == info.st_size) {
            text[n] = 0;
        } else {
            free(text);
            text = NULL;
        }
    }
    close(fd);
    return text;
}

/* Read at each event, because `rename` replaces it; where it is gone, what it said last holds. */
static void read_about(struct events *events)
{
    char *text = read_text(events, ABOUT);

    if (!text)
        return;
    free(events->about);
    events->about = text;
}

static void tell(struct events *events, const char *action, const char *result)
{
    char *line;
    int size;

    if (events->folder < 0)
        return;
    read_about(events);
    if (!events->about)
        return;
    size = asprintf(&line, "{\"time\":%llu,\"type\":\"container\",\"action\":\"%s\",%s%s%s}}\n",
                    (unsigned long long)now_ns(), action, events->about, events->more, result);
    if (size < 0)
        return;
    append(events->folder, line, (size_t)size);
    free(line);
}

/* What the end brings about for others, volumes that are unmounted: a line each, whole but for the
 * time. */
static void tell_after(const struct events *events)
{
    char *text = read_text(events, AFTER), *rest = text, *part, *line;
    int size;

    while (rest && (part = strsep(&rest, "\n"))) {
        if (!*part)
            continue;
        size = asprintf(&line, "{\"time\":%llu,%s\n", (unsigned long long)now_ns(), part);
        if (size < 0)
            break;
        append(events->folder, line, (size_t)size);
        free(line);
    }
    free(text);
}

void events_begin(struct events *events)
{
    events->began = now_ns();
    tell(events, events->begin, "");
}

void events_oom(struct events *events)
{
    char text[1024], *at;
    ssize_t n;
    long long killed;

    if (events->memory < 0)
        return;
    n = pread(events->memory, text, sizeof(text) - 1, 0);
    if (n <= 0) { /* the cgroup is gone, which poll(2) would tell for ever */
        close(events->memory);
        events->memory = -1;
        return;
    }
    text[n] = 0;
    at = strstr(text, "\noom_kill ");
    killed = at ? atoll(at + 10) : 0;
    if (killed > events->killed)
        tell(events, "oom", "");
    events->killed = killed;
}

void events_end(struct events *events, int code, bool last)
{
    char result[80];

    events_oom(events);
    snprintf(result, sizeof(result), ",\"exitCode\":\"%d\",\"execDuration\":\"%llu\"", code,
             (unsigned long long)((now_ns() - events->began) / 1000000000u));
    if (events->folder < 0)
        return;
    tell(events, events->end, result);
    if (last) {
        tell_after(events);
        unlinkat(events->state, ABOUT, 0);
    }
    /* Before the owner hears of the end: from then on an exec keeps no file system of the store busy.
     * The container's own records are in the same state folder, which stays open for them. */
    close(events->folder);
    if (!last)
        close(events->state);
    events->folder = -1;
}
