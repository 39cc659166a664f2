/* See acl.h. */
#include "acl.h"

#include <endian.h>
#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define FIELDS 4

struct rule {
    uint16_t tag;
    uint16_t permissions;
    uint32_t id;
};

/* The next rule of `text` into `rule`, without blanks and comment; returns what follows it. */
static const char *next_rule(const char *text, char *rule, size_t room)
{
    size_t length = 0;
    int comment = 0;

    for (; *text && *text != '\n' && (comment || *text != ','); text++) {
        comment |= *text == '#';
        if (!comment && *text != ' ' && *text != '\t' && length + 1 < room)
            rule[length++] = *text;
    }
    rule[length] = 0;
    return *text ? text + 1 : text;
}

static int split(char *rule, char *fields[FIELDS])
{
    int count = 0;

    while (count < FIELDS) {
        fields[count++] = rule;
        rule = strchr(rule, ':');
        if (!rule)
            return count;
        *rule++ = 0;
    }
    return -1;
}

static int read_permissions(const char *text)
{
    int bits = 0;

    if (!*text || strlen(text) > 3)
        return -1;
    for (; *text; text++) {
        const char *letter = strchr("xwr", *text);

        if (letter)
            bits |= 1 << (letter - "xwr");
        else if (*text != '-')
            return -1;
    }
    return bits;
}

/* 0; 1: a name instead of a number. */
static int read_number(const char *text, uint32_t *id)
{
    unsigned long long number;
    char *end;

    if (*text < '0' || *text > '9')
        return 1;
    number = strtoull(text, &end, 10);
    if (*end || number >= UINT32_MAX)
        return 1;
    *id = (uint32_t)number;
    return 0;
}

static int tag_of(const char *word, int qualified)
{
    if (!strcmp(word, "user") || !strcmp(word, "u"))
        return qualified ? ACL_USER : ACL_USER_OBJ;
    if (!strcmp(word, "group") || !strcmp(word, "g"))
        return qualified ? ACL_GROUP : ACL_GROUP_OBJ;
    if (!strcmp(word, "mask") || !strcmp(word, "m"))
        return qualified ? -1 : ACL_MASK;
    if (!strcmp(word, "other") || !strcmp(word, "o"))
        return qualified ? -1 : ACL_OTHER;
    return -1;
}

/* user:[who]:rwx[:number]. 0, 1 for a name without a number, -1. */
static int read_rule(char *text, struct rule *rule)
{
    char *fields[FIELDS];
    int count, tag, permissions;
    const char *who, *bits;

    if (!strncmp(text, "default:", 8))
        text += 8;
    count = split(text, fields);
    if (count < 2)
        return -1;
    who = count == 2 ? "" : fields[1];
    bits = count == 2 ? fields[1] : fields[2];
    tag = tag_of(fields[0], *who != 0);
    permissions = read_permissions(bits);
    if (tag < 0 || permissions < 0)
        return -1;
    *rule = (struct rule){(uint16_t)tag, (uint16_t)permissions, (uint32_t)ACL_UNDEFINED_ID};
    if (!*who)
        return 0;
    return count == 4 ? read_number(fields[3], &rule->id) : read_number(who, &rule->id);
}

/* The kernel wants them in this order: posix_acl_valid() of fs/posix_acl.c. */
static int by_tag(const void *a, const void *b)
{
    const struct rule *first = a, *second = b;

    if (first->tag != second->tag)
        return first->tag < second->tag ? -1 : 1;
    return first->id < second->id ? -1 : first->id > second->id;
}

int acl_encode(const char *text, unsigned char value[ACL_MAX_SIZE])
{
    struct posix_acl_xattr_header header = {htole32(POSIX_ACL_XATTR_VERSION)};
    struct posix_acl_xattr_entry entry;
    struct rule rules[(ACL_MAX_SIZE - sizeof(header)) / sizeof(entry)];
    size_t count = 0, size = sizeof(header);
    char rule[256];

    while (*text) {
        text = next_rule(text, rule, sizeof(rule));
        if (!*rule)
            continue;
        if (count == sizeof(rules) / sizeof(*rules))
            return -1;
        int result = read_rule(rule, &rules[count++]);
        if (result)
            return result < 0 ? -1 : 0;
    }
    if (!count)
        return -1;
    qsort(rules, count, sizeof(*rules), by_tag);
    memcpy(value, &header, sizeof(header));
    for (size_t i = 0; i < count; i++, size += sizeof(entry)) {
        entry.e_tag = htole16(rules[i].tag);
        entry.e_perm = htole16(rules[i].permissions);
        entry.e_id = htole32(rules[i].id);
        memcpy(value + size, &entry, sizeof(entry));
    }
    return (int)size;
}
