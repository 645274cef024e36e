/* doorbell.c: how a side is woken that must not sleep in a call, because an event loop runs on its thread.
 *
 * Such a side leaves the wait to its loop, which sleeps in epoll_wait(2) and knows descriptors, not futexes. So its
 * peer rings instead of waking: it writes FC_RING_BYTES zeros to the control socket that the two have anyway. Of the
 * four accesses in wait.c none changes, only what the giver does when it sees the bit, and where the waiter then is:
 *
 *        giver                                     waiter, by_bell set
 *        W1  conn_state: mine -> theirs            W2  sleepers |= my bit
 *        R1  look at the waiter's two bits         R2  look at conn_state
 *            sleeps, by bell: ring                     still theirs: FC_ARMED, back to the loop
 *            sleeps: FUTEX_WAKE                    ... the loop finds the socket readable
 *                                                  E1  read everything there is to read
 *                                                  R3  resume: look at conn_state
 *
 * No ring is lost. One that R1 leads to stays in the socket until E1, and R3 comes after every E1; a ring that finds
 * the socket full (EAGAIN) is not needed, for there is something to read still, and so an E1 to come. Rings may come
 * without need (the answer was found by a spin meanwhile): they cost the reader one look.
 *
 *      WAITING, bit clear ──arm──► FC_ARMED, bit set ──resume finds the turn, items, or the end──► bit clear
 *                                     │    ▲
 *                                     └────┘ resume finds nothing: a ring without need, or FC_ERR_TIMEOUT
 *
 * The bell's own bit stays set for as long as the side lives in a loop: a server that runs a handler as a task does not
 * sleep, and must yet hear that its caller has given up, or that the connection has ended.
 *
 * What a hostile peer can do: fill its own socket's buffer (a ring never blocks: MSG_DONTWAIT), ring without end (the
 * loop reads a bounded number of bytes in a pass), set a bell bit that was not agreed on (it is not looked at), close
 * the socket (that is a hang-up). Rejected: an eventfd. Its write takes 0.3 us and not 0.9, before a wake-up of 20 to
 * 50; but the file description is shared with a peer, who can make it block; it costs a descriptor a side and channel;
 * and it does not tell when the peer is gone.
 */
#define _GNU_SOURCE
#include "endpoint.h"

#include <errno.h>
#include <sys/socket.h>

/* Both sides have agreed on doorbells; this one rings on `fd`, which stays open until the endpoint is closed. */
int fc_use_doorbell(struct fc_endpoint *ep, int fd)
{
    bool client = ep->mine == FC_CLIENT_ACTIVE;
    if (fd < 0 || !ep->trust_sleepers)
        return FC_ERR_TURN;
    ep->bell_fd = fd;
    ep->my_bell = client ? FC_BELL_CLIENT : FC_BELL_SERVER;
    __atomic_store_n(&ep->their_bell, client ? FC_BELL_SERVER : FC_BELL_CLIENT, __ATOMIC_RELEASE);
    return FC_OK;
}

/* From now on waits of this side end with FC_ARMED where they would park. Precondition: nobody is inside, doorbells
 * were agreed on, and both sides sleep by futex or not at all. */
int fc_wait_by_doorbell(struct fc_endpoint *ep)
{
    if (!ep->my_bell || fc_how(ep) != &fc_switch_futex)
        return FC_ERR_TURN;
    ep->by_bell = 1;
    atomic_fetch_or(fc_word(&ep->packet->sleepers), ep->my_bell);
    return FC_OK;
}

/* The loop has seen the peer's hang-up, or its process end. The next wait ends with that, unless the peer's last word
 * was an answer. */
void fc_hung_up(struct fc_endpoint *ep)
{
    atomic_store(&ep->hung_up, 1);
}

/* 0, also where there is nobody any more to hear it, or a negative errno. */
static int ring(struct fc_endpoint *ep)
{
    static const char nothing[FC_RING_BYTES];
    if (send(ep->bell_fd, nothing, sizeof nothing, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
        return 0;
    bool needless = errno == EAGAIN || errno == EPIPE || errno == ECONNRESET || errno == ENOTCONN;
    return needless ? 0 : -errno;
}

/* The peer waits by its doorbell. */
int fc_ring(struct fc_endpoint *ep)
{
    FC_COUNT(ep, wakes);
    int err = ring(ep);
    return err ? fc_break(ep, FC_ERR_OS, FC_FAULT_SYSCALL, -err) : FC_OK;
}

/* Something the peer should look at has changed; ring if it has a bell, asleep or not. Any thread. */
void fc_ring_always(struct fc_endpoint *ep)
{
    uint32_t bell = __atomic_load_n(&ep->their_bell, __ATOMIC_ACQUIRE);
    if (bell && (atomic_load(fc_word(&ep->packet->sleepers)) & bell))
        ring(ep); /* if it fails, the hang-up that follows an end tells, and a deadline does for a cancelled call */
}

/* The turn has come, or items, or the end: the peer need not ring any more. */
void fc_disarm(struct fc_endpoint *ep)
{
    ep->armed = 0;
    atomic_fetch_and(fc_word(&ep->packet->sleepers), ~ep->my_bit);
}
