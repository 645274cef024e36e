/* core_switch.c: see core_switch.h. */
#define _GNU_SOURCE
#include "core_switch.h"

#include "pair.h"

#ifndef CORE_NOTIFY

void core_prepare(uint32_t chosen)
{
    (void)chosen;
}

void core_open(uint32_t chosen, int client)
{
    (void)chosen, (void)client;
}

void core_join(struct fc_endpoint *endpoint, uint32_t chosen, int client)
{
    (void)endpoint, (void)chosen, (void)client;
}

#else

#include "notify.h"

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CLIENT, SERVER };

static int bell[2], passing[2]; /* the client's end, the server's */
static struct fc_notify_end end;
static struct fc_listener listener;

union passed { /* room for one descriptor, aligned as the kernel wants it */
    struct cmsghdr head;
    char room[CMSG_SPACE(sizeof(int))];
};

static struct msghdr message_in(union passed *passed, struct iovec *byte)
{
    return (struct msghdr){
        .msg_iov = byte, .msg_iovlen = 1, .msg_control = passed->room, .msg_controllen = sizeof passed->room};
}

static void send_descriptor(int fd)
{
    union passed passed = {.head = {.cmsg_len = CMSG_LEN(sizeof fd), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS}};
    struct iovec byte = {"", 1};
    struct msghdr message = message_in(&passed, &byte);
    memcpy(CMSG_DATA(&passed.head), &fd, sizeof fd);
    if (sendmsg(passing[CLIENT], &message, 0) != 1)
        fail("passing the listener", errno);
}

static int receive_descriptor(void)
{
    union passed passed = {0};
    char ignored;
    struct iovec byte = {&ignored, 1};
    struct msghdr message = message_in(&passed, &byte);
    int fd;
    if (recvmsg(passing[SERVER], &message, MSG_CMSG_CLOEXEC) != 1 || passed.head.cmsg_type != SCM_RIGHTS)
        fail("taking the listener", errno);
    memcpy(&fd, CMSG_DATA(&passed.head), sizeof fd);
    return fd;
}

void core_prepare(uint32_t chosen)
{
    if (chosen == FC_SWITCH_NOTIFY && (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, bell) != 0 ||
                                       socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, passing) != 0))
        fail("socketpair", errno);
}

/* The filter is installed after the fork, so that the server's system calls do not pay for it. */
void core_open(uint32_t chosen, int client)
{
    if (chosen != FC_SWITCH_NOTIFY)
        return;
    close(bell[client ? SERVER : CLIENT]);
    close(passing[client ? SERVER : CLIENT]);
    if (client) {
        int fd = fc_notify_install();
        if (fd < 0)
            fail("fc_notify_install", -fd);
        send_descriptor(fd);
    } else
        fc_listener_init(&listener, receive_descriptor(), eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
}

void core_join(struct fc_endpoint *endpoint, uint32_t chosen, int client)
{
    if (chosen != FC_SWITCH_NOTIFY)
        return;
    int result = client ? fc_notify_client(endpoint, &end, bell[CLIENT], 1)
                        : fc_notify_server(endpoint, &end, &listener, bell[SERVER], 1);
    if (result != FC_OK)
        fail("joining the notify switch", 0);
}

#endif
