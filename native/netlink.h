/* A batch of rtnetlink(7) messages, made by Python and sent here: the caller alone is in the network
 * namespace that they are for, or knows the process that a link is born for. */
#ifndef PYCONTAIN_NETLINK_H
#define PYCONTAIN_NETLINK_H

#include "plan.h"

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define NETLINK_MAX_SIZE (64u << 10)

struct batch {
    const char *data;
    size_t size;
    /* where the pid belongs whose namespace a link is born in (IFLA_NET_NS_PID); 0 for nowhere */
    size_t place;
    pid_t pid;
};

/* Whether `data` is whole messages of the kinds that a plan may hold. NULL, or what is wrong. */
const char *netlink_check(const char *data, size_t size, size_t place);

/* Send all of it at once and read the answers. 0; or -1 with errno, *which the failing message and
 * what the kernel says of it in `said`, which may be empty. Allocates nothing. */
int netlink_send(const struct batch *batch, unsigned *which, char *said, size_t room);

/* The same for a step, in whose list `words` each message has its words: -1 with errno, and in `text`
 * those of the failing one with the kernel's behind them. */
int netlink_step(const struct batch *batch, const struct step *step, int words, char *text,
                 size_t room);

#endif
