/* flip.c: gVisor's verbs on whole datagrams (pkg/flipcall/flipcall.go).
 *
 * The datagram itself is written and read by the caller, in the window; here only its length is, and control. */
#include "endpoint.h"

/* The turn has come back: how long is the datagram? Read once; the peer may still be writing the word. */
static int64_t received(struct fc_endpoint *ep)
{
    uint32_t len = atomic_load_explicit(fc_word(&ep->packet->data_len), memory_order_relaxed);
    if (len <= ep->cap)
        return len;
    return fc_break(ep, FC_ERR_PROTOCOL, FC_FAULT_LENGTH, len);
}

static int64_t await(struct fc_endpoint *ep, int64_t deadline)
{
    ep->deadline = deadline > 0 ? deadline : 0; /* the clock never shows less, and the kernel takes no less */
    ep->timeout_us = FC_TIMEOUT_NONE;
    int result = fc_wait(ep);
    return result == FC_OK ? received(ep) : result;
}

static int64_t send_recv(struct fc_endpoint *ep, uint32_t turn, uint32_t len, int64_t deadline)
{
    if (ep->turn != turn)
        return FC_ERR_TURN;
    if (len > ep->cap)
        return FC_ERR_SIZE;
    int result = fc_give(ep, len, true);
    return result == FC_OK ? await(ep, deadline) : result;
}

/* Give control away with a datagram of len bytes; wait for the answer. Its length. Precondition: MINE. */
int64_t fc_send_recv(struct fc_endpoint *ep, uint32_t len, int64_t deadline)
{
    int64_t result = fc_enter(ep);
    if (result != FC_OK)
        return result;
    result = send_recv(ep, FC_TURN_MINE, len, deadline);
    fc_leave(ep);
    return result;
}

/* A new window is all zero, and no datagram that connects is empty: anything else has had a client before. */
static bool used(struct fc_endpoint *ep)
{
    uint32_t state = atomic_load(fc_word(&ep->packet->conn_state));
    uint32_t len = atomic_load_explicit(fc_word(&ep->packet->data_len), memory_order_relaxed);
    return state == FC_SERVER_ACTIVE || (state == FC_CLIENT_ACTIVE && len != 0);
}

/* The first flip of a client: as fc_send_recv, from NEW. */
int64_t fc_connect(struct fc_endpoint *ep, uint32_t len, int64_t deadline)
{
    int64_t result = fc_enter(ep);
    if (result != FC_OK)
        return result;
    if (ep->mine != FC_CLIENT_ACTIVE)
        result = FC_ERR_TURN;
    else if (ep->turn == FC_TURN_NEW && used(ep))
        result = FC_ERR_USED;
    else
        result = send_recv(ep, FC_TURN_NEW, len, deadline);
    fc_leave(ep);
    return result;
}

/* The first wait of a server, from NEW. */
int64_t fc_first(struct fc_endpoint *ep, int64_t deadline)
{
    int64_t result = fc_enter(ep);
    if (result != FC_OK)
        return result;
    if (ep->mine == FC_SERVER_ACTIVE && ep->turn == FC_TURN_NEW) {
        ep->turn = FC_TURN_THEIRS;
        result = await(ep, deadline);
    } else
        result = FC_ERR_TURN;
    fc_leave(ep);
    return result;
}

/* Go on waiting after FC_TICK or FC_ERR_TIMEOUT. Precondition: THEIRS. */
int64_t fc_resume(struct fc_endpoint *ep, int64_t deadline)
{
    int64_t result = fc_enter(ep);
    if (result != FC_OK)
        return result;
    result = ep->turn == FC_TURN_THEIRS ? await(ep, deadline) : FC_ERR_TURN;
    fc_leave(ep);
    return result;
}

static int send(struct fc_endpoint *ep, uint32_t len, enum fc_turn after)
{
    int result = fc_enter(ep);
    if (result != FC_OK)
        return result;
    if (ep->turn != FC_TURN_MINE)
        result = FC_ERR_TURN;
    else
        result = len <= ep->cap ? fc_give(ep, len, false) : FC_ERR_SIZE;
    if (result == FC_OK) {
        ep->turn = after;
        ep->deadline = FC_NO_DEADLINE; /* that of an earlier wait says nothing about the next one */
        ep->timeout_us = FC_TIMEOUT_NONE;
    }
    fc_leave(ep);
    return result;
}

/* Give control away and do not wait: fc_resume or fc_request does, later. Precondition: MINE. */
int fc_send(struct fc_endpoint *ep, uint32_t len)
{
    return send(ep, len, FC_TURN_THEIRS);
}

/* Give control away for good. Precondition: MINE. */
int fc_send_last(struct fc_endpoint *ep, uint32_t len)
{
    return send(ep, len, FC_TURN_LAST);
}
