"""The cffi extension ``pycontain._native._kernel``: the interpreter's hands, without any state."""

from __future__ import annotations

from cffi import FFI

ffibuilder = FFI()
ffibuilder.cdef(
    """
    int openat2(int dir, const char *path, uint64_t flags, uint64_t mode, uint64_t resolve);
    int fsopen(const char *type);
    int fsconfig_string(int fs, const char *key, const char *value);
    int fsconfig_flag(int fs, const char *key);
    int fsconfig_create(int fs);
    int fsmount(int fs, unsigned attributes);
    int open_tree(int dir, const char *path, unsigned flags);
    int move_mount(int from, int dir, const char *path);
    int mount_setattr(int fd, unsigned flags, uint64_t set, uint64_t clear, uint64_t propagation);
    int enter(int fd, int types);
    int spawn(int program, char *const *argv, const int *fds, int count, int cgroup, int *pidfd);
    const char *plan_check(const char *bytes, unsigned long size);
    const char *plan_op_name(int op);
    int plan_op_side(int op);
    const char *plan_op_args(int op);
    """
)
SOURCE = """
#include <sched.h>
#include "sys.h"
#include "spawn.h"

static int openat2(int dir, const char *path, uint64_t flags, uint64_t mode, uint64_t resolve)
{
    struct open_how how = {.flags = flags | O_CLOEXEC, .mode = mode, .resolve = resolve};
    return sys_openat2(dir, path, &how);
}
static int fsopen(const char *type) { return sys_fsopen(type, FSOPEN_CLOEXEC); }
static int fsconfig_string(int fs, const char *key, const char *value)
{
    return sys_fsconfig(fs, FSCONFIG_SET_STRING, key, value, 0);
}
static int fsconfig_flag(int fs, const char *key)
{
    return sys_fsconfig(fs, FSCONFIG_SET_FLAG, key, NULL, 0);
}
static int fsconfig_create(int fs)
{
    return sys_fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0);
}
static int fsmount(int fs, unsigned attributes)
{
    return sys_fsmount(fs, FSMOUNT_CLOEXEC, attributes);
}
static int open_tree(int dir, const char *path, unsigned flags)
{
    return sys_open_tree(dir, path, flags | OPEN_TREE_CLOEXEC);
}
static int move_mount(int from, int dir, const char *path)
{
    return sys_move_mount(from, "", dir, path, MOVE_MOUNT_F_EMPTY_PATH);
}
static int mount_setattr(int fd, unsigned flags, uint64_t set, uint64_t clear,
                         uint64_t propagation)
{
    struct mount_attr attr = {.attr_set = set, .attr_clr = clear, .propagation = propagation};
    return sys_mount_setattr(fd, "", flags | AT_EMPTY_PATH, &attr);
}
static int enter(int fd, int types) { return setns(fd, types); }
"""

ffibuilder.set_source("pycontain._native._kernel", SOURCE)
