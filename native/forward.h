/* Published ports: sockets of the host that a monitor holds until its container ends.
 *
 * What comes for the host's own addresses the kernel redirects to the container, and these sockets
 * see nothing of it. The loopback's is not redirected (that would open the host's loopback to its
 * neighbours), nor is what comes by IPv6 for a container that has none: that arrives here. Then a
 * process is forked that accepts it, connects to the container and carries bytes; idle for a while,
 * it ends. Without such connections a published port costs its descriptor. */
#ifndef PYCONTAIN_FORWARD_H
#define PYCONTAIN_FORWARD_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

#define FORWARD_PORTS 1024

struct target {
    struct sockaddr_storage address;
    socklen_t size;
};

struct published {
    int fd;
    int type;           /* SOCK_STREAM, listening, or SOCK_DGRAM */
    uint16_t port;      /* of the container */
    struct target target; /* of no family where nothing of the container can be reached */
};

struct forward {
    struct published *ports;
    size_t count;
    int watch;          /* epoll of all sockets: readable when somebody comes; -1 without ports */
    pid_t pid;          /* the forwarder, 0 while there is none */
    uint64_t began;     /* ms, of the forwarder's start */
    uint64_t not_before; /* ms, of the next start: one that fails is not started all the time */
    char *title;        /* its place in argv, where ps(1) looks; NULL for none */
    int home;           /* the network namespace that a forwarder connects from; 0 for where it is */
};

/* Take a socket and the container's address and port. 0, or -1 with errno. */
int forward_add(struct forward *forward, int fd, const char *address, uint16_t port);
/* Lead all ports to another address of the container, or nowhere where it is empty: who comes then is
 * sent away. A forwarder to the one before ends. 0, or -1 with errno, and nothing has changed. */
int forward_retarget(struct forward *forward, const char *address);
bool forward_holds(const struct forward *forward, int fd);
/* What to poll for, -1 for nothing now; *wait is set to the ms after which that may change, if it is
 * sooner. */
int forward_watch(const struct forward *forward, uint64_t now, int *wait);
/* Somebody comes: start the forwarder. */
void forward_start(struct forward *forward, uint64_t now);
/* A child has been reaped; it may have been the forwarder. */
void forward_reaped(struct forward *forward, pid_t pid, int status, uint64_t now);
/* The container has ended: close the sockets, and give the forwarder a moment for what the container
 * has sent already. */
void forward_end(struct forward *forward);

/* The forwarder's own loop, until nobody has come for a while or it is told to end. (carry.c) */
void carry(const struct published *ports, size_t count, int signals) __attribute__((noreturn));

#endif
