/* Two text forms.
 *
 * k8s-file, the one that Kubernetes' CRI defines: "TIME STREAM TAG CONTENT\n", where TAG is F when
 * the content ended a line and P when more of that line follows. What was read is written at once,
 * as P where the line has not ended: nothing waits in memory, so nothing is lost with the monitor.
 *
 * json-file, docker's: {"log":"…","stream":"…","time":"…"}, where the text carries its newline. It
 * is text: a character that arrives in parts waits for its rest (three bytes at most). */
#include "log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define NAME "container.log"
#define BATCH 48
#define JSON_PIECE 8192     /* bytes of output in one entry at most */

/* After a power cut a file may end in the middle of an entry, or in zeros where its size was on the
 * disk before its data (ext4 with delayed allocation): what follows would count as the rest of that.
 * Drops what is behind the last whole entry; returns the size, or -1. */
static off_t drop_torn(int fd, off_t size)
{
    char chunk[4096];
    off_t at = size, whole = 0;

    while (at && !whole) {
        size_t length = at < (off_t)sizeof(chunk) ? (size_t)at : sizeof(chunk);
        const char *end;

        at -= (off_t)length;
        if (pread(fd, chunk, length, at) != (ssize_t)length)
            return -1;
        end = memrchr(chunk, '\n', length);
        if (end)
            whole = at + (end - chunk) + 1;
    }
    if (whole < size && ftruncate(fd, whole) < 0)
        return -1;
    return whole;
}

static int log_reopen(struct log *log)
{
    struct stat info;
    off_t size;

    log->fd = openat(log->folder, NAME, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW,
                     0640);
    if (log->fd < 0)
        return -1;
    if (fstat(log->fd, &info) < 0)
        return -1;
    size = drop_torn(log->fd, info.st_size);
    if (size < 0)
        return -1;
    log->size = (uint64_t)size;
    return 0;
}

int log_open(struct log *log, int folder, const char *driver, uint64_t limit, unsigned files)
{
    *log = (struct log){.folder = folder, .fd = -1, .limit = limit, .files = files};
    if (!strcmp(driver, "none"))
        return 0;
    if (!strcmp(driver, "k8s-file"))
        log->driver = LOG_K8S;
    else if (!strcmp(driver, "json-file"))
        log->driver = LOG_JSON;
    else
        return errno = EINVAL, -1;
    return log_reopen(log);
}

static void rotate(struct log *log)
{
    char from[32], to[32];

    close(log->fd);
    log->fd = -1;
    for (unsigned n = log->files - 1; n >= 1; n--) {
        if (n == 1)
            snprintf(from, sizeof(from), NAME);
        else
            snprintf(from, sizeof(from), NAME ".%u", n - 1);
        snprintf(to, sizeof(to), NAME ".%u", n);
        renameat(log->folder, from, log->folder, to);
    }
    if (log->files <= 1)
        unlinkat(log->folder, NAME, 0);
    log_reopen(log);
}

/* All or nothing: an entry that the disk had no room for is taken back. */
static void append(struct log *log, struct iovec *parts, int count, size_t content)
{
    size_t total = 0;
    ssize_t written;

    if (log->fd < 0 && log_reopen(log) < 0) {
        log->lost += content;
        return;
    }
    for (int i = 0; i < count; i++)
        total += parts[i].iov_len;
    do
        written = writev(log->fd, parts, count);
    while (written < 0 && errno == EINTR);
    if (written == (ssize_t)total) {
        log->size += total;
    } else {
        if (written > 0 && ftruncate(log->fd, (off_t)log->size) < 0)
            log->size += (uint64_t)written;
        log->lost += content;
    }
    if (log->limit && log->size >= log->limit)
        rotate(log);
}

static size_t stamp(char *text, size_t size)
{
    struct timespec now;
    struct tm parts;
    size_t used;

    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &parts);
    used = strftime(text, size, "%Y-%m-%dT%H:%M:%S", &parts);
    return used + (size_t)snprintf(text + used, size - used, ".%09ldZ", now.tv_nsec);
}

static void write_k8s(struct log *log, const char *stream, const char *data, size_t size)
{
    struct iovec parts[BATCH * 3];
    char time[48], full[80], partial[80];
    int count = 0;
    size_t content = 0, full_size, partial_size;

    stamp(time, sizeof(time));
    full_size = (size_t)snprintf(full, sizeof(full), "%s %s F ", time, stream);
    partial_size = (size_t)snprintf(partial, sizeof(partial), "%s %s P ", time, stream);
    while (size) {
        const char *end = memchr(data, '\n', size);
        size_t length = end ? (size_t)(end - data) + 1 : size;

        parts[count++] = (struct iovec){end ? full : partial, end ? full_size : partial_size};
        parts[count++] = (struct iovec){(void *)data, length};
        if (!end)
            parts[count++] = (struct iovec){"\n", 1};
        content += length;
        data += length;
        size -= length;
        if (count > (BATCH - 1) * 3 || !size) {
            append(log, parts, count, content);
            count = 0;
            content = 0;
        }
    }
}

/* The length of the UTF-8 character at `at`, 0 where there is none (RFC 3629). */
static size_t utf8(const unsigned char *at, size_t left)
{
    size_t length = *at < 0x80 ? 1 : *at < 0xc2 ? 0 : *at < 0xe0 ? 2 : *at < 0xf0 ? 3
                  : *at < 0xf5 ? 4 : 0;

    if (!length || length > left)
        return 0;
    for (size_t i = 1; i < length; i++)
        if ((at[i] & 0xc0) != 0x80)
            return 0;
    if ((*at == 0xe0 && at[1] < 0xa0) || (*at == 0xed && at[1] > 0x9f) ||
        (*at == 0xf0 && at[1] < 0x90) || (*at == 0xf4 && at[1] > 0x8f))
        return 0;
    return length;
}

static size_t escape(char *out, const char *data, size_t size)
{
    const unsigned char *at = (const unsigned char *)data;
    char *start = out;

    while (size) {
        size_t length = utf8(at, size);

        if (!length) {
            out += sprintf(out, "\\ufffd");
            length = 1;
        } else if (*at == '"' || *at == '\\') {
            *out++ = '\\';
            *out++ = (char)*at;
        } else if (*at == '\n') {
            *out++ = '\\';
            *out++ = 'n';
        } else if (*at < 0x20 || *at == 0x7f) {
            out += sprintf(out, "\\u%04x", *at);
        } else {
            memcpy(out, at, length);
            out += length;
        }
        at += length;
        size -= length;
    }
    return (size_t)(out - start);
}

static void append_json(struct log *log, const char *stream, const char *data, size_t size)
{
    static char text[JSON_PIECE * 6];
    char time[48], tail[128];
    struct iovec parts[3] = {{"{\"log\":\"", 8}, {text, 0}, {tail, 0}};

    stamp(time, sizeof(time));
    parts[2].iov_len = (size_t)snprintf(
        tail, sizeof(tail), "\",\"stream\":\"%s\",\"time\":\"%s\"}\n", stream, time);
    parts[1].iov_len = escape(text, data, size);
    append(log, parts, 3, size);
}

/* How many bytes at the end are the beginning of a character that goes on after them. */
static size_t torn_size(const char *data, size_t size)
{
    for (size_t back = 1; back <= 3 && back <= size; back++) {
        unsigned char at = (unsigned char)data[size - back];

        if ((at & 0xc0) == 0x80)
            continue;
        return back < (at < 0xc2 || at > 0xf4 ? 0u : at < 0xe0 ? 2u : at < 0xf0 ? 3u : 4u) ? back
                                                                                          : 0;
    }
    return 0;
}

/* Go on with a character whose beginning came with the last read; returns how much of `data` is
 * done with. */
static size_t mend(struct log *log, const char *stream, struct torn *torn, const char *data,
                   size_t size)
{
    char whole[8];
    size_t before = torn->size, more = size < 4 - before ? size : 4 - before, length;

    if (!before)
        return 0;
    memcpy(whole, torn->bytes, before);
    memcpy(whole + before, data, more);
    length = utf8((unsigned char *)whole, before + more);
    if (!length && torn_size(whole, before + more) == before + more) {
        memcpy(torn->bytes, whole, before + more);
        torn->size = before + more;
        return more;
    }
    torn->size = 0;
    append_json(log, stream, whole, length ? length : before);
    return length ? length - before : 0;
}

static void write_json(struct log *log, const char *stream, const char *data, size_t size)
{
    struct torn *torn = &log->torn[!strcmp(stream, "stderr")];
    size_t done = mend(log, stream, torn, data, size);

    data += done;
    size -= done;
    while (size) {
        size_t limit = size < JSON_PIECE ? size : JSON_PIECE;
        const char *end = memchr(data, '\n', limit);
        size_t length = end ? (size_t)(end - data) + 1 : limit - torn_size(data, limit);

        if (length)
            append_json(log, stream, data, length);
        data += length;
        size -= length;
        if (!end && limit == size + length) {
            memcpy(torn->bytes, data, size);
            torn->size = size;
            return;
        }
    }
}

void log_write(struct log *log, const char *stream, const char *data, size_t size)
{
    if (log->driver == LOG_K8S)
        write_k8s(log, stream, data, size);
    else if (log->driver == LOG_JSON)
        write_json(log, stream, data, size);
}

void log_end(struct log *log)
{
    for (int i = 0; i < 2; i++) {
        if (log->torn[i].size)
            append_json(log, i ? "stderr" : "stdout", log->torn[i].bytes, log->torn[i].size);
        log->torn[i].size = 0;
    }
}
