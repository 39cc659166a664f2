/* The container's log: entries appended with one write each, rotated by size and count. */
#ifndef PYCONTAIN_LOG_H
#define PYCONTAIN_LOG_H

#include <stddef.h>
#include <stdint.h>

enum log_driver { LOG_NONE, LOG_K8S, LOG_JSON };

/* The beginning of a character (UTF-8) whose rest has not been read yet. */
struct torn {
    char bytes[4];
    size_t size;
};

struct log {
    enum log_driver driver;
    int folder;         /* of the container */
    int fd;
    uint64_t size, limit;
    unsigned files;
    uint64_t lost;      /* bytes that could not be written: the disk was full */
    struct torn torn[2];    /* of the two streams; json holds whole characters only */
};

/* Open (append to) the log. 0, or -1 with errno. */
int log_open(struct log *log, int folder, const char *driver, uint64_t limit, unsigned files);
/* Append what a stream ("stdout", "stderr") gave in one read. Never fails: see lost. */
void log_write(struct log *log, const char *stream, const char *data, size_t size);
/* Both streams have ended. */
void log_end(struct log *log);

#endif
