/* The events that a monitor tells: what it started, what the kernel killed, how it ended. */
#ifndef PYCONTAIN_EVENT_H
#define PYCONTAIN_EVENT_H

#include <stdbool.h>
#include <stdint.h>

struct events {
    int folder;         /* of the journal (pycontain/store/journal.py); -1: nobody is told */
    int state;          /* the container's folder, with the file "event": whom the events are about */
    const char *begin, *end;  /* actions, escaped as JSON strings hold them */
    const char *more;   /* members of the attributes, each after a comma; may be empty */
    char *about;        /* the file as last read */
    uint64_t began;     /* ns since the epoch */
    int memory;         /* memory.events of the cgroup; -1 where it is not accounted for */
    long long killed;   /* processes that the kernel killed there for want of memory, as told */
};

void events_begin(struct events *events);
/* Tell of kills that nobody was told of yet. */
void events_oom(struct events *events);
/* `code` is what a shell would report. With `last` nothing more comes of this run: the file "event"
 * is removed, which says that its end was told. */
void events_end(struct events *events, int code, bool last);

#endif
