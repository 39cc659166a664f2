/* What the processes of a start say to each other: the clone to its executor, and the runner to
 * whoever started it. One message is one datagram of a SOCK_SEQPACKET pair, with at most one
 * descriptor. */
#ifndef PYCONTAIN_MESSAGE_H
#define PYCONTAIN_MESSAGE_H

#include <stdint.h>
#include <sys/types.h>

#define NO_STEP UINT32_MAX

/* Why a plan could not be carried out. */
struct failure {
    uint32_t step;      /* index in the plan, NO_STEP outside it */
    int32_t error;      /* errno */
    char subject[248];  /* which of several objects, or what a hook said; empty when the step
                           says it */
};

enum message_kind {
    MESSAGE_TURN = 1,   /* the next step is the other side's */
    MESSAGE_GO,         /* it is done */
    MESSAGE_CONSOLE,    /* the terminal's other end comes along */
    MESSAGE_NOTIFY,     /* a seccomp listener comes along */
    MESSAGE_WAITING,    /* everything is done but what follows `wait` */
    MESSAGE_EXEC,       /* the next thing is the program */
    MESSAGE_FAILED,
    MESSAGE_DONE,       /* the plan is carried out */
};

struct message {
    uint32_t kind;
    int32_t pid;             /* to the runner's starter: the clone's */
    struct failure failure;  /* step alone for TURN */
};

/* fd: a descriptor that goes along, -1 for none. 0, or -1 with errno. */
int message_send(int socket, const struct message *message, int fd);
/* What recvmsg(2) returns; *fd is the descriptor that came along or -1. */
ssize_t message_receive(int socket, struct message *message, int *fd);

#endif
