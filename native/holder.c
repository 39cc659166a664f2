/* Holds the namespaces of an ordinary user: a user namespace, a mount namespace and a network
 * namespace in it.
 *
 * Its word says which of them it makes: "u" the user and the mount namespace, "n" the network
 * namespace; those that it does not make it holds as it finds itself in them. Descriptor 3 is a
 * socket to the command that starts it: 0 or an errno once the namespaces are made, then one byte
 * from there when the id maps are written. After that it only exists. */
#include <errno.h>
#include <sched.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

static int32_t make(const char *word)
{
    if (strchr(word, 'u') && unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0)
        return errno;
    /* Where there can be none, containers without a network still run; who wants one is told. */
    if (strchr(word, 'n') && unshare(CLONE_NEWNET) < 0 && errno != ENOSPC)
        return errno;
    return 0;
}

int main(int argc, char **argv)
{
    int32_t error;
    char go;

    prctl(PR_SET_NAME, "pycontain-userns", 0, 0, 0);
    error = argc == 2 ? make(argv[1]) : EINVAL;
    if (write(3, &error, sizeof(error)) != sizeof(error) || error)
        return 1;
    if (read(3, &go, 1) != 1)
        return 1;
    close(3);
    for (;;)
        pause();
}
