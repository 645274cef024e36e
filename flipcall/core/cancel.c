/* cancel.c: giving up a call: to say so, to see it, and to have the channel back. */
#include "endpoint.h"

/* Client, whose turn it is: end the call under way, if it is not over with what has come. */
static int give_up(struct fc_endpoint *ep)
{
    if (fc_split_ends(ep))
        fc_set_call(ep, FC_CALL_NONE);
    ep->out.at = ep->out.end;
    ep->in.at = ep->in.end;
    ep->in.part_len = 0;
    return ep->call == FC_CALL_NONE ? FC_OK : fc_give_kind(ep, FC_CANCEL, 0, false);
}

/* Tell the peer that nobody wants the rest of the call under way: a client its server, or a server that is given items
 * its client. At once where it is this side's turn, else by the word that the peer looks at. */
void fc_cancel(struct fc_endpoint *ep)
{
    if (fc_enter(ep) != FC_OK)
        return;
    if (ep->turn == FC_TURN_THEIRS) {
        atomic_store(fc_word(&ep->packet->cancel), ep->call_id); /* then look: as in giving control away */
        fc_ring_always(ep);
    } else if (ep->turn == FC_TURN_MINE && ep->mine == FC_CLIENT_ACTIVE)
        give_up(ep);
    fc_leave(ep);
}

/* Server: has the client given up the call under way? Any thread, while the call lasts. */
int fc_cancelled(struct fc_endpoint *ep)
{
    uint32_t id = ep->received.call_id; /* 0: there has been no call, and 0 in the window cancels none */
    return atomic_load(&ep->stop) != 0 ||
           (id && atomic_load(fc_word(&ep->packet->cancel)) == id) || /* after giving control, too: see fc_cancel */
           fc_is_over(atomic_load_explicit(fc_word(&ep->packet->conn_state), memory_order_acquire));
}

/* Control has come back to a client that has given up: is that the end of the call? Else say so once more. */
static int given_up(struct fc_endpoint *ep)
{
    int64_t came = fc_get_frame(ep);
    if (came < 0)
        return (int)came;
    int result = give_up(ep);
    return result == FC_OK && ep->turn != FC_TURN_MINE ? FC_TICK : result;
}

static int reclaim(struct fc_endpoint *ep)
{
    int result;
    if (ep->turn == FC_TURN_MINE)
        result = ep->call == FC_CALL_NONE ? FC_OK : FC_ERR_TURN;
    else if (ep->turn != FC_TURN_THEIRS)
        result = FC_ERR_TURN;
    else {
        uint32_t seen = atomic_load_explicit(fc_word(&ep->packet->conn_state), memory_order_acquire);
        if (seen != ep->theirs) {
            result = fc_turned(ep, seen);
            if (result == FC_OK && ep->call != FC_CALL_NONE) /* else a datagram of no call */
                result = given_up(ep);
        } else
            result = fc_peer_gone(ep) || atomic_load(&ep->hung_up) ? fc_died(ep) : FC_TICK;
    }
    return result;
}

/* Client that has given up: is the call over? FC_OK when it is, FC_TICK when not yet; never waits. What came with it
 * is dropped: nobody waits for it any more. By doorbell, FC_TICK means that the peer will ring. */
int fc_reclaim(struct fc_endpoint *ep)
{
    int result = fc_enter(ep);
    if (result != FC_OK)
        return result;
    do
        result = reclaim(ep);
    while (result == FC_TICK && ep->by_bell && !fc_arm(ep));
    fc_leave(ep);
    return result;
}
