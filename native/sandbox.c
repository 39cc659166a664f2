/* Holds what the containers of a pod share: namespaces, and published ports.
 *
 * Usage: pycontain-sandbox NAME, KINDS, HOSTNAME, then ADDRESS and PORT for each socket. KINDS are
 * letters: n, i and u for a new network, ipc and uts namespace, capital ones for one that is there;
 * p for a pid namespace whose init a second process is; one m for each volume in memory. Descriptors:
 * 3 is a channel to the command that starts it, 4 the pod's lock, which is held till it is settled
 * whether this process stays; then the namespaces that are there, in the letters' order; with i or I
 * a detached file system for /dev/shm; one for each m, for /memory/0 and so on; with sockets the
 * network namespace that leads to the pod, and the sockets.
 *
 * On the channel it says what became of it (struct report). The command answers with lines
 * "DEVICE NUMBER", which switch router advertisements off and set disable_ipv6 of devices that are
 * still down, or with an empty message: then it stays. Where the channel closes before, it ends. */
#include "forward.h"
#include "sys.h"

#include <errno.h>
#include <link.h>
#include <linux/capability.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#define CHANNEL 3
#define LOCK 4
#define LINES 8192

struct report {
    int32_t error;
    int32_t pid;            /* of the process in the namespaces, once they are made */
    char step[32];
};

static struct sandbox {
    struct forward forward;
    int settings;           /* the folder /proc/sys/net */
    pid_t init;
} s = {.forward.watch = -1, .settings = -1};

static uint64_t now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void say(int error, const char *step)
{
    struct report report = {.error = error, .pid = s.init ? s.init : getpid()};

    snprintf(report.step, sizeof(report.step), "%s", step);
    if (send(CHANNEL, &report, sizeof(report), MSG_NOSIGNAL) != sizeof(report))
        _exit(1);
}

static void fail(const char *step)
{
    say(errno, step);
    _exit(1);
}

/* Pages of the program's file that are not used any more: the kernel maps those around each one that
 * is (filemap_map_pages), and from here on it is but poll(2). What is used again comes again. */
static void forget_pages(void)
{
    const ElfW(Phdr) *segment = (const void *)getauxval(AT_PHDR);
    unsigned long count = getauxval(AT_PHNUM);

    for (; segment && count; segment++, count--)
        if (segment->p_type == PT_LOAD && !(segment->p_flags & PF_W))
            madvise((void *)(segment->p_vaddr & ~4095ul),
                    (segment->p_memsz + (segment->p_vaddr & 4095)), MADV_DONTNEED);
}

/* ---- namespaces ---- */

static int bring_up_loopback(void)
{
    struct ifreq request = {.ifr_name = "lo"};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), result;

    if (fd < 0)
        return -1;
    request.ifr_flags = IFF_UP;
    result = ioctl(fd, SIOCSIFFLAGS, &request);
    close(fd);
    return result;
}

/* In the working folder. */
static void attach(int fd, const char *folder)
{
    if (mkdir(folder, 0755) < 0 ||
        sys_move_mount(fd, "", AT_FDCWD, folder, MOVE_MOUNT_F_EMPTY_PATH) < 0)
        fail("mount memory");
    close(fd);
}

static int attach_memory(const char *kinds, int fd)
{
    char folder[32];
    int number = 0;

    if (mkdir("memory", 0755) < 0)
        fail("mount memory");
    for (; *kinds; kinds++)
        if (*kinds == 'm') {
            snprintf(folder, sizeof(folder), "memory/%d", number++);
            attach(fd++, folder);
        }
    return fd;
}

/* A mount namespace with /dev/shm, the volumes in memory and nothing else: it holds no mount of the
 * host's. Containers that join the ipc namespace take /dev/shm from here. Returns the next
 * descriptor. */
static int make_mounts(const char *kinds, int fd)
{
    if (unshare(CLONE_NEWNS) < 0)
        fail("make mount namespace");
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount("tmpfs", "/proc", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "size=4k,mode=755") < 0 ||
        chdir("/proc") < 0 || mkdir("dev", 0755) < 0)
        fail("mount memory");
    if (strpbrk(kinds, "iI"))
        attach(fd++, "dev/shm");
    fd = attach_memory(kinds, fd);
    /* The old root on top of the new one, and away with it (pivot_root(2)). */
    if (sys_pivot_root(".", ".") < 0 || umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
        fail("change root");
    return fd;
}

static int drop_capabilities(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[2] = {{0}};

    return syscall(SYS_capset, &header, none) < 0 ? -1 : 0;
}

/* The first process of the shared pid namespace. Containers see it: it has no rights and nothing
 * open. A SIGCHLD that is ignored reaps (waitpid(2)); other signals from in there pass it by. */
static void become_init(int ready)
{
    if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0 || drop_capabilities() < 0 ||
        prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        _exit(1);
    signal(SIGCHLD, SIG_IGN);
    sys_close_range(3, (unsigned)ready - 1, 0);
    sys_close_range((unsigned)ready + 1, ~0u, 0);
    /* Of a parent that has died before PDEATHSIG was set nobody reads: getppid(2) would not tell. */
    if (write(ready, "r", 1) != 1)
        _exit(1);
    close(ready);
    forget_pages();
    for (;;)
        pause();
}

static void make_init(void)
{
    int ready[2];
    char word;

    if (unshare(CLONE_NEWPID) < 0)
        fail("make pid namespace");
    if (pipe2(ready, O_CLOEXEC) < 0)
        fail("start the first process");
    s.init = fork();
    if (s.init == 0) {
        close(ready[0]);
        become_init(ready[1]);
    }
    close(ready[1]);
    if (s.init < 0 || read(ready[0], &word, 1) != 1) {
        s.init = 0;
        fail("start the first process");
    }
    close(ready[0]);
}

static void make_namespaces(const char *kinds, const char *hostname)
{
    int flags = 0;

    flags |= strchr(kinds, 'n') ? CLONE_NEWNET : 0;
    flags |= strchr(kinds, 'i') ? CLONE_NEWIPC : 0;
    flags |= strchr(kinds, 'u') ? CLONE_NEWUTS : 0;
    if (unshare(flags) < 0)
        fail("make namespaces");
    if ((flags & CLONE_NEWUTS) && sethostname(hostname, strlen(hostname)) < 0)
        fail("set hostname");
    if ((flags & CLONE_NEWNET) && bring_up_loopback() < 0)
        fail("bring up lo");
}

/* Of a pod whose holder was killed. Returns the next descriptor. */
static int join_namespaces(const char *kinds, int fd)
{
    for (; *kinds; kinds++)
        if (strchr("NIU", *kinds)) {
            if (setns(fd, 0) < 0)
                fail("join namespaces");
            close(fd++);
        }
    return fd;
}

static void take_sockets(int argc, char **argv, int fd)
{
    if (argc < 2)
        return;
    s.forward.home = fd++;
    for (int i = 0; i + 1 < argc; i += 2, fd++)
        if (forward_add(&s.forward, fd, argv[i], (uint16_t)atoi(argv[i + 1])) < 0)
            fail("publish");
}

/* ---- devices ---- */

static int set_one(const char *device, const char *name, const char *value)
{
    char path[128];
    int fd, result;

    snprintf(path, sizeof(path), "ipv6/conf/%s/%s", device, name);
    fd = openat(s.settings, path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? 0 : -1; /* a kernel without IPv6 */
    result = write(fd, value, strlen(value)) < 0 ? -1 : 0;
    close(fd);
    return result;
}

static void set_devices(char *lines)
{
    char *rest, *line = strtok_r(lines, "\n", &rest);

    for (; line; line = strtok_r(NULL, "\n", &rest)) {
        char *value = strchr(line, ' ');

        if (!value)
            continue;
        *value++ = 0;
        if (set_one(line, "accept_ra", "0") < 0 || set_one(line, "disable_ipv6", value) < 0)
            fail("set up IPv6");
    }
    say(0, "");
}

static void obey(void)
{
    static char lines[LINES + 1];
    ssize_t size;

    while ((size = recv(CHANNEL, lines, LINES, 0)) != 0) {
        if (size < 0) {
            if (errno == EINTR)
                continue;
            _exit(1);
        }
        lines[size] = 0;
        if (strcmp(lines, "stay") == 0)
            return;
        set_devices(lines);
    }
    _exit(1);
}

/* ---- staying ---- */

static void reap(void)
{
    pid_t pid;
    int status;

    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        if (pid == s.init)
            _exit(0); /* the pid namespace is gone with its first process */
        forward_reaped(&s.forward, pid, status, now_ms());
    }
}

static void stay(int signals)
{
    struct signalfd_siginfo info;

    for (;;) {
        int timeout = -1;
        struct pollfd fds[2] = {
            {.fd = signals, .events = POLLIN},
            {.fd = forward_watch(&s.forward, now_ms(), &timeout), .events = POLLIN},
        };

        if (poll(fds, 2, timeout) < 0)
            continue;
        if (fds[0].revents && read(signals, &info, sizeof(info)) == sizeof(info)) {
            if (info.ssi_signo == SIGTERM) {
                forward_end(&s.forward);
                _exit(0);
            }
            reap();
        }
        if (fds[1].revents)
            forward_start(&s.forward, now_ms());
    }
}

/* What ps(1) shows is the name alone. */
static void forget_words(int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        memset(argv[i], 0, strlen(argv[i]));
}

int main(int argc, char **argv)
{
    const struct report done = {0};
    sigset_t set;
    int signals, next = LOCK + 1;
    bool inits;

    if (argc < 3)
        return 64;
    prctl(PR_SET_NAME, "sandbox", 0, 0, 0);
    sigfillset(&set);
    sigprocmask(SIG_SETMASK, &set, NULL);
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    s.settings = open("/proc/sys/net", O_PATH | O_DIRECTORY | O_CLOEXEC);
    make_namespaces(argv[1], argv[2]);
    next = join_namespaces(argv[1], next);
    if (strpbrk(argv[1], "iIm"))
        next = make_mounts(argv[1], next);
    take_sockets(argc - 3, argv + 3, next);
    s.forward.title = strstr(argv[0], "sandbox");
    inits = strchr(argv[1], 'p');
    forget_words(argc, argv);
    if (inits)
        make_init();
    signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (signals < 0)
        fail("watch signals");
    say(0, "");
    obey();
    close(LOCK);
    if (s.settings >= 0)
        close(s.settings);
    forget_pages();
    if (send(CHANNEL, &done, sizeof(done), MSG_NOSIGNAL) < 0)
        return 1;
    close(CHANNEL);
    stay(signals);
}
