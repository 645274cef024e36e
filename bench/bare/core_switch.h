/* core_switch.h: what the notify switch needs beside the endpoint: the client's listener in the server's hands, and a
 * bell between the two. Nothing, in a core without that switch. */
#ifndef FLIPCALL_BENCH_CORE_SWITCH_H
#define FLIPCALL_BENCH_CORE_SWITCH_H

#include "endpoint.h"

#if __has_include("notify.h")
#define CORE_NOTIFY 1
#endif
#if __has_include("follow.c")
#define CORE_SAME_CPU 1
#endif

void core_prepare(uint32_t chosen);          /* before the fork */
void core_open(uint32_t chosen, int client); /* after it, before the endpoint is made */
void core_join(struct fc_endpoint *endpoint, uint32_t chosen, int client); /* once connected, before fc_use_switch */

#endif
