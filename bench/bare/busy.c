/* busy.c: other work. Counts for ever on one CPU, at normal priority, until its parent kills it or dies.
 *
 *   busy CPU PARENT_PID                              (CPU -1: not pinned)
 */
#define _GNU_SOURCE
#include "child.h"

#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
    static volatile unsigned long counter;
    if (argc != 3) {
        fprintf(stderr, "usage: %s CPU PARENT_PID\n", argv[0]);
        return 2;
    }
    if (die_with((pid_t)atol(argv[2])) != 0 || pin_to(atoi(argv[1])) != 0 || be_normal() != 0) {
        perror("busy");
        return 1;
    }
    for (;;)
        counter++;
}
