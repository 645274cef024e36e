/* child.h: what every process of a benchmark asks of the kernel for itself. */
#ifndef FLIPCALL_BENCH_CHILD_H
#define FLIPCALL_BENCH_CHILD_H

#ifndef _GNU_SOURCE
#error "define _GNU_SOURCE before the first include"
#endif
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

/* Be killed when the parent dies. -1: it has died already, or the kernel refused. */
static inline int die_with(pid_t parent)
{
    return prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent ? -1 : 0;
}

/* Run on `cpu` alone; -1 changes nothing. Nonzero with errno on failure. */
static inline int pin_to(int cpu)
{
    cpu_set_t set;
    if (cpu < 0)
        return 0;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    return sched_setaffinity(0, sizeof set, &set);
}

/* Give up whatever shield the bench was started with (chrt, nice): under the busy load everybody is equal. */
static inline int be_normal(void)
{
    struct sched_param none = {0};
    return sched_setscheduler(0, SCHED_OTHER, &none) != 0 || setpriority(PRIO_PROCESS, 0, 0) != 0 ? -1 : 0;
}

#endif
