/* Compiled into the programs of a --sanitize build: where their reports go.
 *
 * A monitor has /dev/null for its standard error and no environment, so the options cannot come
 * from there: REPORT is a path, to which the process id is appended. Leaks are not looked for: the
 * detector has to trace its own process, which nobody may do to a monitor, and a clone that becomes
 * another program by execve frees nothing. */

#define LOG_PATH "log_path=" REPORT

const char *__asan_default_options(void);
const char *__ubsan_default_options(void);

const char *__asan_default_options(void)
{
    return LOG_PATH ":detect_leaks=0:detect_stack_use_after_return=1:abort_on_error=1";
}

const char *__ubsan_default_options(void)
{
    return LOG_PATH ":print_stacktrace=1:abort_on_error=1";
}
