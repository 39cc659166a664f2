/* The monitor's half of published ports. See forward.h. */
#include "forward.h"
#include "sys.h"

#include <arpa/inet.h>
#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/wait.h>

#define NOBODY 65534
#define BRIEF_MS 1000       /* one that ends within this failed, and is not started again sooner */
#define LAST_WORDS_MS 800

static int read_target(struct target *target, const char *address, uint16_t port)
{
    struct sockaddr_in *four = (struct sockaddr_in *)&target->address;
    struct sockaddr_in6 *six = (struct sockaddr_in6 *)&target->address;

    memset(target, 0, sizeof(*target));
    if (inet_pton(AF_INET, address, &four->sin_addr) == 1) {
        four->sin_family = AF_INET;
        four->sin_port = htons(port);
        target->size = sizeof(*four);
        return 0;
    }
    if (inet_pton(AF_INET6, address, &six->sin6_addr) == 1) {
        six->sin6_family = AF_INET6;
        six->sin6_port = htons(port);
        target->size = sizeof(*six);
        return 0;
    }
    errno = EINVAL;
    return -1;
}

int forward_add(struct forward *f, int fd, const char *address, uint16_t port)
{
    struct epoll_event event = {.events = EPOLLIN};
    struct published *added;
    socklen_t size = sizeof(added->type);

    if (f->count == FORWARD_PORTS) {
        errno = E2BIG;
        return -1;
    }
    if (!f->ports && !(f->ports = calloc(FORWARD_PORTS, sizeof(*f->ports))))
        return -1;
    if (f->watch < 0 && (f->watch = epoll_create1(EPOLL_CLOEXEC)) < 0)
        return -1;
    added = &f->ports[f->count];
    added->fd = fd;
    added->port = port;
    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &added->type, &size) < 0 ||
        read_target(&added->target, address, port) < 0 ||
        epoll_ctl(f->watch, EPOLL_CTL_ADD, fd, &event) < 0)
        return -1;
    f->count++;
    return 0;
}

int forward_retarget(struct forward *f, const char *address)
{
    struct target target = {0};

    if (*address && read_target(&target, address, 0) < 0)
        return -1;
    for (size_t i = 0; i < f->count; i++) {
        struct published *port = &f->ports[i];

        port->target = target;
        if (*address)
            read_target(&port->target, address, port->port);
    }
    /* Its connections lead to where the container is no more. Until it has been reaped, who comes
     * waits in the kernel's queue or is still its own. */
    if (f->pid)
        kill(f->pid, SIGTERM);
    return 0;
}

bool forward_holds(const struct forward *f, int fd)
{
    for (size_t i = 0; i < f->count; i++)
        if (f->ports[i].fd == fd)
            return true;
    return false;
}

int forward_watch(const struct forward *f, uint64_t now, int *wait)
{
    if (f->watch < 0 || f->pid)
        return -1;
    if (now >= f->not_before)
        return f->watch;
    if (*wait < 0 || (uint64_t)*wait > f->not_before - now)
        *wait = (int)(f->not_before - now);
    return -1;
}

static int by_number(const void *one, const void *other)
{
    return ((const struct published *)one)->fd - ((const struct published *)other)->fd;
}

/* Keep the sockets and 0 to 2, nothing else of the monitor's. */
static void close_others(struct forward *f)
{
    int next = 3;

    qsort(f->ports, f->count, sizeof(*f->ports), by_number);
    for (size_t i = 0; i < f->count; i++) {
        if (f->ports[i].fd > next)
            sys_close_range((unsigned)next, (unsigned)f->ports[i].fd - 1, 0);
        next = f->ports[i].fd + 1;
    }
    sys_close_range((unsigned)next, ~0u, 0);
}

/* In a user namespace without such an id it stays the user that it is outside, without rights over
 * anything all the same. */
static int become_nobody(void)
{
    if (geteuid() != 0)
        return 0;
    if (setresgid(NOBODY, NOBODY, NOBODY) < 0)
        return errno == EINVAL ? 0 : -1;
    if (setgroups(0, NULL) < 0)
        return -1;
    return setresuid(NOBODY, NOBODY, NOBODY) < 0 && errno != EINVAL ? -1 : 0;
}

/* It needs no right over anything: its sockets are open, and anybody may connect to a container. */
static int drop_privileges(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[2] = {{0}};
    struct rlimit files;

    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    if (become_nobody() < 0)
        return -1;
    if (syscall(SYS_capset, &header, none) < 0)
        return -1;
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
}

static void become_forwarder(struct forward *f, pid_t monitor)
{
    sigset_t set;
    int signals;

    if (f->home && setns(f->home, CLONE_NEWNET) < 0)
        _exit(1);
    close_others(f);
    if (f->title)
        memcpy(f->title, "forward", 7);
    prctl(PR_SET_NAME, "forward", 0, 0, 0);
    if (drop_privileges() < 0)
        _exit(1);
    /* After the change of user, which clears it (prctl(2)). */
    if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0 || getppid() != monitor)
        _exit(1);
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (signals < 0)
        _exit(1);
    carry(f->ports, f->count, signals);
}

void forward_start(struct forward *f, uint64_t now)
{
    pid_t monitor = getpid(), pid = fork();

    if (pid == 0)
        become_forwarder(f, monitor);
    f->began = now;
    if (pid < 0)
        f->not_before = now + BRIEF_MS;
    else
        f->pid = pid;
}

void forward_reaped(struct forward *f, pid_t pid, int status, uint64_t now)
{
    if (pid != f->pid)
        return;
    f->pid = 0;
    if (status && now - f->began < BRIEF_MS)
        f->not_before = now + BRIEF_MS;
}

static void await_forwarder(pid_t pid)
{
    int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    struct pollfd ended = {.fd = pidfd, .events = POLLIN};

    kill(pid, SIGTERM);
    if (pidfd < 0 || poll(&ended, 1, LAST_WORDS_MS) != 1)
        kill(pid, SIGKILL);
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
    if (pidfd >= 0)
        close(pidfd);
}

void forward_end(struct forward *f)
{
    if (f->watch < 0)
        return;
    close(f->watch);
    f->watch = -1;
    for (size_t i = 0; i < f->count; i++)
        close(f->ports[i].fd);
    if (f->pid)
        await_forwarder(f->pid);
    f->pid = 0;
    f->count = 0;
}
