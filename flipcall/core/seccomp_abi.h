/* seccomp_abi.h: the kernel's interface for seccomp user notification, where the system's headers may be older than
 * the running kernel. The only home of these numbers in C; they are kernel ABI and never change.
 *
 * The trapped call. It is getppid(2), which takes no arguments, called with a cookie in the place of the first: 64
 * random bits that no other caller has by accident. Rejected: a number without a system call behind it. Profiles
 * that list what is allowed (Docker's, systemd's SystemCallFilter=) answer unknown numbers with EPERM or kill, and
 * the most restrictive filter wins; they all let getppid through. And should our filter be missing, what runs
 * instead is harmless.
 */
#ifndef FLIPCALL_SECCOMP_ABI_H
#define FLIPCALL_SECCOMP_ABI_H

#include <linux/audit.h>
#include <linux/seccomp.h>
#include <sys/syscall.h>

#include "cpu.h"

#define FC_TRAP_NR SYS_getppid

#ifndef SECCOMP_FILTER_FLAG_SPEC_ALLOW
#define SECCOMP_FILTER_FLAG_SPEC_ALLOW (1UL << 2)
#endif
#ifndef SECCOMP_FILTER_FLAG_TSYNC_ESRCH /* Linux 5.7 */
#define SECCOMP_FILTER_FLAG_TSYNC_ESRCH (1UL << 4)
#endif
#ifndef SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP /* Linux 6.6 */
#define SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP (1UL << 0)
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS SECCOMP_IOW(4, __u64)
#endif

_Static_assert(sizeof(struct seccomp_notif) == 80, "seccomp(2), SECCOMP_IOCTL_NOTIF_RECV");
_Static_assert(sizeof(struct seccomp_notif_resp) == 24, "seccomp(2), SECCOMP_IOCTL_NOTIF_SEND");

#endif
