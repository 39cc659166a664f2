/* The monitor: one process for each container (and for each exec), parent of its first process.
 *
 * It starts the process by carrying out the plan on descriptor 3, then keeps its standard streams,
 * its log, those attached to it, its time-out and the record of its end. It knows nothing of images
 * or names. When it dies, the process dies with it (PR_SET_PDEATHSIG).
 *
 * Flow control. Whoever started the container in the foreground (the owner) is its pipe: when the
 * owner does not read, the container waits, as in any pipeline, and nothing is lost. Everybody who
 * attached later is an onlooker: when one does not read, it is told how much it missed. */
#include "event.h"
#include "executor.h"
#include "forward.h"
#include "frame.h"
#include "log.h"
#include "record.h"
#include "sys.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>

#define CLIENTS 16
#define DRAIN_MS 1000       /* for pipes that somebody outside the container holds open */
#define DRAIN_LAST_MS 10000 /* and for one who goes on writing */
#define DRAIN_LIMIT (4u << 20)

struct client {
    int fd;
    bool done;              /* the owner has done what follows the end */
    uint64_t lagged;
    char *input;            /* what the container has not taken yet */
    size_t have, taken;
};

/* Pages that nobody writes to cost nothing: each of these is touched when it is first used. */
static char inputs[CLIENTS][FRAME_DATA];

struct stream {
    int fd;
    uint32_t kind;
    const char *name;
    bool held;              /* the owner has not taken `buffer` yet: read no more */
    char buffer[FRAME_DATA];
    size_t size;
    char *tail;             /* after the end: what the owner has still to get */
    size_t tail_size, tail_sent;
};

static struct monitor {
    struct plan plan;
    struct executor executor;
    struct record record;
    struct log log;
    struct events events;
    struct forward forward;
    struct client clients[CLIENTS];   /* [0] is the owner */
    struct stream streams[2];
    int null, signals, listener, input, slave;
    int cgroup, leash;
    bool terminal, stdin_open, stdin_once, owner_stays, owner_cleans;
    bool exited;
    int status;
    uint64_t used[2];       /* by what was run: CPU time in microseconds, the most memory in bytes */
    uint64_t deadline;      /* ms on the monotonic clock, 0 for none */
    const char *reason;
    const struct step *cleanup;
} m;

static uint64_t now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* ---- clients ---- */

static void client_close(struct client *client)
{
    if (client->fd < 0)
        return;
    close(client->fd);
    client->fd = -1;
    if (client == &m.clients[0]) {
        m.streams[0].held = m.streams[1].held = false;
        if (m.stdin_once && m.input >= 0 && !m.terminal) {
            close(m.input);
            m.input = -1;
        }
    }
}

/* 1 sent, 0 no room, -1 the client is gone (and closed). */
static int frame_send(struct client *client, uint32_t kind, uint32_t value, const char *data,
                      size_t size)
{
    struct frame frame = {kind, value};
    struct iovec parts[2] = {{&frame, sizeof(frame)}, {(void *)data, size}};
    struct msghdr header = {.msg_iov = parts, .msg_iovlen = 2};
    ssize_t sent;

    do
        sent = sendmsg(client->fd, &header, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (sent < 0 && errno == EINTR);
    if (sent >= 0)
        return 1;
    if (errno == EAGAIN || errno == ENOBUFS || errno == ENOMEM)
        return 0;
    client_close(client);
    return -1;
}

static int exit_send(struct client *client)
{
    return frame_send(client, FRAME_EXIT, (uint32_t)m.status, (const char *)m.used, sizeof(m.used));
}

/* Tell an onlooker what it missed; false when it cannot be told yet. */
static bool onlooker_tell(struct client *client)
{
    uint32_t missed = client->lagged > UINT32_MAX ? UINT32_MAX : (uint32_t)client->lagged;

    if (missed && frame_send(client, FRAME_LAGGED, missed, NULL, 0) != 1)
        return false;
    client->lagged = 0;
    return true;
}

static void onlooker_send(struct client *client, uint32_t kind, const char *data, size_t size)
{
    if (!onlooker_tell(client) || (client->fd >= 0 && frame_send(client, kind, 0, data, size) == 0))
        client->lagged += size;
}

/* The last words to an onlooker, who may not have read anything for long. */
static void onlooker_end(struct client *client)
{
    int more = 1 << 20;

    /* Room for them behind a full buffer: nobody waits for a slow client. */
    setsockopt(client->fd, SOL_SOCKET, SO_SNDBUF, &more, sizeof(more));
    if (onlooker_tell(client) && client->fd >= 0)
        exit_send(client);
    client_close(client);
}

static void broadcast(struct stream *stream)
{
    log_write(&m.log, stream->name, stream->buffer, stream->size);
    for (int i = 1; i < CLIENTS; i++)
        if (m.clients[i].fd >= 0)
            onlooker_send(&m.clients[i], stream->kind, stream->buffer, stream->size);
}

static void owner_send(struct stream *stream)
{
    if (m.clients[0].fd < 0 || !m.owner_stays)
        stream->held = false;
    else
        stream->held =
            frame_send(&m.clients[0], stream->kind, 0, stream->buffer, stream->size) == 0;
}

static void accept_client(void)
{
    int fd = accept4(m.listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

    if (fd < 0)
        return;
    for (int i = 1; i < CLIENTS; i++)
        if (m.clients[i].fd < 0) {
            m.clients[i] = (struct client){.fd = fd, .input = inputs[i]};
            /* Tells the client that it will miss nothing from here on. */
            frame_send(&m.clients[i], FRAME_READY, (uint32_t)m.executor.pid, NULL, 0);
            return;
        }
    close(fd);
}

/* ---- the container's standard streams ---- */

static void stream_close(struct stream *stream)
{
    if (stream->fd >= 0)
        close(stream->fd);
    stream->fd = -1;
}

/* true when something was read */
static bool stream_read(struct stream *stream)
{
    ssize_t n;

    do
        n = read(stream->fd, stream->buffer, sizeof(stream->buffer));
    while (n < 0 && errno == EINTR);
    if (n > 0) {
        stream->size = (size_t)n;
        broadcast(stream);
        return true;
    }
    if (n == 0 || errno != EAGAIN)
        stream_close(stream);
    return false;
}

/* The container has ended: take what is left at once, so that the log is whole before the record
 * says "exited"; a slow owner gets its part afterwards. */
static void stream_drain(struct stream *stream)
{
    bool owner = m.clients[0].fd >= 0 && m.owner_stays;
    uint64_t until = now_ms() + DRAIN_MS, last = now_ms() + DRAIN_LAST_MS;

    if (stream->held && (stream->tail = malloc(stream->size))) {
        memcpy(stream->tail, stream->buffer, stream->size);
        stream->tail_size = stream->size;
    }
    while (stream->fd >= 0) {
        struct pollfd ready = {.fd = stream->fd, .events = POLLIN};
        char *more;

        if (now_ms() < last && stream_read(stream)) {
            if (!owner || stream->tail_size + stream->size > DRAIN_LIMIT)
                continue;
            more = realloc(stream->tail, stream->tail_size + stream->size);
            if (!more)
                continue;
            stream->tail = more;
            memcpy(more + stream->tail_size, stream->buffer, stream->size);
            stream->tail_size += stream->size;
        } else if (stream->fd >= 0) {
            uint64_t now = now_ms();

            /* The terminal is ours on both ends: empty is the end. A pipe ends when its last
             * writer is gone, which for a killed process is a moment after its death. */
            if (m.terminal || now >= until || now >= last || poll(&ready, 1, (int)(until - now)) <= 0)
                stream_close(stream);
        }
    }
}

/* 1 all sent, 0 no room yet */
static int tail_send(struct stream *stream)
{
    while (stream->tail_sent < stream->tail_size && m.clients[0].fd >= 0) {
        size_t size = stream->tail_size - stream->tail_sent;

        if (size > FRAME_DATA)
            size = FRAME_DATA;
        if (frame_send(&m.clients[0], stream->kind, 0, stream->tail + stream->tail_sent, size) == 0)
            return 0;
        stream->tail_sent += size;
    }
    return 1;
}

static void input_close(void)
{
    if (m.terminal || m.input < 0)
        return;
    close(m.input);
    m.input = -1;
}

/* Give the container what a client sent; false while it does not take it. */
static bool input_write(struct client *client)
{
    while (client->taken < client->have) {
        ssize_t n = -1;

        errno = EBADF;
        if (m.input >= 0)
            n = write(m.input, client->input + client->taken, client->have - client->taken);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return false;
        if (n < 0) {
            input_close();
            break;
        }
        client->taken += (size_t)n;
    }
    client->have = client->taken = 0;
    return true;
}

static void resize(uint32_t value)
{
    struct winsize size = {.ws_row = (unsigned short)(value >> 16),
                           .ws_col = (unsigned short)value};

    if (m.terminal && m.streams[0].fd >= 0)
        ioctl(m.streams[0].fd, TIOCSWINSZ, &size);
}

static void close_output(bool error)
{
    struct stream *stream = &m.streams[error];

    stream->held = false;
    stream_close(stream);
}

/* The engine has changed the container's networks. It waits for the answer: who comes to a published
 * port after that is led to where the container is now. */
static void retarget(struct client *client, size_t size)
{
    char address[INET6_ADDRSTRLEN];

    if (size >= sizeof(address)) {
        client_close(client);
        return;
    }
    memcpy(address, client->input, size);
    address[size] = 0;
    if (forward_retarget(&m.forward, address) < 0 ||
        frame_send(client, FRAME_READY, (uint32_t)m.executor.pid, NULL, 0) != 1)
        client_close(client);
}

static void client_read(struct client *client)
{
    struct frame frame;
    struct iovec parts[2] = {{&frame, sizeof(frame)}, {client->input, FRAME_DATA}};
    struct msghdr header = {.msg_iov = parts, .msg_iovlen = 2};
    ssize_t n;

    do
        n = recvmsg(client->fd, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    while (n < 0 && errno == EINTR);
    if (n < 0 && errno == EAGAIN)
        return;
    if (n < (ssize_t)sizeof(frame)) {
        client_close(client);
        return;
    }
    switch (frame.kind) {
    case FRAME_STDIN:
        client->have = (size_t)n - sizeof(frame);
        client->taken = 0;
        if (m.stdin_open)
            input_write(client);
        else
            client->have = 0;
        break;
    case FRAME_STDIN_END:
        if (m.stdin_once || client == &m.clients[0])
            input_close();
        break;
    case FRAME_SIZE:
        resize(frame.value);
        break;
    case FRAME_SIGNAL:
        if (!m.exited && frame.value < NSIG)
            sys_pidfd_send_signal(m.executor.pidfd, (int)frame.value);
        break;
    case FRAME_CLOSE:
        /* As in a pipeline: who goes on writing gets SIGPIPE or EPIPE. */
        if (client == &m.clients[0] && !m.terminal)
            close_output(frame.value == 2);
        break;
    case FRAME_DONE:
        client->done = true;
        break;
    case FRAME_TARGET:
        retarget(client, (size_t)n - sizeof(frame));
        break;
    default:
        client_close(client);
    }
}

/* ---- set-up ---- */

static int ready(void *context, uint32_t step)
{
    (void)context;
    (void)step;
    if (m.record.state < 0)
        return 0;
    record_watch_network(&m.record, m.executor.pid);
    return record_reserve(&m.record) < 0 ? -1 : record_run(&m.record, m.executor.pid);
}

static int make_stdio(void)
{
    int in[2] = {m.null, -1}, out[2], err[2];

    m.input = -1;
    if (m.terminal) {
        m.executor.stdio[0] = m.executor.stdio[1] = m.executor.stdio[2] = m.null;
        return 0;
    }
    if (m.stdin_open && pipe2(in, O_CLOEXEC) < 0)
        return -1;
    if (pipe2(out, O_CLOEXEC) < 0 || pipe2(err, O_CLOEXEC) < 0)
        return -1;
    m.executor.stdio[0] = in[0];
    m.executor.stdio[1] = out[1];
    m.executor.stdio[2] = err[1];
    m.input = in[1];
    m.streams[0].fd = out[0];
    m.streams[1].fd = err[0];
    /* Our ends alone: the container's must block as a program expects. */
    fcntl(out[0], F_SETFL, O_NONBLOCK);
    fcntl(err[0], F_SETFL, O_NONBLOCK);
    if (m.input >= 0)
        fcntl(m.input, F_SETFL, O_NONBLOCK);
    return 0;
}

static void keep_our_ends(void)
{
    int last = PLAN_FIRST_FD + (int)m.plan.fds;

    /* What was only for the start: mounts, namespaces, the lock. Whoever started us may be dead by
     * now; until here the lock said that a start is under way. */
    for (int fd = PLAN_FIRST_FD; fd < last; fd++)
        if (fd != m.record.folder && fd != m.record.state && fd != m.cgroup && fd != m.leash &&
            fd != m.events.folder && fd != m.events.state &&
            fd != m.clients[0].fd && !forward_holds(&m.forward, fd))
            close(fd);
    for (int i = 0; i < 3; i++)
        if (m.executor.stdio[i] != m.null)
            close(m.executor.stdio[i]);
    if (!m.terminal)
        return;
    m.streams[0].fd = m.executor.console;
    fcntl(m.executor.console, F_SETFL, O_NONBLOCK);
    m.input = m.executor.console;
    /* With one of the other ends held here, a program that closes its terminal and opens it again
     * does not end ours (the master reads EIO while nobody has the slave open, pty(7)). */
    m.slave = ioctl(m.executor.console, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
}

static int listen_for_clients(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd;

    if (m.record.state < 0)
        return 0;
    unlinkat(m.record.state, "attach", 0);
    fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -1;
    /* Through the folder's descriptor: a path of any depth fits. */
    snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/attach",
             m.record.state);
    if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(fd, CLIENTS) < 0) {
        close(fd);
        return -1;
    }
    m.listener = fd;
    return 0;
}

static int take_setting(const struct step *step)
{
    switch (step->op) {
    case OP_RUN:
        m.record.run = arg_text(step, 0);
        m.record.boot = arg_text(step, 1);
        return 0;
    case OP_RECORDS:
        m.record.folder = arg_fd(step, 0);
        m.record.state = arg_fd(step, 1);
        m.record.durable = (int)arg_number(step, 2);
        return 0;
    case OP_OWNER:
        m.clients[0].fd = arg_fd(step, 0);
        m.owner_stays = arg_number(step, 1);
        m.owner_cleans = arg_number(step, 2);
        return 0;
    case OP_STDIO:
        m.terminal = arg_number(step, 0);
        m.stdin_open = arg_number(step, 1);
        m.stdin_once = arg_number(step, 2);
        return 0;
    case OP_LOG:
        return log_open(&m.log, m.record.folder, arg_text(step, 0), arg_number(step, 1),
                        (unsigned)arg_number(step, 2));
    case OP_TIMEOUT:
        m.deadline = now_ms() + arg_number(step, 0);
        return 0;
    case OP_LEASH:
        m.leash = arg_fd(step, 0);
        return 0;
    case OP_EVENTS:
        m.events.folder = arg_fd(step, 0);
        m.events.state = arg_fd(step, 1);
        m.events.begin = arg_text(step, 2);
        m.events.end = arg_text(step, 3);
        m.events.more = arg_text(step, 4);
        return 0;
    case OP_PUBLISH:
        return forward_add(&m.forward, arg_fd(step, 0), arg_text(step, 1),
                           (uint16_t)arg_number(step, 2));
    case OP_TRACE:
        m.executor.trace = arg_fd(step, 0);
        return 0;
    case OP_CLEANUP:
        m.cleanup = step;
        return 0;
    case OP_CGROUP:
        m.cgroup = m.record.cgroup = m.executor.cgroup = arg_fd(step, 0);
        return 0;
    default:
        return 0;
    }
}

static void report_failure(const struct failure *failure)
{
    char data[sizeof(uint32_t) + sizeof(failure->subject)];
    size_t size = strlen(failure->subject);

    memcpy(data, &failure->step, sizeof(uint32_t));
    memcpy(data + sizeof(uint32_t), failure->subject, size);
    frame_send(&m.clients[0], FRAME_FAILED, (uint32_t)failure->error, data,
               sizeof(uint32_t) + size);
}

static int fail_setup(uint32_t step)
{
    struct failure failure = {.step = step, .error = errno};

    report_failure(&failure);
    return 1;
}

static int open_signals(void)
{
    sigset_t set;

    /* Only the end of the container and SIGKILL end a monitor: the signals that a terminal or a
     * shutdown sends to everybody reach the container by themselves. */
    sigfillset(&set);
    if (sigprocmask(SIG_SETMASK, &set, NULL) < 0)
        return -1;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    return m.signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static int set_up(void)
{
    m.null = m.signals = m.listener = m.input = m.slave = m.cgroup = m.leash = -1;
    m.record.reserved = m.record.net = -1;
    m.events.folder = m.events.memory = m.forward.watch = -1;
    m.executor.trace = m.executor.cgroup = m.record.cgroup = m.record.folder = m.record.state = -1;
    /* Field by field: an initialiser would touch their buffers. */
    m.streams[0].fd = m.streams[1].fd = -1;
    m.streams[0].kind = FRAME_STDOUT;
    m.streams[1].kind = FRAME_STDERR;
    m.streams[0].name = "stdout";
    m.streams[1].name = "stderr";
    for (int i = 0; i < CLIENTS; i++)
        m.clients[i] = (struct client){.fd = -1, .input = inputs[i]};
    m.executor.plan = &m.plan;
    m.executor.sync = ready;
    for (uint32_t i = 0; i < m.plan.count; i++)
        if (m.plan.steps[i].op == OP_OWNER)
            take_setting(&m.plan.steps[i]);
    for (uint32_t i = 0; i < m.plan.count; i++)
        if (m.plan.steps[i].op != OP_OWNER && take_setting(&m.plan.steps[i]) < 0)
            return fail_setup(i);
    /* An exec is a guest in the container's cgroup: what happens there is not its to tell. */
    if (m.cgroup >= 0 && m.events.folder >= 0 && m.record.folder >= 0)
        m.events.memory = openat(m.cgroup, "memory.events", O_RDONLY | O_CLOEXEC);
    m.null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (m.null < 0 || open_signals() < 0 || make_stdio() < 0 || listen_for_clients() < 0)
        return fail_setup(NO_STEP);
    return 0;
}

/* ---- the loop ---- */

/* The start ran through most of the program; waiting needs little of it. The rest comes back from the
 * page cache when it is needed again. */
static void forget_program(void)
{
    extern const char __executable_start, etext;
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t start = (uintptr_t)&__executable_start & ~(page - 1);

    madvise((void *)start, (uintptr_t)&etext - start, MADV_DONTNEED);
}

static void kill_all(void)
{
    /* An exec is a guest in the container's cgroup: only its own process is its to kill. */
    bool whole = m.cgroup >= 0 && m.record.folder >= 0;
    int fd = whole ? openat(m.cgroup, "cgroup.kill", O_WRONLY | O_CLOEXEC) : -1;

    if (fd >= 0) {
        if (write(fd, "1", 1) < 0)
            sys_pidfd_send_signal(m.executor.pidfd, SIGKILL);
        close(fd);
    } else if (!m.exited) {
        sys_pidfd_send_signal(m.executor.pidfd, SIGKILL);
    }
}

/* Without a cgroup to kill: orphans of the container come to us, their subreaper. In a pid namespace
 * of its own there are none, the kernel ends them with the first process. */
static void kill_orphans(void)
{
    char path[64], text[4096], *at;

    snprintf(path, sizeof(path), "/proc/self/task/%d/children", getpid());
    for (;;) {
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

        if (fd >= 0)
            close(fd);
        if (n <= 0)
            return;
        text[n] = 0;
        for (at = text; *at;) {
            pid_t pid = (pid_t)strtol(at, &at, 10);

            if (pid <= 0)
                break;
            kill(pid, SIGKILL);
            waitpid(pid, NULL, 0);
        }
    }
}

static uint64_t microseconds(const struct timeval *time)
{
    return (uint64_t)time->tv_sec * 1000000 + (uint64_t)time->tv_usec;
}

/* Reap whoever ended; true when the container's first process is among them. */
static bool reap(void)
{
    struct signalfd_siginfo info;
    struct rusage used;
    bool main_ended = false;
    int status;
    pid_t pid;

    while (read(m.signals, &info, sizeof(info)) > 0)
        ;
    while ((pid = wait4(-1, &status, WNOHANG, &used)) > 0)
        if (pid == m.executor.pid) {
            m.status = status;
            m.used[0] = microseconds(&used.ru_utime) + microseconds(&used.ru_stime);
            m.used[1] = (uint64_t)used.ru_maxrss * 1024;
            main_ended = true;
        } else {
            forward_reaped(&m.forward, pid, status, now_ms());
        }
    return main_ended;
}

static int exit_code(int status)
{
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

static void ended(void)
{
    m.exited = true;
    /* A container may share the host's pids (--pid host): then its other processes outlive the
     * first. An exec has no cgroup of its own and ends alone. */
    if (m.record.folder >= 0)
        kill_all();
    if (m.record.folder >= 0 && m.cgroup < 0)
        kill_orphans();
    if (m.slave >= 0)
        close(m.slave);
    stream_drain(&m.streams[0]);
    stream_drain(&m.streams[1]);
    log_end(&m.log);
    if (m.listener >= 0) {
        close(m.listener);
        m.listener = -1;
        unlinkat(m.record.state, "attach", 0);
    }
    /* Before the record: whoever hears of the end finds its ports free. */
    forward_end(&m.forward);
    if (m.record.folder >= 0)
        record_exit(&m.record, m.status, m.reason, m.log.lost);
    if (m.record.net >= 0)
        close(m.record.net); /* and the namespace goes */
    /* After the record, so that whoever hears of the end finds it. */
    events_end(&m.events, exit_code(m.status), m.record.folder >= 0);
    for (int i = 1; i < CLIENTS; i++)
        if (m.clients[i].fd >= 0)
            onlooker_end(&m.clients[i]);
}

static void leash_end(void)
{
    close(m.leash);
    m.leash = -1;
    m.owner_stays = false;
}

/* Input of a client is read when the one before it has been taken. */
static short client_events(const struct client *client, bool pending_for_owner)
{
    short events = client->have ? 0 : POLLIN;

    if (client == &m.clients[0] && pending_for_owner)
        events |= POLLOUT;
    return events;
}

static int poll_once(int timeout)
{
    enum { SIGNALS, LISTENER, LEASH, MEMORY, PORTS, INPUT, STREAM, OWNER = STREAM + 2, COUNT = OWNER + CLIENTS };
    struct pollfd fds[COUNT];
    bool waiting = false;

    for (int i = 0; i < CLIENTS; i++)
        waiting |= m.clients[i].have > 0;
    fds[SIGNALS] = (struct pollfd){.fd = m.signals, .events = POLLIN};
    fds[LISTENER] = (struct pollfd){.fd = m.listener, .events = POLLIN};
    fds[LEASH] = (struct pollfd){.fd = m.leash, .events = POLLIN};
    fds[MEMORY] = (struct pollfd){.fd = m.events.memory, .events = POLLPRI};
    fds[PORTS] = (struct pollfd){.fd = forward_watch(&m.forward, now_ms(), &timeout),
                                 .events = POLLIN};
    fds[INPUT] = (struct pollfd){.fd = waiting ? m.input : -1, .events = POLLOUT};
    for (int i = 0; i < 2; i++)
        fds[STREAM + i] = (struct pollfd){.fd = m.streams[i].held ? -1 : m.streams[i].fd,
                                          .events = POLLIN};
    for (int i = 0; i < CLIENTS; i++)
        fds[OWNER + i] = (struct pollfd){
            .fd = m.clients[i].fd,
            .events = client_events(&m.clients[i], m.streams[0].held || m.streams[1].held)};
    if (poll(fds, COUNT, timeout) < 0)
        return errno == EINTR ? 0 : -1;
    if (fds[OWNER].revents & (POLLOUT | POLLHUP | POLLERR))
        for (int i = 0; i < 2; i++)
            if (m.streams[i].held)
                owner_send(&m.streams[i]);
    for (int i = 0; i < 2; i++)
        if (fds[STREAM + i].revents && m.streams[i].fd >= 0 && !m.streams[i].held &&
            stream_read(&m.streams[i]))
            owner_send(&m.streams[i]);
    if (fds[INPUT].revents)
        for (int i = 0; i < CLIENTS; i++)
            if (m.clients[i].have && !input_write(&m.clients[i]))
                break;
    for (int i = 0; i < CLIENTS; i++)
        if (m.clients[i].fd >= 0 && fds[OWNER + i].fd == m.clients[i].fd) {
            if (fds[OWNER + i].revents & POLLIN)
                client_read(&m.clients[i]);
            else if (fds[OWNER + i].revents & (POLLHUP | POLLERR))
                client_close(&m.clients[i]);
        }
    if (fds[LISTENER].revents)
        accept_client();
    if (fds[MEMORY].revents)
        events_oom(&m.events);
    if (fds[PORTS].revents)
        forward_start(&m.forward, now_ms());
    if (fds[LEASH].revents) {
        leash_end();
        m.reason = "owner ended";
        kill_all();
    }
    if (fds[SIGNALS].revents && reap())
        ended();
    return 0;
}

static void watch(void)
{
    while (!m.exited) {
        int timeout = -1;

        if (m.deadline) {
            uint64_t now = now_ms();

            if (now >= m.deadline) {
                m.deadline = 0;
                m.reason = "timeout";
                kill_all();
                continue;
            }
            timeout = m.deadline - now > 1u << 30 ? 1 << 30 : (int)(m.deadline - now);
        }
        if (poll_once(timeout) < 0)
            return;
    }
}

/* After the end: the owner gets the rest of the output and the status, and may say that it does
 * what follows. One that ended is not waited for: a child of its may still have its socket. */
static bool serve_owner(void)
{
    struct client *owner = &m.clients[0];
    bool told = false;

    while (owner->fd >= 0 && m.owner_stays && !owner->done) {
        struct pollfd fds[] = {{.fd = owner->fd, .events = POLLIN},
                               {.fd = m.leash, .events = POLLIN}};

        if (!told && tail_send(&m.streams[0]) && tail_send(&m.streams[1]))
            told = exit_send(owner) == 1;
        if (owner->fd < 0 || (told && !m.owner_cleans))
            break;
        if (!told)
            fds[0].events |= POLLOUT;
        owner->have = 0;
        if (poll(fds, 2, -1) > 0) {
            if (fds[0].revents & POLLIN)
                client_read(owner);
            else if (fds[0].revents & (POLLHUP | POLLERR))
                client_close(owner);
            else if (fds[1].revents)
                leash_end();
        }
    }
    return owner->done;
}

static void clean_up(void)
{
    char **argv, **envp;
    size_t used = 0;
    sigset_t none;

    argv = calloc(list_count(m.cleanup, 0) + 1, sizeof(*argv));
    envp = calloc(list_count(m.cleanup, 1) + 1, sizeof(*envp));
    if (!argv || !envp)
        return;
    for (const char *at = NULL; (at = list_next(m.cleanup, 0, at));)
        argv[used++] = (char *)at;
    used = 0;
    for (const char *at = NULL; (at = list_next(m.cleanup, 1, at));)
        envp[used++] = (char *)at;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    sys_close_range(3, ~0u, 0);
    /* In place of the monitor: whoever waits for the monitor waits for the clean-up too. What it
     * does not do (it cannot be started, it is killed) the next command does. */
    execve(argv[0], argv, envp);
}

int main(int argc, char **argv)
{
    const char *why;
    bool cleaned;

    /* Before anything of a container is near: nobody in it may look at us or trace us. */
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    umask(077);
    if (plan_read(PLAN_FD, &m.plan, &why) < 0) {
        dprintf(2, "monitor: bad plan: %s\n", why);
        return 2;
    }
    close(PLAN_FD);
    m.forward.title = argc ? strstr(argv[0], "monitor") : NULL;
    if (set_up())
        return 1;
    if (executor_run(&m.executor) < 0) {
        if (m.record.state >= 0) {
            unlinkat(m.record.state, "run.json", 0);
            unlinkat(m.record.state, "attach", 0);
            record_forget(&m.record);
        }
        report_failure(&m.executor.failure);
        return 1;
    }
    keep_our_ends();
    events_begin(&m.events);
    frame_send(&m.clients[0], FRAME_READY, (uint32_t)m.executor.pid, NULL, 0);
    if (!m.owner_stays)
        client_close(&m.clients[0]);
    forget_program();
    watch();
    cleaned = serve_owner();
    if (m.cleanup && !cleaned)
        clean_up();
    return 0;
}
