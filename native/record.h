/* The two documents that a monitor writes: who runs (run.json) and how it ended (exit.json). */
#ifndef PYCONTAIN_RECORD_H
#define PYCONTAIN_RECORD_H

#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

struct record {
    const char *run, *boot;
    int folder, state, cgroup;
    int durable;
    int net;            /* /proc/PID/net/dev of the container, which keeps its namespace; -1 for none */
    int reserved;       /* file of the exit record to be, with room on disk; -1 for none */
    uint64_t started;   /* ns since the epoch */
};

uint64_t now_ns(void);
/* Field 22 of /proc/PID/stat: start time in clock ticks since boot; 0 where unreadable. */
uint64_t start_time(pid_t pid);
int record_run(struct record *record, pid_t pid);
/* Take the room for the exit record while there is some; the record of a full disk's container must
 * not be what the disk is too full for. */
int record_reserve(struct record *record);
/* Open the counters of the container's network namespace, unless that is ours: they are read when
 * its last process is gone. */
void record_watch_network(struct record *record, pid_t pid);
/* It will not be needed: the container did not start. */
void record_forget(struct record *record);
/* `status` is wait4's. reason may be NULL. */
int record_exit(const struct record *record, int status, const char *reason, uint64_t log_lost);

#endif
