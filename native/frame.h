/* Messages between a monitor and those attached to it, one SOCK_SEQPACKET message each:
 * a header and up to FRAME_DATA bytes. pycontain/runtime/attachment.py is the other end. */
#ifndef PYCONTAIN_FRAME_H
#define PYCONTAIN_FRAME_H

#include <stdint.h>

#define FRAME_DATA 32768

enum frame_kind {
    /* from the monitor */
    FRAME_READY = 'r',   /* value: the pid */
    FRAME_FAILED = 'f',  /* value: errno; data: u32 step, subject */
    FRAME_STDOUT = '1',
    FRAME_STDERR = '2',
    FRAME_LAGGED = 'l',  /* value: bytes that this client was too slow for */
    FRAME_EXIT = 'x',    /* value: wait status; data: u64 CPU time in us, u64 most memory in bytes */
    /* to the monitor */
    FRAME_STDIN = '0',
    FRAME_STDIN_END = 'e',
    FRAME_SIZE = 'w',    /* value: rows << 16 | columns */
    FRAME_SIGNAL = 's',  /* value: signal number */
    FRAME_CLOSE = 'c',   /* the owner's reader is gone: so is the container's */
    FRAME_DONE = 'd',    /* the owner has done what follows the end */
    FRAME_TARGET = 't',  /* data: where published ports lead to from now on, see forward_retarget;
                            the answer is FRAME_READY */
};

struct frame {
    uint32_t kind;
    uint32_t value;
};

#endif
