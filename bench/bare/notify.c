/* notify.c: the bare cost of a hand-over by seccomp user notification. The client's ask is one trapped system call; the
 * server receives the notification and answers it. No datagram, no word in memory, no deadline, and no way to end it:
 * the least there is to do. SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP makes both wake-ups happen on the waker's CPU. */
#define _GNU_SOURCE
#include "pair.h"

#include <errno.h>
#include <linux/filter.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "seccomp_abi.h"

#define COOKIE 0x666c6970u

static int channel[2]; /* carries the listener from the client to the server */
static int listener;
static __u64 id;

static void send_listener(int fd)
{
    union { char room[CMSG_SPACE(sizeof(int))]; struct cmsghdr align; } control = {{0}};
    struct iovec iov = {.iov_base = "l", .iov_len = 1};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control.room};
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(c), &fd, sizeof fd);
    if (sendmsg(channel[0], &m, 0) != 1)
        fail("sendmsg", errno);
}

static void open_client(void *window, size_t length)
{
    (void)window, (void)length;
    struct sock_filter program[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, FC_TRAP_NR, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, COOKIE, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog filter = {.len = sizeof program / sizeof program[0], .filter = program};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        fail("PR_SET_NO_NEW_PRIVS", errno);
    int fd = (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
                          SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_SPEC_ALLOW, &filter);
    if (fd < 0)
        fail("seccomp", errno);
    if (ioctl(fd, SECCOMP_IOCTL_NOTIF_SET_FLAGS, SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP) != 0)
        fail("SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP (Linux 6.6)", errno);
    send_listener(fd);
    close(fd); /* the server is its only holder: its death ends the trap */
}

static void open_server(void *window, size_t length)
{
    (void)window, (void)length;
    union { char room[CMSG_SPACE(sizeof(int))]; struct cmsghdr align; } control;
    char byte;
    struct iovec iov = {.iov_base = &byte, .iov_len = 1};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control.room};
    if (recvmsg(channel[1], &m, 0) != 1 || !CMSG_FIRSTHDR(&m))
        fail("recvmsg", errno);
    memcpy(&listener, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof listener);
}

static void ask(void)
{
    long result;
    while ((result = syscall(FC_TRAP_NR, COOKIE)) != 0)
        if (errno != EINTR)
            fail("the trapped call", errno);
}

static void receive(void)
{
    struct seccomp_notif n;
    do
        memset(&n, 0, sizeof n);
    while (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &n) != 0 && (errno == EINTR || errno == ENOENT));
    id = n.id;
}

static void answer(void)
{
    struct seccomp_notif_resp r = {.id = id};
    if (ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &r) != 0 && errno != ENOENT)
        fail("SECCOMP_IOCTL_NOTIF_SEND", errno);
}

static void serve_next(void)
{
    answer();
    receive();
}

const struct primitive *primitive_for(const char *mode)
{
    static const struct primitive notify = {open_client, open_server, ask, receive, serve_next, answer};
    if (*mode != '\0' || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, channel) != 0)
        return NULL;
    return &notify;
}
