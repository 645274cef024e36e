/* core.c: flipcall's own C core on both sides, timed like the bare primitives beside it.
 *
 * Mode "notify" sleeps at once, by the notify switch (beside notify.c).
 * Mode "spin" spins for as long as it takes; mode "futex" sleeps at once, with no yield in between, so that it
 * does what futex.c does and differs by the library's own work alone. */
#include "pair.h"

#include <stdio.h>
#include <string.h>

#include <errno.h>
#include <sys/socket.h>

#include "notify.h"

#define FOREVER_NS 1000000000000ll

static struct fc_endpoint endpoint;
static struct fc_policy policy;
static bool notify;

/* The length, once control is back; waits on over the core's slices as the Python layer does. */
static void settle(int64_t result)
{
    while (result == FC_TICK)
        result = fc_resume(&endpoint, FC_NO_DEADLINE);
    if (result != 0) { /* every datagram here is empty */
        char what[80];
        snprintf(what, sizeof what, "core: result %lld, fault %u", (long long)result, endpoint.fault);
        fail(what, endpoint.fault == FC_FAULT_SYSCALL ? (int)endpoint.fault_value : 0);
    }
}

static void open_side(void *window, size_t length, uint32_t side)
{
    if (fc_init(&endpoint, window, (uint32_t)length, side, policy) != FC_OK)
        fail("fc_init", 0);
    endpoint.trust_sleepers = 1; /* what the JSON objects of connect() agree on between two of this library */
}

/* ---- the notify switch: the listener and a bell travel from the client to the server -------------------------- */

static int channel[2], bell[2];
static struct fc_notify_end end;
static struct fc_listener listener;

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

static int receive_listener(void)
{
    union { char room[CMSG_SPACE(sizeof(int))]; struct cmsghdr align; } control;
    char byte;
    int fd;
    struct iovec iov = {.iov_base = &byte, .iov_len = 1};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control.room};
    if (recvmsg(channel[1], &m, 0) != 1 || !CMSG_FIRSTHDR(&m))
        fail("recvmsg", errno);
    memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof fd);
    return fd;
}

static void use_notify(int joined)
{
    if (joined != FC_OK || fc_use_switch(&endpoint, FC_SWITCH_NOTIFY) != FC_OK)
        fail("fc_use_switch", 0);
}

static void open_client(void *window, size_t length)
{
    open_side(window, length, FC_CLIENT_ACTIVE);
    if (notify) {
        int fd = fc_notify_install();
        if (fd < 0)
            fail("fc_notify_install", -fd);
        send_listener(fd);
    }
    settle(fc_connect(&endpoint, 0, FC_NO_DEADLINE));
    if (notify)
        use_notify(fc_notify_client(&endpoint, &end, bell[0], 1));
}

static void open_server(void *window, size_t length)
{
    open_side(window, length, FC_SERVER_ACTIVE);
    settle(fc_first(&endpoint, FC_NO_DEADLINE));
    if (notify) {
        fc_listener_init(&listener, receive_listener(), -1);
        use_notify(fc_notify_server(&endpoint, &end, &listener, bell[1], 1));
    }
}

static void flip(void) /* the server's first one answers open_client's */
{
    settle(fc_send_recv(&endpoint, 0, FC_NO_DEADLINE));
}

static void serve_last(void)
{
    settle(fc_send_last(&endpoint, 0));
}

const struct primitive *primitive_for(const char *mode)
{
    static const struct primitive core = {open_client, open_server, flip, flip, flip, serve_last};
    if (strcmp(mode, "spin") == 0)
        policy = (struct fc_policy){.spin_ns = FOREVER_NS};
    else if (strcmp(mode, "notify") == 0) {
        notify = socketpair(AF_UNIX, SOCK_SEQPACKET, 0, bell) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, channel) == 0;
        if (!notify)
            fail("socketpair", errno);
    } else if (strcmp(mode, "futex") != 0)
        return NULL;
    return &core;
}
