/* A clone that runs on the caller's stack, while the caller is suspended. */
#ifndef PYCONTAIN_VFORK_H
#define PYCONTAIN_VFORK_H

#include "sys.h"

/* clone3 without a stack of its own: the child runs on ours while we are suspended. It must not
 * return from the function that calls this, hence no C library call in between. */
static inline __attribute__((always_inline)) long clone3_vfork(struct clone_args *args)
{
#if defined(__x86_64__)
    long result;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "0"((long)SYS_clone3), "D"(args), "S"(sizeof(*args))
                     : "rcx", "r11", "memory");
    return result;
#elif defined(__aarch64__)
    register long number __asm__("x8") = SYS_clone3;
    register long result __asm__("x0") = (long)args;
    register long size __asm__("x1") = sizeof(*args);
    __asm__ volatile("svc 0" : "+r"(result) : "r"(number), "r"(size) : "memory");
    return result;
#else
#error "clone3_vfork: this architecture needs its line of assembly"
#endif
}

#endif
