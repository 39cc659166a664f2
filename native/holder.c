/* Holds the user namespace of an ordinary user, and the mount namespace in it.
 *
 * Descriptor 3 is a socket to the command that starts it: "n" once the namespaces are made, then
 * one byte from there when the id maps are written. After that it only exists. */
#include <errno.h>
#include <sched.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

int main(void)
{
    int32_t error;
    char go;

    prctl(PR_SET_NAME, "pycontain-userns", 0, 0, 0);
    error = unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0 ? errno : 0;
    if (write(3, &error, sizeof(error)) != sizeof(error) || error)
        return 1;
    if (read(3, &go, 1) != 1)
        return 1;
    close(3);
    for (;;)
        pause();
}
