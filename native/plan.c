/* Reading a plan and refusing a bad one. See plan.h for the form. */
#include "plan.h"
#include "netlink.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const struct op_row plan_ops[OP_COUNT] = {
    [OP_RUN] = {"run", SIDE_SETTING, "ss"},
    [OP_RECORDS] = {"records", SIDE_SETTING, "ffn"},
    [OP_OWNER] = {"owner", SIDE_SETTING, "fnn"},
    [OP_STDIO] = {"stdio", SIDE_SETTING, "nnn"},
    [OP_LOG] = {"log", SIDE_SETTING, "snn"},
    [OP_TIMEOUT] = {"timeout", SIDE_SETTING, "n"},
    [OP_CLEANUP] = {"cleanup", SIDE_SETTING, "ll"},
    [OP_CGROUP] = {"cgroup", SIDE_SETTING, "f"},
    [OP_TRACE] = {"trace", SIDE_SETTING, "f"},
    [OP_STREAMS] = {"streams", SIDE_SETTING, "fff"},
    [OP_HOLD] = {"hold", SIDE_SETTING, "f"},
    [OP_LEASH] = {"leash", SIDE_SETTING, "f"},
    [OP_EVENTS] = {"events", SIDE_SETTING, "ffsss"},
    [OP_PUBLISH] = {"publish", SIDE_SETTING, "fsn"},
    [OP_DEVICES] = {"devices", SIDE_HOST, "fb"},
    [OP_JOIN_FIRST] = {"join_first", SIDE_HOST, "fn"},
    [OP_INITIAL_AFFINITY] = {"initial_affinity", SIDE_HOST, "b"},
    [OP_TIME] = {"time", SIDE_HOST, "s"},
    [OP_CLONE] = {"clone", SIDE_HOST, "n"},
    [OP_ID_MAPS] = {"id_maps", SIDE_HOST, "ss"},
    [OP_OOM_SCORE] = {"oom_score", SIDE_HOST, "s"},
    [OP_NETLINK_HOST] = {"netlink_host", SIDE_HOST, "bnl"},
    [OP_READY] = {"ready", SIDE_HOST, ""},
    [OP_SYNC] = {"sync", SIDE_HOST, "s"},
    [OP_IDENTITY] = {"identity", SIDE_CONTAINER, "nn"},
    [OP_JOIN] = {"join", SIDE_CONTAINER, "fn"},
    [OP_UNSHARE] = {"unshare", SIDE_CONTAINER, "n"},
    [OP_SESSION] = {"session", SIDE_CONTAINER, "n"},
    [OP_PROPAGATION] = {"propagation", SIDE_CONTAINER, "n"},
    [OP_ROOT] = {"root", SIDE_CONTAINER, "fsn"},
    [OP_MOUNT] = {"mount", SIDE_CONTAINER, "sssnln"},
    [OP_BIND] = {"bind", SIDE_CONTAINER, "fsnnnnn"},
    [OP_READONLY] = {"readonly", SIDE_CONTAINER, "l"},
    [OP_MASK] = {"mask", SIDE_CONTAINER, "l"},
    [OP_DIRECTORY] = {"directory", SIDE_CONTAINER, "sn"},
    [OP_SYMLINK] = {"symlink", SIDE_CONTAINER, "ss"},
    [OP_NODE] = {"node", SIDE_CONTAINER, "snnnn"},
    [OP_ATTRIBUTES] = {"attributes", SIDE_CONTAINER, "snnn"},
    [OP_RECONFIGURE] = {"reconfigure", SIDE_CONTAINER, "sl"},
    [OP_HOSTNAME] = {"hostname", SIDE_CONTAINER, "s"},
    [OP_DOMAINNAME] = {"domainname", SIDE_CONTAINER, "s"},
    [OP_LOOPBACK] = {"loopback", SIDE_CONTAINER, ""},
    [OP_NETLINK] = {"netlink", SIDE_CONTAINER, "bl"},
    [OP_CONSOLE] = {"console", SIDE_CONTAINER, "nnn"},
    [OP_HOOK] = {"hook", SIDE_CONTAINER, "sllnss"},
    [OP_PIVOT] = {"pivot", SIDE_CONTAINER, "n"},
    [OP_ENTER] = {"enter", SIDE_CONTAINER, ""},
    [OP_SYSCTL] = {"sysctl", SIDE_CONTAINER, "ss"},
    [OP_PERSONALITY] = {"personality", SIDE_CONTAINER, "n"},
    [OP_SCHEDULER] = {"scheduler", SIDE_CONTAINER, "b"},
    [OP_IO_PRIORITY] = {"io_priority", SIDE_CONTAINER, "n"},
    [OP_AFFINITY] = {"affinity", SIDE_CONTAINER, "b"},
    [OP_MEMORY_POLICY] = {"memory_policy", SIDE_CONTAINER, "nb"},
    [OP_APPARMOR] = {"apparmor", SIDE_CONTAINER, "s"},
    [OP_RLIMIT] = {"rlimit", SIDE_CONTAINER, "nnn"},
    [OP_NO_NEW_PRIVS] = {"no_new_privs", SIDE_CONTAINER, ""},
    [OP_SECCOMP] = {"seccomp", SIDE_CONTAINER, "bn"},
    [OP_CREDENTIALS] = {"credentials", SIDE_CONTAINER, "nnbnnnnn"},
    [OP_PARENT_DEATH] = {"parent_death", SIDE_CONTAINER, "n"},
    [OP_UMASK] = {"umask", SIDE_CONTAINER, "n"},
    [OP_CWD] = {"cwd", SIDE_CONTAINER, "s"},
    [OP_LOOKUP] = {"lookup", SIDE_CONTAINER, "l"},
    [OP_WAIT] = {"wait", SIDE_CONTAINER, "ff"},
    [OP_INHERIT] = {"inherit", SIDE_CONTAINER, "fn"},
    [OP_CLOSE] = {"close", SIDE_CONTAINER, "n"},
    [OP_EXEC] = {"exec", SIDE_CONTAINER, "lll"},
};

static int refuse(const char **why, const char *text)
{
    *why = text;
    errno = EINVAL;
    return -1;
}

static uint32_t get_u32(const char *at)
{
    uint32_t value;

    memcpy(&value, at, sizeof(value));
    return value;
}

static uint16_t get_u16(const char *at)
{
    uint16_t value;

    memcpy(&value, at, sizeof(value));
    return value;
}

static int parse_arg(char kind, const struct arg *arg, uint32_t fds, const char **why)
{
    uint64_t number;

    switch (kind) {
    case 'n':
    case 'f':
        if (arg->size != sizeof(number))
            return refuse(why, "a number is not 8 bytes long");
        memcpy(&number, arg->data, sizeof(number));
        if (kind == 'f' && number >= fds)
            return refuse(why, "a descriptor index is out of range");
        return 0;
    case 's':
        if (arg->size == 0 || memchr(arg->data, 0, arg->size) != arg->data + arg->size - 1)
            return refuse(why, "a string does not end in its only NUL");
        return 0;
    case 'l':
        if (arg->size != 0 && arg->data[arg->size - 1] != 0)
            return refuse(why, "a list does not end in NUL");
        return 0;
    default:
        return 0;
    }
}

static int check_batch(const struct step *step, const char **why)
{
    const char *wrong = NULL;

    if (step->op == OP_NETLINK)
        wrong = netlink_check(step->args[0].data, step->args[0].size, 0);
    else if (step->op == OP_NETLINK_HOST)
        wrong = netlink_check(step->args[0].data, step->args[0].size, arg_number(step, 1));
    return wrong ? refuse(why, wrong) : 0;
}

/* One step at `at` with `left` bytes; returns its size, 0 when it is bad. */
static size_t parse_step(const char *at, size_t left, uint32_t fds, struct step *step,
                         const char **why)
{
    size_t size, offset = 8;
    const char *kinds;

    if (left < 8 || (size = get_u32(at)) < 8 || size > left || size % 8)
        return refuse(why, "a step has a bad size"), 0;
    step->op = get_u16(at + 4);
    step->argc = get_u16(at + 6);
    if (step->op == 0 || step->op >= OP_COUNT)
        return refuse(why, "a step has an unknown operation"), 0;
    kinds = plan_ops[step->op].args;
    if (step->argc != strlen(kinds))
        return refuse(why, "a step has a wrong number of arguments"), 0;
    for (int i = 0; i < step->argc; i++) {
        struct arg *arg = &step->args[i];

        if (size - offset < 8)
            return refuse(why, "an argument is cut off"), 0;
        arg->size = get_u32(at + offset);
        arg->data = at + offset + 8;
        offset += 8;
        if (arg->size > size - offset || (arg->size + 7ull) / 8 * 8 > size - offset)
            return refuse(why, "an argument is longer than its step"), 0;
        offset += (arg->size + 7ull) / 8 * 8;
        if (parse_arg(kinds[i], arg, fds, why) < 0)
            return 0;
    }
    if (offset != size)
        return refuse(why, "a step is longer than its arguments"), 0;
    if (check_batch(step, why) < 0)
        return 0;
    return size;
}

static int before_clone(uint16_t op)
{
    return op == OP_DEVICES || op == OP_JOIN_FIRST || op == OP_TIME || op == OP_INITIAL_AFFINITY;
}

/* The order that the executor relies on: settings and host steps, one clone, the rest, one exec
 * at the very end. */
static int check_order(const struct plan *plan, const char **why)
{
    int cloned = 0, waited = 0;

    for (uint32_t i = 0; i < plan->count; i++) {
        const struct step *step = &plan->steps[i];
        enum side side = plan_ops[step->op].side;

        if (step->op == OP_CLONE && cloned++)
            return refuse(why, "there is more than one clone");
        if (side == SIDE_CONTAINER && !cloned)
            return refuse(why, "a step of the container stands before the clone");
        if (side == SIDE_SETTING && cloned)
            return refuse(why, "a setting stands after the clone");
        if (side == SIDE_HOST && step->op != OP_CLONE && before_clone(step->op) == cloned)
            return refuse(why, cloned ? "a step before the clone stands after it"
                                      : "a step for the clone stands before it");
        if (waited && (step->op == OP_WAIT || side == SIDE_HOST))
            return refuse(why, "a step that somebody else has to hear of stands after the wait");
        waited = waited || step->op == OP_WAIT;
        if (step->op == OP_EXEC) {
            if (step->args[0].size == 0 || step->args[2].size == 0)
                return refuse(why, "exec has no arguments or no candidate paths");
            if (i != plan->count - 1)
                return refuse(why, "exec is not the last step");
        }
    }
    if (plan->count == 0 || plan->steps[plan->count - 1].op != OP_EXEC || !cloned)
        return refuse(why, "there is no clone or no exec");
    return 0;
}

int plan_parse(char *bytes, size_t size, struct plan *plan, const char **why)
{
    struct plan_header header;
    size_t offset = sizeof(header);

    memset(plan, 0, sizeof(*plan));
    if (size < sizeof(header))
        return refuse(why, "shorter than its header");
    memcpy(&header, bytes, sizeof(header));
    if (memcmp(header.magic, PLAN_MAGIC, sizeof(header.magic)))
        return refuse(why, "not a plan");
    if (header.version != PLAN_VERSION)
        return refuse(why, "another version of the plan's form");
    if (header.size != size)
        return refuse(why, "not as long as its header says");
    if (header.steps > PLAN_MAX_STEPS || header.fds > PLAN_MAX_FDS)
        return refuse(why, "too many steps or descriptors");
    plan->steps = calloc(header.steps ? header.steps : 1, sizeof(struct step));
    if (!plan->steps)
        return *why = "no memory", -1;
    plan->fds = header.fds;
    plan->count = header.steps;
    plan->text = bytes;
    plan->size = size;
    for (uint32_t i = 0; i < header.steps; i++) {
        size_t used = parse_step(bytes + offset, size - offset, header.fds, &plan->steps[i], why);

        if (!used)
            goto bad;
        offset += used;
    }
    if (offset != size) {
        refuse(why, "bytes after the last step");
        goto bad;
    }
    if (check_order(plan, why) == 0)
        return 0;
bad:
    free(plan->steps);
    plan->steps = NULL;
    errno = EINVAL;
    return -1;
}

int plan_read(int fd, struct plan *plan, const char **why)
{
    struct plan_header header;
    size_t have = 0;
    char *bytes;

    *why = "cannot be read";
    while (have < sizeof(header)) {
        ssize_t n = read(fd, (char *)&header + have, sizeof(header) - have);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n ? -1 : refuse(why, "shorter than its header");
        have += (size_t)n;
    }
    if (header.size < sizeof(header) || header.size > PLAN_MAX_SIZE)
        return refuse(why, "its size is out of bounds");
    bytes = malloc(header.size);
    if (!bytes)
        return *why = "no memory", -1;
    memcpy(bytes, &header, sizeof(header));
    while (have < header.size) {
        ssize_t n = read(fd, bytes + have, header.size - have);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        have += (size_t)n;
    }
    if (plan_parse(bytes, have, plan, why) == 0)
        return 0;
    free(bytes);
    return -1;
}

void plan_free(struct plan *plan)
{
    free(plan->steps);
    free(plan->text);
    memset(plan, 0, sizeof(*plan));
}

uint64_t arg_number(const struct step *step, int index)
{
    uint64_t number;

    memcpy(&number, step->args[index].data, sizeof(number));
    return number;
}

int arg_fd(const struct step *step, int index)
{
    return PLAN_FIRST_FD + (int)arg_number(step, index);
}

const char *arg_text(const struct step *step, int index)
{
    return step->args[index].data;
}

const char *list_next(const struct step *step, int index, const char *previous)
{
    const struct arg *arg = &step->args[index];
    const char *next = previous ? previous + strlen(previous) + 1 : arg->data;

    return next < arg->data + arg->size ? next : NULL;
}

size_t list_count(const struct step *step, int index)
{
    size_t count = 0;

    for (const char *at = NULL; (at = list_next(step, index, at));)
        count++;
    return count;
}

const char *list_entry(const struct step *step, int index, size_t number)
{
    const char *at = list_next(step, index, NULL);

    while (at && number--)
        at = list_next(step, index, at);
    return at;
}
