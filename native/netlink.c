/* See netlink.h. */
#include "netlink.h"

#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef SOL_NETLINK
#define SOL_NETLINK 270
#endif

/* What makes a link, an address or a route; nothing here removes or asks. */
static int is_allowed(const struct nlmsghdr *header)
{
    unsigned wanted = NLM_F_REQUEST | NLM_F_ACK;

    if ((header->nlmsg_flags & wanted) != wanted)
        return 0;
    return header->nlmsg_type == RTM_NEWLINK || header->nlmsg_type == RTM_SETLINK ||
           header->nlmsg_type == RTM_NEWADDR || header->nlmsg_type == RTM_NEWROUTE;
}

/* The message at `at`; its size with padding, 0 when it is none. */
static size_t read_header(const char *data, size_t size, size_t at, struct nlmsghdr *header)
{
    if (size - at < sizeof(*header))
        return 0;
    memcpy(header, data + at, sizeof(*header));
    if (header->nlmsg_len < sizeof(*header) || header->nlmsg_len > size - at)
        return 0;
    return NLMSG_ALIGN(header->nlmsg_len);
}

const char *netlink_check(const char *data, size_t size, size_t place)
{
    struct nlmsghdr header;
    uint32_t expected = 0;
    size_t at = 0;

    if (size == 0 || size > NETLINK_MAX_SIZE || size % NLMSG_ALIGNTO)
        return "a netlink batch is empty, too long or not aligned";
    if (place && (place % NLA_ALIGNTO || place > size - sizeof(uint32_t) ||
                  place < sizeof(header) + NLA_HDRLEN))
        return "a netlink batch has no room for the pid where it should be";
    while (at < size) {
        size_t used = read_header(data, size, at, &header);

        if (!used)
            return "a netlink message is longer than its batch";
        if (!is_allowed(&header))
            return "a netlink message is of a kind that no plan has";
        if (header.nlmsg_seq != expected++)
            return "netlink messages are not numbered from 0";
        at += used;
    }
    return NULL;
}

static unsigned count_messages(const struct batch *batch)
{
    struct nlmsghdr header;
    unsigned count = 0;

    for (size_t at = 0; at < batch->size; count++)
        at += read_header(batch->data, batch->size, at, &header);
    return count;
}

static int send_batch(int fd, const struct batch *batch)
{
    uint32_t pid = (uint32_t)batch->pid;
    size_t before = batch->place ? batch->place : batch->size;
    size_t after = batch->place ? batch->place + sizeof(pid) : batch->size;
    struct iovec parts[3] = {
        {(void *)batch->data, before},
        {&pid, sizeof(pid)},
        {(void *)(batch->data + after), batch->size - after},
    };
    struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
    struct msghdr message = {.msg_name = &kernel, .msg_namelen = sizeof(kernel),
                             .msg_iov = parts, .msg_iovlen = batch->place ? 3 : 1};
    ssize_t sent;

    do
        sent = sendmsg(fd, &message, 0);
    while (sent < 0 && errno == EINTR);
    return sent < 0 ? -1 : 0;
}

/* The kernel's words, an attribute behind the error (NETLINK_EXT_ACK in netlink(7)). */
static void read_words(const struct nlmsghdr *header, char *said, size_t room)
{
    const char *at = (const char *)NLMSG_DATA(header) + sizeof(struct nlmsgerr);
    const char *end = (const char *)header + header->nlmsg_len;
    struct nlattr attribute;

    said[0] = 0;
    if (!(header->nlmsg_flags & NLM_F_ACK_TLVS))
        return;
    for (; end - at >= (ssize_t)sizeof(attribute); at += NLA_ALIGN(attribute.nla_len)) {
        memcpy(&attribute, at, sizeof(attribute));
        if (attribute.nla_len < NLA_HDRLEN || attribute.nla_len > end - at)
            return;
        if (attribute.nla_type == NLMSGERR_ATTR_MSG)
            snprintf(said, room, "%.*s", attribute.nla_len - NLA_HDRLEN, at + NLA_HDRLEN);
        if (NLA_ALIGN(attribute.nla_len) > end - at)
            return;
    }
}

/* Take the answers out of one datagram: how many, or -1 at the first that says no. */
static int read_answers(const char *data, ssize_t size, unsigned *which, char *said, size_t room)
{
    const struct nlmsghdr *header = (const struct nlmsghdr *)data;
    int count = 0;

    for (; NLMSG_OK(header, size); header = NLMSG_NEXT(header, size)) {
        const struct nlmsgerr *answer = NLMSG_DATA(header);

        if (header->nlmsg_type != NLMSG_ERROR ||
            header->nlmsg_len < NLMSG_LENGTH(sizeof(answer->error)))
            continue;
        if (answer->error) {
            *which = header->nlmsg_seq;
            read_words(header, said, room);
            errno = -answer->error;
            return -1;
        }
        count++;
    }
    return count;
}

static int read_all(int fd, unsigned expected, unsigned *which, char *said, size_t room)
{
    char data[8192] __attribute__((aligned(NLMSG_ALIGNTO)));

    for (unsigned have = 0; have < expected;) {
        ssize_t size = recv(fd, data, sizeof(data), 0);
        int count;

        if (size < 0 && errno == EINTR)
            continue;
        *which = have;
        if (size < 0)
            return -1;
        count = read_answers(data, size, which, said, room);
        if (count < 0)
            return -1;
        have += (unsigned)count;
    }
    return 0;
}

int netlink_send(const struct batch *batch, unsigned *which, char *said, size_t room)
{
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE), on = 1, result, saved;

    *which = 0;
    said[0] = 0;
    if (fd < 0)
        return -1;
    /* Words of the kernel, and no copy of our message before them; without either it works too. */
    setsockopt(fd, SOL_NETLINK, NETLINK_EXT_ACK, &on, sizeof(on));
    setsockopt(fd, SOL_NETLINK, NETLINK_CAP_ACK, &on, sizeof(on));
    result = send_batch(fd, batch);
    if (result == 0)
        result = read_all(fd, count_messages(batch), which, said, room);
    saved = errno;
    close(fd);
    errno = saved;
    return result;
}

int netlink_step(const struct batch *batch, const struct step *step, int words, char *text,
                 size_t room)
{
    const char *entry;
    unsigned which;
    char said[128];
    int saved;

    if (netlink_send(batch, &which, said, sizeof(said)) == 0)
        return 0;
    saved = errno;
    entry = list_entry(step, words, which);
    snprintf(text, room, "%s%s%s%s", entry ? entry : "", said[0] ? " (" : "", said,
             said[0] ? ")" : "");
    errno = saved;
    return -1;
}
