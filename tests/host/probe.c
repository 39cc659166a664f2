/* Makes one system call and tells what came of it: probe NUMBER [ARGUMENT…]
 * It prints "ok" (with VALUE in the environment the result) or the name of errno.
 * An argument is a number, or text that begins with '=' and is handed over as a pointer. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/syscall.h>

static long word(char **argv, int argc, int index)
{
    if (index >= argc)
        return 0;
    return argv[index][0] == '=' ? (long)(argv[index] + 1) : (long)strtoll(argv[index], NULL, 0);
}

int main(int argc, char **argv)
{
    long result;

    errno = 0;
    result = syscall(word(argv, argc, 1), word(argv, argc, 2), word(argv, argc, 3),
                     word(argv, argc, 4), word(argv, argc, 5), word(argv, argc, 6),
                     word(argv, argc, 7));
    if (result >= 0 && getenv("VALUE"))
        printf("%ld\n", result);
    else
        printf("%s\n", result < 0 ? strerrorname_np(errno) : "ok");
    return 0;
}
