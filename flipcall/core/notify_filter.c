/* notify_filter.c: the filter that traps one call of this process, and its listener.
 *
 * Theory. A seccomp filter cannot be taken off again, is inherited by threads and children created later, and a
 * thread can have one listener in its chain of filters (EBUSY). So: one filter and one listener a process, made by
 * the first connection that asks, for every thread there is (TSYNC), kept until the process ends. Where another
 * thread has filters of its own, TSYNC cannot be had (ESRCH): then only this thread and those it starts later are
 * covered, and the others park by futex, as fc_notify_covered tells each of them.
 *
 * The program allows everything but getppid with our cookie in its first argument (seccomp_abi.h says why that
 * call); that one it hands to the listener, or, if the third argument is not 0, answers itself with EXDEV, which is
 * how a thread asks whether it is covered. Other calls never reach the program: the kernel finds out beforehand that
 * it always allows them (Linux 5.11), so they pay for a bit to be looked up.
 *
 * Flags not used: WAIT_KILLABLE_RECV, which would keep Ctrl-C out once the server has received.
 */
#define _GNU_SOURCE
#include "notify.h"

#include <errno.h>
#include <linux/filter.h>
#include <poll.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <unistd.h>

#include "seccomp_abi.h"

struct fc_notify_process fc_notify = {.listener = -1};

static uint32_t installed;                    /* counts: a child forgets its parent's, and may have its own */
static _Thread_local uint32_t covered_by;     /* the value of `installed` that this thread has asked about */
static _Thread_local bool covered;

static long trap_with(uint64_t what, uint32_t index)
{
    long result = syscall(FC_TRAP_NR, fc_notify.cookie, (uint64_t)index, what);
    return result < 0 ? -errno : result;
}

long fc_notify_trap(uint32_t index)
{
    return trap_with(0, index);
}

bool fc_notify_covered(void)
{
    if (covered_by != installed) {
        covered = trap_with(1, 0) == -EXDEV;
        covered_by = installed;
    }
    return covered;
}

int fc_notify_recv(int listener, struct fc_note *note)
{
    struct seccomp_notif n;
    memset(&n, 0, sizeof n); /* the kernel insists */
    if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &n) != 0)
        return -errno;
    *note = (struct fc_note){.id = n.id, .cookie = n.data.args[0], .index = (uint32_t)n.data.args[1]};
    return 0;
}

int fc_notify_send(int listener, uint64_t id)
{
    struct seccomp_notif_resp r = {.id = id};
    return ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &r) == 0 ? 0 : -errno;
}

bool fc_readable(int fd, int timeout_ms)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    return poll(&p, 1, timeout_ms) == 1 && (p.revents & POLLIN);
}

bool fc_notify_valid(int listener, uint64_t id)
{
    return ioctl(listener, SECCOMP_IOCTL_NOTIF_ID_VALID, &id) == 0;
}

#ifdef FC_TRAP_ARCH
#define FIELD(name) ((uint32_t)offsetof(struct seccomp_data, name))
#define LOW(i) (FIELD(args) + 8 * (i) + (__BYTE_ORDER__ == __ORDER_BIG_ENDIAN__ ? 4 : 0))
#define HIGH(i) (FIELD(args) + 8 * (i) + (__BYTE_ORDER__ == __ORDER_BIG_ENDIAN__ ? 0 : 4))

static long install_filter(uint64_t cookie, unsigned long flags)
{
    struct sock_filter program[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, FIELD(arch)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, FC_TRAP_ARCH, 0, 10),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, FIELD(nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, FC_TRAP_NR, 0, 8),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, LOW(0)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)cookie, 0, 6),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, HIGH(0)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)(cookie >> 32), 0, 4),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, LOW(2)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EXDEV),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog filter = {.len = sizeof program / sizeof program[0], .filter = program};
    long fd = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &filter);
    return fd < 0 ? -errno : fd;
}

/* The listener, or a negative errno. */
static long listener_for(uint64_t cookie)
{
    /* SPEC_ALLOW: this is no sandbox, and must not switch on what some kernels think a sandbox needs. */
    unsigned long flags = SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_SPEC_ALLOW;
    uint64_t sync = SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP;
    struct seccomp_notif_sizes sizes = {0};
    if (syscall(SYS_seccomp, SECCOMP_GET_NOTIF_SIZES, 0, &sizes) != 0)
        return -errno;
    if (sizes.seccomp_notif > sizeof(struct seccomp_notif) || sizes.seccomp_notif_resp > sizeof(struct seccomp_notif_resp))
        return -EPROTO; /* a kernel whose notifications have grown: it would write beyond ours */
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return -errno;
    long fd = install_filter(cookie, flags | SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_TSYNC_ESRCH);
    if (fd == -ESRCH) /* another thread has filters of its own */
        fd = install_filter(cookie, flags);
    if (fd < 0)
        return fd;
    if (ioctl((int)fd, SECCOMP_IOCTL_NOTIF_SET_FLAGS, sync) != 0) {
        int error = errno;
        close((int)fd);
        return -error;
    }
    return fd;
}
#else
static long listener_for(uint64_t cookie)
{
    (void)cookie;
    return -ENOSYS;
}
#endif

/* Give this process its listener, once and for good; its descriptor, which stays this file's, or a negative errno:
 * EBUSY when this thread has a listener already, EINVAL before Linux 6.6, EPROTO when another filter answers the
 * trapped call, or the kernel numbers notifications in a way that the watch does not understand. The caller sees
 * to it that only one thread is in here. */
int fc_notify_install(void)
{
    if (fc_notify.listener >= 0)
        return fc_notify.listener;
    uint64_t cookie;
    if (getrandom(&cookie, sizeof cookie, 0) != sizeof cookie)
        return -EAGAIN;
    long fd = listener_for(cookie);
    if (fd < 0)
        return (int)fd;
    fc_notify.cookie = cookie;
    fc_notify.listener = (int)fd;
    installed++;
    int error = fc_notify_covered() ? fc_watch_start() : -EPROTO;
    if (error == 0)
        error = fc_taker_calibrate();
    if (error != 0) {
        close((int)fd); /* the filter stays, and what it traps gets ENOSYS */
        fc_notify.listener = -1;
        return error;
    }
    return (int)fd;
}

/* In a forked child. The filter has come along, the threads of the watch have not. The listener is the parent's:
 * kept open here, it would outlive the parent. */
void fc_notify_forked(void)
{
    if (fc_notify.listener >= 0)
        close(fc_notify.listener);
    fc_notify.listener = -1;
    installed++;
    fc_watch_forked();
}
