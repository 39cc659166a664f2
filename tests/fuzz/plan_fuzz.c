/* Gives bytes to the reader of plans, and of a plan that it accepts reads everything as the monitor
 * would. Built with clang -fsanitize=fuzzer, or with STANDALONE defined as a program of its own that
 * mutates what it is given:
 *
 *   plan_fuzz SECONDS SEED FILE…
 *
 * It ends with a sanitizer's report where a read leaves its buffer, and by abort where an accepted
 * plan is not what plan.h promises. */
#include "plan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static volatile uint64_t sink;

static void require(int holds, const char *what)
{
    if (holds)
        return;
    fprintf(stderr, "plan_fuzz: an accepted plan: %s\n", what);
    abort();
}

static void read_bytes(const char *data, size_t size)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < size; i++)
        sum += (unsigned char)data[i];
    sink += sum;
}

static void read_list(const struct step *step, int index)
{
    size_t count = 0, bytes = 0;

    for (const char *at = NULL; (at = list_next(step, index, at)); count++)
        bytes += strlen(at) + 1;
    require(count == list_count(step, index), "a list has two lengths");
    require(bytes == step->args[index].size, "a list is not made of its strings");
}

static void read_step(const struct plan *plan, const struct step *step)
{
    const char *kinds;

    require(step->op > 0 && step->op < OP_COUNT, "an operation is unknown");
    kinds = plan_ops[step->op].args;
    require(step->argc == strlen(kinds), "a step does not fit its row");
    for (int i = 0; i < step->argc; i++) {
        const struct arg *arg = &step->args[i];

        require(arg->data >= plan->text && arg->size <= plan->size &&
                arg->data + arg->size <= plan->text + plan->size, "an argument lies outside");
        read_bytes(arg->data, arg->size);
        if (kinds[i] == 'n')
            sink += arg_number(step, i);
        else if (kinds[i] == 'f')
            require(arg_fd(step, i) >= PLAN_FIRST_FD &&
                    arg_fd(step, i) < PLAN_FIRST_FD + (int)plan->fds, "a descriptor is too high");
        else if (kinds[i] == 's')
            require(strlen(arg_text(step, i)) + 1 == arg->size, "a string is cut");
        else if (kinds[i] == 'l')
            read_list(step, i);
    }
}

/* What is done before there is a container, plan.h. */
static int is_before_clone(uint16_t op)
{
    return op == OP_DEVICES || op == OP_JOIN_FIRST || op == OP_INITIAL_AFFINITY || op == OP_TIME;
}

static void read_plan(const struct plan *plan)
{
    uint32_t clones = 0, waits = 0;

    require(plan->count > 0 && plan->count <= PLAN_MAX_STEPS, "there are too many steps, or none");
    require(plan->fds <= PLAN_MAX_FDS, "there are too many descriptors");
    for (uint32_t i = 0; i < plan->count; i++) {
        uint16_t op = plan->steps[i].op;
        enum side side = plan_ops[op].side;

        read_step(plan, &plan->steps[i]);
        clones += op == OP_CLONE;
        waits += op == OP_WAIT;
        if (side == SIDE_CONTAINER)
            require(clones == 1, "a step of the container stands before the clone");
        if (side == SIDE_SETTING || is_before_clone(op))
            require(clones == 0, "what comes before the clone stands after it");
        if (side == SIDE_HOST)
            require(waits == 0, "after the wait nobody is there for a step of the host");
    }
    require(waits <= 1, "there is more than one wait");
    require(clones == 1, "there is not one clone");
    require(plan->steps[plan->count - 1].op == OP_EXEC, "the last step is no exec");
    require(list_count(&plan->steps[plan->count - 1], 0) > 0, "exec has no arguments");
    require(list_count(&plan->steps[plan->count - 1], 2) > 0, "exec has no paths to try");
}

/* As the monitor reads it: from a descriptor. */
static int accepted_from_file(const uint8_t *data, size_t size)
{
    static int fd = -1;
    struct plan plan;
    const char *why;

    if (fd < 0)
        fd = memfd_create("plan", MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, 0) < 0 || pwrite(fd, data, size, 0) != (ssize_t)size ||
        lseek(fd, 0, SEEK_SET) < 0)
        abort();
    if (plan_read(fd, &plan, &why) < 0) {
        require(why != NULL, "it was refused without a reason");
        return 0;
    }
    read_plan(&plan);
    plan_free(&plan);
    return 1;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct plan plan;
    const char *why = NULL;
    char *bytes = malloc(size ? size : 1);
    int accepted;

    if (!bytes)
        return 0;
    if (size)
        memcpy(bytes, data, size);
    accepted = plan_parse(bytes, size, &plan, &why) == 0;
    require(accepted || why, "it was refused without a reason");
    if (accepted) {
        read_plan(&plan);
        plan_free(&plan);
    } else {
        free(bytes);
    }
    /* What follows the size that the header says is not read from a file. */
    require(!accepted || accepted_from_file(data, size), "it is refused from a file");
    if (!accepted)
        accepted_from_file(data, size);
    return 0;
}

#ifdef STANDALONE
#define LARGEST (1u << 16)

static uint64_t state;

static uint32_t chance(uint32_t below)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(state >> 33) % below;
}

static const uint32_t edges[] = {0, 1, 7, 8, 9, 16, 4095, 4096, 4097, 0x7fffffff, 0x80000000,
                                 0xfffffff8, 0xffffffff};

static size_t mutate(uint8_t *data, size_t size)
{
    size_t at = chance((uint32_t)size), other = chance((uint32_t)size), length;
    uint32_t word = edges[chance(sizeof(edges) / sizeof(*edges))];

    switch (chance(6)) {
    case 0:
        data[at] ^= (uint8_t)(1u << chance(8));
        break;
    case 1:
        at -= at % 4;
        if (at + sizeof(word) <= size)
            memcpy(data + at, &word, sizeof(word));
        break;
    case 2:  /* cut off, with a header that says so */
        if (size > 24) {
            size = 24 + chance((uint32_t)size - 24);
            word = (uint32_t)size;
            memcpy(data + 12, &word, sizeof(word));
        }
        break;
    case 3:  /* one part over another */
        length = chance(64);
        if (at + length <= size && other + length <= size)
            memmove(data + at, data + other, length);
        break;
    case 4:
        data[at] = (uint8_t)chance(256);
        break;
    default:
        at -= at % 8;
        if (at + 8 <= size)
            data[at + 4] = (uint8_t)chance(OP_COUNT + 2);
    }
    return size;
}

static size_t load(const char *path, uint8_t *data)
{
    FILE *file = fopen(path, "rb");
    size_t size = file ? fread(data, 1, LARGEST, file) : 0;

    if (file)
        fclose(file);
    if (size < 24) {
        fprintf(stderr, "plan_fuzz: %s: no plan\n", path);
        exit(2);
    }
    return size;
}

int main(int argc, char **argv)
{
    static uint8_t good[LARGEST], data[LARGEST];
    time_t end;
    uint64_t runs = 0;

    if (argc < 4)
        return 2;
    end = time(NULL) + atoi(argv[1]);
    state = strtoull(argv[2], NULL, 10);
    while (time(NULL) < end) {
        size_t size = load(argv[3 + runs % (uint64_t)(argc - 3)], good);

        for (int i = 0; i < 2000; i++, runs++) {
            size_t used = size;

            memcpy(data, good, size);
            for (uint32_t n = chance(4); n > 0 && used; n--)
                used = mutate(data, used);
            LLVMFuzzerTestOneInput(data, used);
        }
        runs++;
    }
    printf("%llu\n", (unsigned long long)runs);
    return 0;
}
#endif
