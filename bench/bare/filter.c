/* filter.c: what the filter of the notify switch adds to a system call of the process that has it.
 *
 *     filter CALLS INSTALL        prints two lines: ns a call of getuid(2), and of getppid(2), which the filter looks at
 *
 * INSTALL 1 has the filter before it measures. One process, one measurement: a filter cannot be taken off. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "notify.h"

/* Of this process, ns: other work on the machine then matters less. */
static int64_t cpu_time(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return t.tv_sec * 1000000000ll + t.tv_nsec;
}

static double ns_a_call(long number, long calls)
{
    int64_t start = cpu_time();
    for (long i = 0; i < calls; i++)
        syscall(number, 0l, 0l, 0l);
    return (double)(cpu_time() - start) / (double)calls;
}

int main(int argc, char **argv)
{
    long calls = argc == 3 ? atol(argv[1]) : 0;
    if (calls < 1)
        return 2;
    if (atoi(argv[2]) && fc_notify_install() < 0)
        return 77;
    ns_a_call(SYS_getuid, calls / 10 + 1);
    printf("%.2f\n", ns_a_call(SYS_getuid, calls));
    printf("%.2f\n", ns_a_call(SYS_getppid, calls));
    return 0;
}
