/* Runs a command and sends SIGKILL to one of its processes at the entry of its N-th system call
 * that changes something, so that this call is not made any more.
 *
 * Usage: killer REPORT ROLE[+] N COMMAND [ARGUMENT…]
 *
 * Processes are told apart by how they came to be: 0 is the command, 1 its children (the go-between
 * of a spawn), 2 theirs (the monitor), 3 theirs (the container's process, up to its execve), and 4
 * what a monitor becomes by a second execve (the clean-up). With + they are followed to their end,
 * else all are let go when the command has ended. REPORT gets one line for each such call,
 * "ROLE NAME"; the last one is the call that was not made. With N 0 nobody is killed.
 *
 * strace --inject counts the calls of each process apart and applies one rule to all of them; here
 * the process is chosen as well as the call. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/ptrace.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* After linux/ptrace.h, which the libc's header would redefine: the one function is enough. */
extern long ptrace(int request, ...);

#define PROCESSES 1024
#define CLEANUP 4

struct call {
    long number;
    const char *name;
    int flags;  /* index of the argument with O_… flags, 0 for none: then only writers count */
};
#define CALL(name) {SYS_##name, #name, 0}

static const struct call calls[] = {
    {SYS_openat, "openat", 2}, CALL(mkdirat), CALL(unlinkat), CALL(renameat2),
    CALL(linkat), CALL(symlinkat), CALL(mknodat), CALL(fchmodat), CALL(fchmod), CALL(fchownat),
    CALL(fchown), CALL(utimensat), CALL(ftruncate), CALL(write), CALL(writev), CALL(pwrite64),
    CALL(sendfile), CALL(sendmsg), CALL(sendto), CALL(fsync), CALL(flock),
    CALL(socketpair), CALL(bind), CALL(listen), CALL(connect), CALL(memfd_create), CALL(pipe2),
    CALL(clone), CALL(clone3), CALL(execve), CALL(execveat), CALL(exit), CALL(exit_group),
    CALL(setsid), CALL(chdir), CALL(fchdir), CALL(chroot), CALL(pivot_root), CALL(mount),
    CALL(umount2), CALL(fsopen), CALL(fsconfig), CALL(fsmount), CALL(open_tree), CALL(move_mount),
    CALL(mount_setattr), CALL(setns), CALL(unshare), CALL(bpf), CALL(seccomp), CALL(prctl),
    CALL(capset), CALL(setgroups), CALL(setresuid), CALL(setresgid), CALL(sethostname),
    CALL(setdomainname), CALL(pidfd_send_signal), CALL(kill),
    CALL(close_range),
#ifdef SYS_mkdir  /* the older forms, which arm64 never had */
    {SYS_open, "open", 1}, CALL(mkdir), CALL(rmdir), CALL(unlink), CALL(rename), CALL(renameat),
    CALL(link), CALL(symlink), CALL(mknod), CALL(chmod), CALL(chown), CALL(lchown), CALL(fork),
    CALL(vfork),
#endif
};

static struct process {
    pid_t pid;
    int depth;    /* -1 while its first stop came before its parent's word */
    int execs;
    bool waiting;
} processes[PROCESSES];

static FILE *report;
static int role, target, seen;
static bool linger;
static bool done;  /* somebody was killed, or all is over: let everybody go */

static struct process *find(pid_t pid)
{
    struct process *unused = NULL;

    for (int i = 0; i < PROCESSES; i++) {
        if (processes[i].pid == pid)
            return &processes[i];
        if (!processes[i].pid && !unused)
            unused = &processes[i];
    }
    if (!unused) {
        fprintf(stderr, "killer: too many processes\n");
        exit(99);
    }
    *unused = (struct process){.pid = pid, .depth = -1};
    return unused;
}

static void resume(const struct process *process, int signal)
{
    ptrace(done ? PTRACE_DETACH : PTRACE_SYSCALL, process->pid, 0, signal);
    if (done)
        find(process->pid)->pid = 0;
}

/* Everybody stops once more, and is let go there. */
static void let_go(pid_t except)
{
    done = true;
    for (int i = 0; i < PROCESSES; i++)
        if (processes[i].pid && processes[i].pid != except) {
            if (processes[i].waiting)
                resume(&processes[i], 0);
            else
                ptrace(PTRACE_INTERRUPT, processes[i].pid, 0, 0);
        }
}

static const struct call *changes(const struct ptrace_syscall_info *info)
{
    for (size_t i = 0; i < sizeof(calls) / sizeof(*calls); i++)
        if (calls[i].number == (long)info->entry.nr) {
            int flags = calls[i].flags ? (int)info->entry.args[calls[i].flags] : O_CREAT;

            return flags & (O_CREAT | O_WRONLY | O_RDWR | O_TRUNC) ? &calls[i] : NULL;
        }
    return NULL;
}

/* true when the process was killed instead */
static bool system_call(const struct process *process)
{
    struct ptrace_syscall_info info;
    const struct call *call;
    int mine = process->depth == 2 && process->execs > 1 ? CLEANUP : process->depth;

    if (ptrace(PTRACE_GET_SYSCALL_INFO, process->pid, sizeof(info), &info) <= 0 ||
        info.op != PTRACE_SYSCALL_INFO_ENTRY || !(call = changes(&info)))
        return false;
    if (role >= 0 && mine != role)
        return false;
    fprintf(report, "%d %s\n", mine, call->name);
    if (++seen != target)
        return false;
    /* A fatal signal that waits at this stop skips the call (seccomp(2), ptrace(2)). */
    kill(process->pid, SIGKILL);
    let_go(process->pid);
    return true;
}

static void born(struct process *parent)
{
    unsigned long pid = 0;
    struct process *child;

    ptrace(PTRACE_GETEVENTMSG, parent->pid, 0, &pid);
    child = find((pid_t)pid);
    child->depth = parent->depth + 1;
    if (child->waiting) {
        child->waiting = false;
        resume(child, 0);
    }
}

static void stopped(struct process *process, int status)
{
    int event = status >> 16, signal = WSTOPSIG(status);

    if (done) {
        resume(process, event || signal == (SIGTRAP | 0x80) ? 0 : signal);
        return;
    }
    if (process->depth < 0) {
        process->waiting = true;
        return;
    }
    switch (event) {
    case PTRACE_EVENT_FORK:
    case PTRACE_EVENT_VFORK:
    case PTRACE_EVENT_CLONE:
        born(process);
        resume(process, 0);
        return;
    case PTRACE_EVENT_EXEC:
        process->execs++;
        if (process->depth >= 3) {
            ptrace(PTRACE_DETACH, process->pid, 0, 0);
            process->pid = 0;
        } else {
            resume(process, 0);
        }
        return;
    case 0:
        if (signal != (SIGTRAP | 0x80))
            resume(process, signal);
        else if (!system_call(process))
            resume(process, 0);
        return;
    default:
        resume(process, 0);
    }
}

static int follow(pid_t command)
{
    int code = 99, status;
    pid_t pid;

    while ((pid = waitpid(-1, &status, __WALL)) > 0 || errno == EINTR) {
        if (pid < 0)
            continue;
        if (WIFSTOPPED(status)) {
            stopped(find(pid), status);
            continue;
        }
        find(pid)->pid = 0;
        if (pid == command) {
            code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
            if (!linger)
                let_go(0);
        }
    }
    return code;
}

static pid_t start(char **argv)
{
    int gate[2];
    char go = 0;
    pid_t pid;

    if (pipe2(gate, O_CLOEXEC) < 0 || (pid = fork()) < 0)
        return -1;
    if (pid == 0) {
        if (read(gate[0], &go, 1) != 1)
            _exit(99);
        execvp(argv[0], argv);
        _exit(127);
    }
    if (ptrace(PTRACE_SEIZE, pid, 0, PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEFORK |
               PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC) < 0) {
        kill(pid, SIGKILL);
        return -1;
    }
    find(pid)->depth = 0;
    ptrace(PTRACE_INTERRUPT, pid, 0, 0);
    if (write(gate[1], &go, 1) != 1)
        return -1;
    return pid;
}

int main(int argc, char **argv)
{
    pid_t pid;

    if (argc < 5)
        return 99;
    report = fopen(argv[1], "we");
    role = atoi(argv[2]);
    linger = strchr(argv[2], '+');
    target = atoi(argv[3]);
    if (!report || (pid = start(argv + 4)) < 0) {
        perror("killer");
        return 99;
    }
    return follow(pid);
}
