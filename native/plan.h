/* The plan: an ordered list of plain kernel steps, made by Python and carried out here.
 *
 * Wire form, host byte order, every item aligned to 8 bytes:
 *   header  struct plan_header
 *   step    u32 size (of the whole step), u16 op, u16 argument count, then the arguments
 *   argument  u32 length, u32 zero, bytes, padding; numbers are 8 bytes, strings end in NUL and
 *             hold no other, lists are strings one after the other, descriptors are numbers that
 *             index the descriptors handed to the process from PLAN_FIRST_FD on.
 *
 * A plan is read from one descriptor, bounded, and validated whole before anything is done.
 * The table of operations is plan.c's; pycontain/runtime/steps.py mirrors it, and a unit test
 * compares the two. */
#ifndef PYCONTAIN_PLAN_H
#define PYCONTAIN_PLAN_H

#include <stddef.h>
#include <stdint.h>

#define PLAN_MAGIC "pycplan"
#define PLAN_VERSION 1
#define PLAN_FD 3
#define PLAN_FIRST_FD 4
#define PLAN_MAX_SIZE (8u << 20)
#define PLAN_MAX_STEPS 4096
#define PLAN_MAX_FDS 1024
#define PLAN_MAX_ARGS 8

enum op {
    /* settings of the monitor: nothing happens, in any order, before the clone */
    OP_RUN = 1,   /* run id, boot id */
    OP_RECORDS,   /* container folder, state folder, durable */
    OP_OWNER,     /* socket of who started it, it stays attached, it does the clean-up */
    OP_STDIO,     /* terminal, stdin open, stdin closes with the owner */
    OP_LOG,       /* driver, rotate at bytes, files */
    OP_TIMEOUT,   /* milliseconds */
    OP_CLEANUP,   /* argv, env */
    OP_CGROUP,    /* cgroup folder: clone into it, read its counters, kill it */
    OP_TRACE,     /* pipe for the duration of each step */
    OP_STREAMS,   /* what the process has as 0, 1 and 2 */
    OP_HOLD,      /* a descriptor (a lock) to close once the run record is written */
    OP_LEASH,     /* pidfd: when that process ends, so does what is run */
    OP_EVENTS,    /* journal's folder, state folder, action at the start, at the end, attributes */
    OP_PUBLISH,   /* socket, that is held until the end; address and port of the container that a
                       forwarder connects to where something comes in there */
    /* the host's side */
    OP_DEVICES,   /* cgroup folder, BPF program */
    OP_JOIN_FIRST, /* pidfd or namespace file, CLONE_NEW… flags: before the clone */
    OP_INITIAL_AFFINITY, /* cpu mask, of the executor itself */
    OP_TIME,      /* lines for timens_offsets */
    OP_CLONE,     /* CLONE_NEW… flags */
    OP_ID_MAPS,   /* uid_map, gid_map */
    OP_OOM_SCORE, /* oom_score_adj */
    OP_NETLINK_HOST, /* rtnetlink messages, where in them the clone's pid belongs (0 nowhere),
                       words for each message */
    OP_READY,     /* write the run record; from here on it counts as running */
    OP_SYNC,      /* name: whoever started the executor does something */
    /* the container's side */
    OP_IDENTITY,  /* uid, gid: who it is in a new user namespace */
    OP_JOIN,      /* pidfd or namespace file, CLONE_NEW… flags */
    OP_UNSHARE,   /* CLONE_NEW… flags: namespaces that show where the clone is by then */
    OP_SESSION,   /* setsid; 1: a session keyring of its own */
    OP_PROPAGATION, /* MS_… flags for the old root */
    OP_ROOT,      /* detached mount, where it is attached for now, propagation */
    OP_MOUNT,     /* type, source, target, MOUNT_ATTR_…, options, propagation */
    OP_BIND,      /* detached mount, target, set, clear, set and clear for the mounts below it
                       too, propagation (with MS_REC: theirs too) */
    OP_READONLY,  /* paths, missing ones are passed over */
    OP_MASK,      /* paths, missing ones are passed over */
    OP_DIRECTORY, /* path, mode */
    OP_SYMLINK,   /* target, path */
    OP_NODE,      /* path, mode with type, device number, uid, gid */
    OP_ATTRIBUTES,/* path, set, clear, propagation */
    OP_RECONFIGURE, /* path, options of its file system */
    OP_HOSTNAME,  /* name */
    OP_DOMAINNAME,/* name */
    OP_LOOPBACK,
    OP_NETLINK,   /* rtnetlink messages, words for each */
    OP_CONSOLE,   /* rows, columns, show it as /dev/console */
    OP_HOOK,      /* path, argv, env, time-out in ms or 0, state before and after its pid */
    OP_PIVOT,     /* 1 pivot_root, 0 chroot */
    OP_ENTER,     /* chdir and chroot to the joined mount namespace's root */
    OP_SYSCTL,    /* path below /proc/sys, value */
    OP_PERSONALITY, /* persona */
    OP_SCHEDULER, /* struct sched_attr */
    OP_IO_PRIORITY, /* class and level, as ioprio_set has it */
    OP_AFFINITY,  /* cpu mask */
    OP_MEMORY_POLICY, /* MPOL_… mode with its flags, node mask */
    OP_APPARMOR,  /* profile */
    OP_RLIMIT,    /* RLIMIT_…, soft, hard */
    OP_NO_NEW_PRIVS,
    OP_SECCOMP,   /* BPF program, flags */
    OP_CREDENTIALS, /* uid, gid, groups, bounding, permitted, effective, inheritable,
                       ambient */
    OP_PARENT_DEATH, /* signal */
    OP_UMASK,     /* umask */
    OP_CWD,       /* path */
    OP_LOOKUP,    /* candidate paths: one of them can be executed */
    OP_WAIT,      /* fifo to read a byte from, file for a failure after that */
    OP_INHERIT,   /* descriptor, number that the program finds it at */
    OP_CLOSE,     /* number from which on no descriptor is kept: the end of what is ours */
    OP_EXEC,      /* argv, env, candidate paths */
    OP_COUNT,
};

enum side { SIDE_SETTING, SIDE_HOST, SIDE_CONTAINER };

struct plan_header {
    char magic[8];
    uint32_t version;
    uint32_t size;
    uint32_t steps;
    uint32_t fds;
};

struct arg {
    const char *data;
    uint32_t size;
};

struct step {
    uint16_t op;
    uint16_t argc;
    struct arg args[PLAN_MAX_ARGS];
};

struct plan {
    uint32_t fds;
    uint32_t count;
    struct step *steps;
    char *text;   /* the bytes that the steps point into */
    size_t size;
};

/* One row of the table: arguments are n number, s string, l list of strings, b bytes,
 * f descriptor index. */
struct op_row {
    const char *name;
    enum side side;
    const char *args;
};
extern const struct op_row plan_ops[OP_COUNT];

/* Read and validate. 0, or -1 with *why set to a static text (errno is EINVAL or read's). */
int plan_read(int fd, struct plan *plan, const char **why);
/* The same over bytes in memory, which must stay and be 8-byte aligned. */
int plan_parse(char *bytes, size_t size, struct plan *plan, const char **why);
void plan_free(struct plan *plan);

uint64_t arg_number(const struct step *step, int index);
int arg_fd(const struct step *step, int index);
const char *arg_text(const struct step *step, int index);

/* Walk a list argument: call with NULL first; returns NULL after the last. */
const char *list_next(const struct step *step, int index, const char *previous);
size_t list_count(const struct step *step, int index);
/* The entry of that number, NULL where there are not so many. */
const char *list_entry(const struct step *step, int index, size_t number);

#endif
