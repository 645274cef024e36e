/* cpu.h: what depends on the processor, and nothing else does. */
#ifndef FLIPCALL_CPU_H
#define FLIPCALL_CPU_H

/* Tell the processor that this is a spin loop: it frees the pipeline for the sibling thread and leaves the
 * loop without a memory-order misprediction when the word changes. */
static inline void fc_cpu_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("isb" ::: "memory"); /* "yield" is a no-op on most cores; isb pauses about as long */
#else
    __asm__ __volatile__("" ::: "memory");
#endif
}

/* These bytes will be read, then written: fetch their cache line for writing at once. A hint, which changes nothing else.
 * By hand, because GCC makes of __builtin_prefetch(p, 1) a prefetch for reading unless it is told of the processor. */
static inline void fc_cpu_prefetch_write(const void *at)
{
#if defined(__x86_64__)
    __asm__ __volatile__("prefetchw %0" : : "m"(*(const char *)at));
#elif defined(__aarch64__)
    __asm__ __volatile__("prfm pstl1keep, %0" : : "Q"(*(const char *)at));
#else
    (void)at;
#endif
}

/* What a seccomp filter sees as the processor (linux/audit.h); elsewhere undefined: fc_notify_install says ENOSYS. */
#if defined(__x86_64__)
#define FC_TRAP_ARCH AUDIT_ARCH_X86_64 /* x32 has the same, but other numbers: never trapped */
#elif defined(__aarch64__)
#define FC_TRAP_ARCH AUDIT_ARCH_AARCH64
#endif

#endif
