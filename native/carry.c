/* The forwarder: carries what comes in at published sockets to the container, and back. See forward.h.
 *
 * One thread over epoll(7). A stream is two flows of bytes, each through a pipe by splice(2), so
 * nothing is copied here; a flow that ends is shut down at its other end, and the other goes on
 * (half-close). Datagrams of one client are a session with a socket of its own, until nothing has
 * come for a while. */
#include "forward.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define EVENTS 64
#define CHUNK (64u << 10)
#define STREAMS_MOST 4096
#define STREAM_FILES 6       /* two sockets and two pipes */
#define DATAGRAMS_MOST 1024
#define DATAGRAM_BUCKETS 256
#define DATAGRAM_SIZE (64u << 10)
#define BURST 32             /* datagrams or connections of one socket before the others' turn */
#define SILENCE_MS 90000     /* of a client of datagrams */
#define IDLE_MS 30000        /* of all: then it ends */
#define LAST_MS 500          /* after the container's end */
#define SWEEP_MS 5000
#define SHORT_MS 100         /* until connections are accepted again that there was no file for */
#define OWN_FILES 16         /* standard streams, signals, epoll, and one that is being accepted */

enum kind { KIND_SIGNAL, KIND_PORT, KIND_CLIENT, KIND_SERVER, KIND_DATAGRAMS };

/* Something that epoll tells of; the first member of what it is a part of, or found by its kind. */
struct watched {
    enum kind kind;
    int fd;
    uint32_t events;         /* asked for at present */
    void *owner;
};

struct flow {
    int pipe[2];
    size_t held;             /* bytes in the pipe */
    bool full;               /* it takes no more until some of that is out */
    bool ended;              /* its source has ended */
    bool done;               /* and its other end knows */
};

struct stream {
    struct watched ends[2];  /* client, server */
    struct flow flows[2];    /* from the client, from the server */
    bool connecting, dead;
    struct stream *next, *previous;
};

union control {
    char space[CMSG_SPACE(sizeof(struct in6_pktinfo))];
    struct cmsghdr align;
};

struct session {
    struct watched server;
    struct port *port;
    struct sockaddr_storage client;
    socklen_t client_size;
    union control source;    /* which of our addresses it came to: answers leave from there */
    size_t source_size;
    uint64_t last;
    struct session *next;
};

struct port {
    struct watched watched;
    const struct published *published;
};

static struct carrier {
    int epoll;
    struct watched signal;
    struct port *ports;
    size_t port_count, streams_most, sessions_most, stream_count, session_count;
    struct stream *streams, *dead;
    struct session *sessions[DATAGRAM_BUCKETS];
    uint64_t now, last, swept, end;
    uint64_t scarce;         /* until then there is no file for a connection */
    bool crowded;            /* no more connections are accepted for now */
    char data[DATAGRAM_SIZE];
} c;

static uint64_t now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* Errors and hang-ups are told unasked (epoll_ctl(2)): who waits for nothing is not watched at all. */
static int watch(struct watched *watched, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = watched};
    int operation = !watched->events ? EPOLL_CTL_ADD : events ? EPOLL_CTL_MOD : EPOLL_CTL_DEL;

    if (events == watched->events)
        return 0;
    if (epoll_ctl(c.epoll, operation, watched->fd, &event) < 0)
        return -1;
    watched->events = events;
    return 0;
}

/* ---- streams ---- */

static void abort_on_close(int fd)
{
    struct linger now = {.l_onoff = 1};

    setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
}

static void close_pipe(struct flow *flow)
{
    for (int i = 0; i < 2; i++)
        if (flow->pipe[i] >= 0)
            close(flow->pipe[i]);
}

/* Its memory stays until all events at hand are done with: one of them may still name it. */
static void end_stream(struct stream *stream, bool failed)
{
    if (stream->dead)
        return;
    stream->dead = true;
    for (int i = 0; i < 2; i++) {
        if (failed && stream->ends[i].fd >= 0)
            abort_on_close(stream->ends[i].fd);
        if (stream->ends[i].fd >= 0)
            close(stream->ends[i].fd);
        close_pipe(&stream->flows[i]);
    }
    if (stream->previous)
        stream->previous->next = stream->next;
    else
        c.streams = stream->next;
    if (stream->next)
        stream->next->previous = stream->previous;
    stream->next = c.dead;
    c.dead = stream;
    c.stream_count--;
}

static void free_dead(void)
{
    while (c.dead) {
        struct stream *next = c.dead->next;

        free(c.dead);
        c.dead = next;
    }
}

static int fill(struct flow *flow, int from)
{
    ssize_t n;

    if (flow->ended || flow->full)
        return 0;
    n = splice(from, NULL, flow->pipe[1], NULL, CHUNK, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
    if (n > 0) {
        flow->held += (size_t)n;
        return 0;
    }
    if (n == 0) {
        flow->ended = true;
        return 0;
    }
    if (errno != EAGAIN && errno != EINTR)
        return -1;
    /* Nothing there, or no room: a pipe counts pieces, not bytes. */
    flow->full = errno == EAGAIN && flow->held > 0;
    return 0;
}

static int drain(struct flow *flow, int to)
{
    ssize_t n;

    if (flow->held) {
        n = splice(flow->pipe[0], NULL, to, NULL, flow->held, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
        if (n < 0)
            return errno == EAGAIN || errno == EINTR ? 0 : -1;
        flow->held -= (size_t)n;
        flow->full = false;
    }
    if (flow->ended && !flow->held && !flow->done) {
        flow->done = true;
        /* ENOTCONN: it has gone, and needs not be told. */
        if (shutdown(to, SHUT_WR) < 0 && errno != ENOTCONN)
            return -1;
    }
    return 0;
}

static uint32_t wanted(const struct stream *stream, int end)
{
    const struct flow *out = &stream->flows[end], *in = &stream->flows[!end];

    return (!out->ended && !out->full ? EPOLLIN : 0) | (in->held ? EPOLLOUT : 0);
}

static void carry_stream(struct stream *stream)
{
    for (int i = 0; i < 2; i++)
        if (fill(&stream->flows[i], stream->ends[i].fd) < 0 ||
            drain(&stream->flows[i], stream->ends[!i].fd) < 0) {
            end_stream(stream, true);
            return;
        }
    if (stream->flows[0].done && stream->flows[1].done) {
        end_stream(stream, false);
        return;
    }
    for (int i = 0; i < 2; i++)
        if (watch(&stream->ends[i], wanted(stream, i)) < 0) {
            end_stream(stream, true);
            return;
        }
}

static void finish_connect(struct stream *stream)
{
    socklen_t size = sizeof(int);
    int error = 0;

    if (getsockopt(stream->ends[1].fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0 || error) {
        end_stream(stream, true);
        return;
    }
    stream->connecting = false;
    carry_stream(stream);
}

static void stream_event(struct stream *stream, uint32_t events)
{
    if (stream->dead)
        return;
    if (stream->connecting)
        finish_connect(stream);
    else if (events & EPOLLERR)
        end_stream(stream, true);
    else
        carry_stream(stream);
}

static void set_up(int fd)
{
    int on = 1;

    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
}

static int connect_server(struct stream *stream, const struct target *target)
{
    int fd = socket(target->address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    stream->ends[1].fd = fd;
    if (fd < 0)
        return -1;
    set_up(fd);
    if (connect(fd, (const struct sockaddr *)&target->address, target->size) < 0 &&
        errno != EINPROGRESS)
        return -1;
    stream->connecting = true;
    return watch(&stream->ends[1], EPOLLOUT);
}

static void new_stream(int client, const struct target *target)
{
    struct stream *stream = calloc(1, sizeof(*stream));

    if (!stream) {
        close(client);
        return;
    }
    for (int i = 0; i < 2; i++) {
        stream->ends[i] = (struct watched){.kind = i ? KIND_SERVER : KIND_CLIENT, .fd = -1,
                                           .owner = stream};
        stream->flows[i].pipe[0] = stream->flows[i].pipe[1] = -1;
    }
    stream->ends[0].fd = client;
    stream->next = c.streams;
    if (c.streams)
        c.streams->previous = stream;
    c.streams = stream;
    c.stream_count++;
    set_up(client);
    if (pipe2(stream->flows[0].pipe, O_CLOEXEC | O_NONBLOCK) < 0 ||
        pipe2(stream->flows[1].pipe, O_CLOEXEC | O_NONBLOCK) < 0 ||
        connect_server(stream, target) < 0)
        end_stream(stream, true);
}

static void accept_streams(struct port *port)
{
    for (int i = 0; i < BURST && c.stream_count < c.streams_most; i++) {
        int fd = accept4(port->watched.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

        if (fd < 0) {
            /* It stays in the queue, and epoll would tell of it all the time (accept(2)). */
            if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
                c.scarce = c.now + SHORT_MS;
            return;
        }
        new_stream(fd, &port->published->target);
    }
}

/* With as many streams as there may be, who comes waits in the kernel's queue. */
static void mind_the_crowd(void)
{
    bool crowded = c.stream_count >= c.streams_most || c.now < c.scarce;

    if (crowded == c.crowded || c.end)
        return;
    c.crowded = crowded;
    for (size_t i = 0; i < c.port_count; i++)
        if (c.ports[i].published->type == SOCK_STREAM)
            watch(&c.ports[i].watched, crowded ? 0 : EPOLLIN);
}

/* ---- datagrams ---- */

static uint32_t hash(const struct port *port, const struct sockaddr_storage *client, socklen_t size)
{
    const unsigned char *at = (const unsigned char *)client;
    uint32_t value = 2166136261u ^ (uint32_t)port->watched.fd;

    for (socklen_t i = 0; i < size; i++)
        value = (value ^ at[i]) * 16777619u;
    return value % DATAGRAM_BUCKETS;
}

static void end_session(struct session **place)
{
    struct session *session = *place;

    *place = session->next;
    close(session->server.fd);
    free(session);
    c.session_count--;
}

/* Those that nothing came for, or where all have to go the one that waited longest. Called where no
 * event at hand can name a session any more. */
static void sweep_sessions(bool one)
{
    struct session **oldest = NULL;

    for (size_t i = 0; i < DATAGRAM_BUCKETS; i++)
        for (struct session **at = &c.sessions[i]; *at;) {
            if (c.now - (*at)->last >= SILENCE_MS) {
                end_session(at);
                one = false;
                oldest = NULL;
                continue;
            }
            if (one && (!oldest || (*at)->last < (*oldest)->last))
                oldest = at;
            at = &(*at)->next;
        }
    if (one && oldest)
        end_session(oldest);
}

static struct session *find_session(struct port *port, const struct msghdr *from)
{
    uint32_t bucket = hash(port, from->msg_name, from->msg_namelen);

    for (struct session *at = c.sessions[bucket]; at; at = at->next)
        if (at->port == port && at->client_size == from->msg_namelen &&
            !memcmp(&at->client, from->msg_name, from->msg_namelen))
            return at;
    return NULL;
}

static struct session *new_session(struct port *port, const struct msghdr *from)
{
    const struct target *target = &port->published->target;
    uint32_t bucket = hash(port, from->msg_name, from->msg_namelen);
    struct session *session;

    if (c.session_count >= c.sessions_most || !(session = calloc(1, sizeof(*session))))
        return NULL;
    session->server = (struct watched){.kind = KIND_DATAGRAMS, .owner = session};
    session->server.fd = socket(target->address.ss_family,
                                SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (session->server.fd < 0 ||
        connect(session->server.fd, (const struct sockaddr *)&target->address, target->size) < 0 ||
        watch(&session->server, EPOLLIN) < 0) {
        if (session->server.fd >= 0)
            close(session->server.fd);
        free(session);
        return NULL;
    }
    session->port = port;
    memcpy(&session->client, from->msg_name, from->msg_namelen);
    session->client_size = from->msg_namelen;
    session->next = c.sessions[bucket];
    c.sessions[bucket] = session;
    c.session_count++;
    return session;
}

/* Keep which of our addresses a datagram came to, in the form in which the answer says it (ip(7),
 * IP_PKTINFO; ipv6(7)). */
static void keep_source(struct session *session, struct msghdr *from)
{
    struct cmsghdr *item = CMSG_FIRSTHDR(from), *kept = &session->source.align;

    session->source_size = 0;
    if (!item)
        return;
    if (item->cmsg_level == IPPROTO_IP && item->cmsg_type == IP_PKTINFO) {
        struct in_pktinfo *info = (struct in_pktinfo *)CMSG_DATA(item);
        struct in_pktinfo *answer = (struct in_pktinfo *)CMSG_DATA(kept);

        memset(answer, 0, sizeof(*answer));
        answer->ipi_spec_dst = info->ipi_addr;
        session->source_size = CMSG_SPACE(sizeof(*answer));
        *kept = (struct cmsghdr){CMSG_LEN(sizeof(*answer)), IPPROTO_IP, IP_PKTINFO};
    } else if (item->cmsg_level == IPPROTO_IPV6 && item->cmsg_type == IPV6_PKTINFO) {
        memcpy(CMSG_DATA(kept), CMSG_DATA(item), sizeof(struct in6_pktinfo));
        session->source_size = CMSG_SPACE(sizeof(struct in6_pktinfo));
        *kept = (struct cmsghdr){CMSG_LEN(sizeof(struct in6_pktinfo)), IPPROTO_IPV6, IPV6_PKTINFO};
    }
}

static void take_datagrams(struct port *port)
{
    for (int i = 0; i < BURST; i++) {
        struct sockaddr_storage client;
        union control control;
        struct iovec part = {c.data, sizeof(c.data)};
        struct msghdr from = {.msg_name = &client, .msg_namelen = sizeof(client),
                              .msg_iov = &part, .msg_iovlen = 1,
                              .msg_control = &control, .msg_controllen = sizeof(control)};
        struct session *session;
        ssize_t n;

        memset(&client, 0, sizeof(client));
        n = recvmsg(port->watched.fd, &from, MSG_DONTWAIT);
        if (n < 0)
            return;
        session = find_session(port, &from);
        if (!session)
            session = new_session(port, &from);
        if (!session) {
            /* It is lost, as datagrams are; the next finds room. */
            c.swept = 0;
            continue;
        }
        session->last = c.now;
        keep_source(session, &from);
        /* ECONNREFUSED tells of an earlier one: nobody listens there, as its sender may find out. */
        if (send(session->server.fd, c.data, (size_t)n, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
            continue;
    }
}

static void give_datagrams(struct session *session)
{
    for (int i = 0; i < BURST; i++) {
        ssize_t n = recv(session->server.fd, c.data, sizeof(c.data), MSG_DONTWAIT);
        struct iovec part = {c.data, n < 0 ? 0 : (size_t)n};
        struct msghdr to = {.msg_name = &session->client, .msg_namelen = session->client_size,
                            .msg_iov = &part, .msg_iovlen = 1,
                            .msg_control = &session->source,
                            .msg_controllen = session->source_size};

        if (n < 0)
            return;
        session->last = c.now;
        if (sendmsg(session->port->watched.fd, &to, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
            continue;
    }
}

/* ---- the loop ---- */

/* The container has ended. Nobody new is taken; what it has sent is still given out. */
static void begin_end(void)
{
    c.end = c.now + LAST_MS;
    for (size_t i = 0; i < c.port_count; i++) {
        /* The monitor has the socket too: while it does, epoll goes on telling of it (epoll(7)). */
        watch(&c.ports[i].watched, 0);
        close(c.ports[i].watched.fd);
    }
    c.port_count = 0;
    close(c.signal.fd);
    for (size_t i = 0; i < DATAGRAM_BUCKETS; i++)
        while (c.sessions[i])
            end_session(&c.sessions[i]);
}

static bool is_anything_owed(void)
{
    for (const struct stream *at = c.streams; at; at = at->next)
        if (!at->connecting && !at->flows[1].done)
            return true;
    return false;
}

static void handle(struct watched *watched, uint32_t events)
{
    struct port *port = watched->owner;

    switch (watched->kind) {
    case KIND_PORT:
        if (port->published->type == SOCK_STREAM)
            accept_streams(port);
        else
            take_datagrams(port);
        break;
    case KIND_CLIENT:
    case KIND_SERVER:
        stream_event(watched->owner, events);
        break;
    case KIND_DATAGRAMS:
        give_datagrams(watched->owner);
        break;
    case KIND_SIGNAL:
        break;
    }
}

static size_t least(size_t one, size_t other)
{
    return one < other ? one : other;
}

/* Divide what may be open: neither kind can take the other's part. */
static void share_files(size_t count)
{
    struct rlimit files = {1024, 1024};
    size_t room, datagrams;

    getrlimit(RLIMIT_NOFILE, &files);
    room = files.rlim_cur > count + OWN_FILES ? files.rlim_cur - count - OWN_FILES : 0;
    datagrams = least(DATAGRAMS_MOST, room / 2);
    c.sessions_most = datagrams ? datagrams : 1;
    c.streams_most = least(STREAMS_MOST, (room - datagrams) / STREAM_FILES);
    if (!c.streams_most)
        c.streams_most = 1;
}

static int begin(const struct published *ports, size_t count, int signals)
{
    int on = 1;

    share_files(count);
    c.ports = calloc(count, sizeof(*c.ports));
    c.epoll = epoll_create1(EPOLL_CLOEXEC);
    c.signal = (struct watched){.kind = KIND_SIGNAL, .fd = signals};
    if (!c.ports || c.epoll < 0 || watch(&c.signal, EPOLLIN) < 0)
        return -1;
    c.port_count = count;
    for (size_t i = 0; i < count; i++) {
        struct port *port = &c.ports[i];

        port->published = &ports[i];
        port->watched = (struct watched){.kind = KIND_PORT, .fd = ports[i].fd, .owner = port};
        /* Of a socket of the other family one of them is refused. */
        setsockopt(ports[i].fd, IPPROTO_IP, IP_PKTINFO, &on, sizeof(on));
        setsockopt(ports[i].fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, &on, sizeof(on));
        fcntl(ports[i].fd, F_SETFL, fcntl(ports[i].fd, F_GETFL) | O_NONBLOCK);
        if (watch(&port->watched, EPOLLIN) < 0)
            return -1;
    }
    return 0;
}

static void turn(void)
{
    struct epoll_event events[EVENTS];
    bool told = false;
    int patience = c.end ? 20 : c.now < c.scarce ? SHORT_MS : SWEEP_MS;
    int count = epoll_wait(c.epoll, events, EVENTS, patience);

    if (count < 0 && errno != EINTR)
        _exit(1);
    c.now = now_ms();
    for (int i = 0; i < count; i++)
        told |= ((struct watched *)events[i].data.ptr)->kind == KIND_SIGNAL;
    for (int i = 0; i < count; i++) {
        struct watched *watched = events[i].data.ptr;

        /* Whoever comes after the signal is the next forwarder's. */
        if (!told || watched->kind != KIND_PORT)
            handle(watched, events[i].events);
    }
    free_dead();
    if (count > 0)
        c.last = c.now;
    if (told && !c.end)
        begin_end();
    mind_the_crowd();
    if (c.now - c.swept >= SWEEP_MS) {
        sweep_sessions(c.session_count >= c.sessions_most);
        c.swept = c.now;
    }
}

void carry(const struct published *ports, size_t count, int signals)
{
    c.now = c.last = c.swept = now_ms();
    if (begin(ports, count, signals) < 0)
        _exit(1);
    for (;;) {
        turn();
        if (c.end && (c.now >= c.end || !is_anything_owed()))
            _exit(0);
        /* Whoever comes right now finds the next one: the sockets are the monitor's too. */
        if (!c.stream_count && !c.session_count && c.now - c.last >= IDLE_MS)
            _exit(0);
    }
}
