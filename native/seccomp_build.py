"""The cffi module ``pycontain._native._seccomp``: what the filter compiler needs of libseccomp.

Imported only when a filter is not in the cache, so it stays apart from the other natives.
"""

from cffi import FFI

ffibuilder = FFI()

ffibuilder.cdef(
    """
    typedef void *scmp_filter_ctx;
    typedef uint64_t scmp_datum_t;

    enum scmp_filter_attr {
        SCMP_FLTATR_CTL_OPTIMIZE,
        ...
    };

    enum scmp_compare {
        SCMP_CMP_NE,
        SCMP_CMP_LT,
        SCMP_CMP_LE,
        SCMP_CMP_EQ,
        SCMP_CMP_GE,
        SCMP_CMP_GT,
        SCMP_CMP_MASKED_EQ,
        ...
    };

    struct scmp_arg_cmp {
        unsigned int arg;
        enum scmp_compare op;
        scmp_datum_t datum_a;
        scmp_datum_t datum_b;
        ...;
    };

    #define SCMP_ACT_KILL_PROCESS ...
    #define SCMP_ACT_KILL_THREAD ...
    #define SCMP_ACT_TRAP ...
    #define SCMP_ACT_LOG ...
    #define SCMP_ACT_NOTIFY ...
    #define SCMP_ACT_ALLOW ...
    #define __NR_SCMP_ERROR ...

    struct scmp_version {
        unsigned int major;
        unsigned int minor;
        unsigned int micro;
        ...;
    };

    const struct scmp_version *seccomp_version(void);
    int try_flags(unsigned int flags);

    scmp_filter_ctx seccomp_init(uint32_t def_action);
    void seccomp_release(scmp_filter_ctx ctx);
    uint32_t seccomp_arch_resolve_name(const char *arch_name);
    uint32_t seccomp_arch_native(void);
    int seccomp_arch_exist(const scmp_filter_ctx ctx, uint32_t arch_token);
    int seccomp_arch_add(scmp_filter_ctx ctx, uint32_t arch_token);
    int seccomp_attr_set(scmp_filter_ctx ctx, enum scmp_filter_attr attr, uint32_t value);
    int seccomp_syscall_resolve_name(const char *name);
    int seccomp_syscall_resolve_name_arch(uint32_t arch_token, const char *name);
    int seccomp_rule_add_array(scmp_filter_ctx ctx, uint32_t action, int syscall,
                               unsigned int arg_cnt, const struct scmp_arg_cmp *arg_array);
    int seccomp_export_bpf(const scmp_filter_ctx ctx, int fd);
    """
)

SOURCE = """
#include <errno.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <unistd.h>

/* errno of installing no program at all: EFAULT where the kernel takes the flags. */
static int try_flags(unsigned int flags)
{
    return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, NULL) < 0 ? errno : 0;
}
"""

ffibuilder.set_source(
    "pycontain._native._seccomp",
    SOURCE,
    libraries=["seccomp"],
    extra_compile_args=["-O2", "-Wall"],
)
