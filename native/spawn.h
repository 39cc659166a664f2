/* Starting a program from an interpreter of any size without a copy of it. */
#ifndef PYCONTAIN_SPAWN_H
#define PYCONTAIN_SPAWN_H

/* Start the program open at `program` with nothing of the caller but `fds`, which become 3, 4, …;
 * 0 to 2 are /dev/null, the environment is empty, the folder is /, the session is new. It starts
 * in `cgroup` (a folder's descriptor, -1 for here), and *pidfd names it. With `child` it is the
 * caller's child, without, nobody's that the caller could meet in wait(2). Returns its pid, or -1
 * with errno. */
int spawn(int program, char *const *argv, const int *fds, int count, int cgroup, int child,
          int *pidfd);

/* A socket for rtnetlink(7) in the network namespace open at `network`. A clone goes there for it
 * and ends; the caller stays where it is. -1 with errno. */
int netlink_in(int network);

/* The plan reader over bytes, for tests and fuzzing: NULL when the plan is good, else why not. */
const char *plan_check(const char *bytes, unsigned long size);
/* Rows of the table of operations: name, side and arguments, NULL past the end. */
const char *plan_op_name(int op);
int plan_op_side(int op);
const char *plan_op_args(int op);

#endif
