/* POSIX ACLs as tar archives write them, to what setxattr(2) takes.
 *
 * Source: acl(5) (the long text form); star(5), SCHILY.acl.access; linux/posix_acl_xattr.h. */
#ifndef PYCONTAIN_ACL_H
#define PYCONTAIN_ACL_H

#include <stddef.h>

#define ACL_MAX_SIZE 4096

/* The value of system.posix_acl_access or _default for `text`: its size; 0 where it names a user or
 * group and does not say their number; -1 where it is malformed or too long. */
int acl_encode(const char *text, unsigned char value[ACL_MAX_SIZE]);

#endif
