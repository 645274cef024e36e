/* life.c: is the peer still there? Asked when a slice of waiting has passed, never on the hot path. */
#define _GNU_SOURCE
#include "endpoint.h"

#include <errno.h>
#include <poll.h>

/* A pidfd becomes readable when the process has ended (pidfd_open(2)); a socket hangs up when the last
 * descriptor of the other end is closed, which a child of the peer can delay: hence both, where there are both.
 * Data on the socket means nothing here, so of the socket only the hang-up is asked for: the pidfd is slot 0. */
int fc_peer_gone(const struct fc_endpoint *ep)
{
    struct pollfd fds[FC_LIFE_FDS] = {
        {.fd = ep->life_fd[0], .events = POLLIN},
        {.fd = ep->life_fd[1], .events = POLLRDHUP},
    };
    int n;
    do
        n = poll(fds, FC_LIFE_FDS, 0);
    while (n < 0 && errno == EINTR);
    if (n <= 0)
        return 0;
    return (fds[0].revents & (POLLIN | POLLERR | POLLHUP)) || (fds[1].revents & (POLLRDHUP | POLLHUP | POLLERR));
}
