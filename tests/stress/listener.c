/* listener.c: what the notify switch needs besides a window: the client's listener, in the server's hands, and a bell.
 *
 * Between processes the client installs its filter anew each round, in a process that ends with it, and hands the
 * listener over as a handshake does, by SCM_RIGHTS. Between threads there is one filter, and both sides are under it. */
#define _GNU_SOURCE
#include "stress.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/wait.h>

static int hand[2]; /* from the client's process to the server's */
static int baton = -1;

static bool used(void)
{
    return ledger->switch_id == FC_SWITCH_NOTIFY;
}

int try_notify(void)
{
    if (option.threads) {
        int fd = fc_notify_install();
        return fd < 0 ? -fd : (baton = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) < 0 ? errno : 0;
    }
    int status;
    pid_t child = fork();
    if (child == 0) {
        int fd = fc_notify_install();
        _exit(fd < 0 ? -fd : 0);
    }
    if (waitpid(child, &status, 0) != child || !WIFEXITED(status))
        return ECHILD;
    return WEXITSTATUS(status);
}

void prepare_listener(void)
{
    atomic_store(&ledger->ready, !used() || option.threads);
    if (!used())
        return;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ledger->bell))
        fail("socketpair");
    if (option.threads)
        fc_listener_init(&ledger->listener, fc_notify.listener, baton);
    else if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, hand))
        fail("socketpair");
}

/* One descriptor, with one byte. */
union passing {
    char room[CMSG_SPACE(sizeof(int))];
    struct cmsghdr align;
};

static struct msghdr message(struct iovec *one, union passing *control)
{
    static char byte;
    *one = (struct iovec){.iov_base = &byte, .iov_len = 1};
    return (struct msghdr){.msg_iov = one, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof *control};
}

static void pass(int fd)
{
    struct iovec one;
    union passing control = {{0}};
    struct msghdr m = message(&one, &control);
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(c), &fd, sizeof fd);
    if (fd < 0 || sendmsg(hand[0], &m, 0) != 1)
        complain(ledger, "the listener cannot be made or passed: %d", fd);
}

static int passed(void)
{
    struct iovec one;
    union passing control = {{0}};
    struct msghdr m = message(&one, &control);
    int fd = -1;
    if (recvmsg(hand[1], &m, MSG_CMSG_CLOEXEC) == 1 && CMSG_FIRSTHDR(&m))
        memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof fd);
    return fd;
}

void share_listener(uint32_t side)
{
    if (!used())
        return;
    close(ledger->bell[!side]);
    if (side == FC_CLIENT_ACTIVE)
        pass(fc_notify_install());
    else {
        int fd = passed();
        if (fd < 0 || (baton = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) < 0)
            complain(ledger, "the listener was not received");
        fc_listener_init(&ledger->listener, fd, baton);
        atomic_store(&ledger->ready, 1);
    }
    close(hand[0]);
    close(hand[1]);
}

/* As Endpoint.close does it: the word says that it is over before the bell does. The thread that ends the round may have
 * come only as far as telling its own side. */
void part(uint32_t side)
{
    if (!used())
        return;
    fc_shutdown(&ledger->ep[side]);
    shutdown(ledger->bell[side], SHUT_RDWR);
}

/* In the supervisor: of processes, after they have been started; of threads, after they have ended. */
void drop_listener(void)
{
    if (!used())
        return;
    for (int i = 0; i < 2; i++) {
        if (option.threads)
            fc_notify_leave(&ledger->ep[i]);
        close(ledger->bell[i]);
        if (!option.threads)
            close(hand[i]);
    }
}
