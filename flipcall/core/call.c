/* call.c: a call in one step: copy in, flip, wait, check what came (frame.c). The verbs of both sides. */
#include "endpoint.h"

static struct fc_frame frame_of(const struct fc_endpoint *ep, uint64_t what, uint32_t body_len)
{
    return (struct fc_frame){.kind = (uint8_t)(what >> FC_WHAT_KIND_SHIFT), .flags = (uint8_t)(what >> FC_WHAT_FLAGS_SHIFT),
                             .code = (uint16_t)what, .call_id = ep->call_id, .body_len = body_len,
                             .timeout_us = (uint32_t)(what >> FC_CALL_TIMEOUT_SHIFT)};
}

/* ---- the client ------------------------------------------------------------------------------------------- */

/* Give the request away: FC_TICK. */
static int64_t ask(struct fc_endpoint *ep, uint64_t what, const char *body, uint32_t body_len, const char *attach,
                   uint32_t attach_len)
{
    struct fc_frame frame = frame_of(ep, what, body_len);
    uint32_t id = ep->call_id + 1;
    frame.kind = FC_REQUEST;
    frame.call_id = id ? id : 1;
    if (ep->turn != FC_TURN_MINE || ep->call != FC_CALL_NONE)
        return FC_ERR_TURN;
    bool stream = frame.flags & FC_FLAG_STREAM;
    if (stream)
        fc_flow_open(ep);
    int64_t len = fc_put_frame(ep, frame, body, attach, attach_len);
    if (len < 0)
        return len;
    ep->call_id = frame.call_id;
    fc_set_call(ep, stream ? FC_CALL_STREAM : FC_CALL_PLAIN);
    ep->deadline = FC_NO_DEADLINE;
    ep->timeout_us = frame.timeout_us;
    if (stream && frame.timeout_us != FC_TIMEOUT_NONE) { /* of the whole call, not of its first wait */
        ep->deadline = fc_now() + frame.timeout_us * 1000ll;
        ep->timeout_us = FC_TIMEOUT_NONE;
    }
    int result = fc_give(ep, (uint32_t)len, !stream);
    if (result == FC_ERR_SHUTDOWN)
        ep->fault = FC_FAULT_UNSENT;
    return result == FC_OK ? FC_TICK : result;
}

/* Client: ask and wait. `what` is the method number, with flags and timeout_us, which counts from the moment
 * of giving (FC_TIMEOUT_NONE waits for ever): one number, because each argument costs its conversion, some 20 ns.
 * After FC_TICK go on with fc_call_resume, which keeps the deadline; a streaming call does not wait here at all, and
 * goes on with fc_take. Precondition: MINE. */
int64_t fc_call_attached(struct fc_endpoint *ep, uint64_t what, const char *body, uint32_t body_len,
                         const char *attach, uint32_t attach_len)
{
    int64_t result = fc_enter(ep);
    if (result != FC_OK)
        return result;
    result = ask(ep, what, body, body_len, attach, attach_len);
    if (result == FC_TICK && ep->call != FC_CALL_STREAM)
        result = fc_wait_frame(ep);
    fc_leave(ep);
    return result;
}

int64_t fc_call(struct fc_endpoint *ep, uint64_t what, const char *body, uint32_t body_len)
{
    return fc_call_attached(ep, what, body, body_len, NULL, 0);
}

/* Client: ask, without a system call and without waiting: FC_TICK, and on with fc_glance. FC_ASLEEP: that cannot be,
 * nothing was done. A plain call's. */
int64_t fc_ask(struct fc_endpoint *ep, uint64_t what, const char *body, uint32_t body_len)
{
    int64_t result = fc_enter(ep);
    if (result != FC_OK)
        return result;
    result = fc_awake(ep) ? ask(ep, what, body, body_len, NULL, 0) : FC_ASLEEP;
    fc_leave(ep);
    return result;
}

static int64_t resume(struct fc_endpoint *ep)
{
    int64_t result = fc_enter(ep);
    if (result != FC_OK)
        return result;
    result = ep->turn == FC_TURN_THEIRS ? fc_wait_frame(ep) : FC_ERR_TURN;
    fc_leave(ep);
    return result;
}

int64_t fc_call_resume(struct fc_endpoint *ep)
{
    return resume(ep);
}

/* ---- the server ------------------------------------------------------------------------------------------- */

/* Server: go on waiting for a request (the first time after fc_first has answered the connection; after FC_TICK). */
int64_t fc_request(struct fc_endpoint *ep)
{
    return resume(ep);
}

/* quick: with fc_metered still to do. */
static int64_t reply(struct fc_endpoint *ep, uint32_t status, const char *body, uint32_t body_len,
                     const char *attach, uint32_t attach_len, bool quick)
{
    if (ep->turn != FC_TURN_MINE || ep->call == FC_CALL_NONE)
        return FC_ERR_TURN;
    struct fc_frame frame = frame_of(ep, status, body_len);
    frame.kind = FC_REPLY;
    if (ep->call == FC_CALL_STREAM)
        frame.flags |= FC_FLAG_STREAM;
    int64_t len = fc_put_frame(ep, frame, body, attach, attach_len);
    if (len < 0)
        return len;
    fc_set_call(ep, FC_CALL_NONE);
    if (!quick)
        fc_metered(ep, frame.code);
    ep->in.at = ep->in.end; /* what was left of a request that is refused */
    ep->deadline = FC_NO_DEADLINE;
    ep->timeout_us = FC_TIMEOUT_NONE;
    int result = fc_give(ep, (uint32_t)len, true);
    if (result == FC_OK && atomic_load_explicit(&ep->draining, memory_order_relaxed) && fc_retire(ep)) {
        ep->owed = 0; /* fc_retire has woken the peer */
        ep->turn = FC_TURN_OVER;
        return FC_ERR_SHUTDOWN;
    }
    return result;
}

/* Server: answer and wait for the next request, in one step. `status` may carry flags. Precondition: MINE. */
int64_t fc_reply_request_attached(struct fc_endpoint *ep, uint64_t status, const char *body, uint32_t body_len,
                                  const char *attach, uint32_t attach_len)
{
    int64_t result = fc_enter(ep);
    if (result != FC_OK)
        return result;
    result = reply(ep, (uint32_t)status, body, body_len, attach, attach_len, false);
    if (result == FC_OK)
        result = fc_wait_frame(ep);
    fc_leave(ep);
    return result;
}

int64_t fc_reply_request(struct fc_endpoint *ep, uint64_t status, const char *body, uint32_t body_len)
{
    return fc_reply_request_attached(ep, status, body, body_len, NULL, 0);
}

/* Server: answer, as fc_ask asks. It is metered while the client goes on already; not so in fc_reply_request, whose caller
 * does not hold the GIL, so that somebody could read the meters before. */
int64_t fc_answer(struct fc_endpoint *ep, uint64_t status, const char *body, uint32_t body_len)
{
    int64_t result = fc_enter(ep);
    if (result != FC_OK)
        return result;
    result = FC_ASLEEP;
    if (fc_awake(ep)) {
        result = reply(ep, (uint32_t)status, body, body_len, NULL, 0, true);
        if (result != FC_ERR_SIZE && result != FC_ERR_TURN)
            fc_metered(ep, (uint16_t)status);
        if (result == FC_OK)
            result = FC_TICK;
    }
    fc_leave(ep);
    return result;
}

/* ---- within a call ---------------------------------------------------------------------------------------- */

/* Give control away with a frame of the call under way (kind, flags and code in `what`), and wait for the next one.
 * Its waits end at the deadline that the call has. Precondition: MINE, a call under way. */
int64_t fc_exchange(struct fc_endpoint *ep, uint64_t what, const char *body, uint32_t body_len)
{
    int64_t result = fc_enter(ep);
    if (result != FC_OK)
        return result;
    struct fc_frame frame = frame_of(ep, what, body_len);
    if (ep->call == FC_CALL_STREAM)
        frame.flags |= FC_FLAG_STREAM;
    if (ep->turn != FC_TURN_MINE || ep->call == FC_CALL_NONE)
        result = FC_ERR_TURN;
    else
        result = fc_put_frame(ep, frame, body, NULL, 0);
    if (result >= 0) {
        fc_still_busy(ep);
        result = fc_give(ep, (uint32_t)result, true);
    }
    if (result == FC_OK)
        result = fc_wait_frame(ep);
    fc_leave(ep);
    return result;
}

/* Give control away with a frame that is nothing but a header. */
int fc_give_kind(struct fc_endpoint *ep, uint8_t kind, uint16_t code, bool then_wait)
{
    struct fc_frame frame = frame_of(ep, (uint64_t)kind << FC_WHAT_KIND_SHIFT | code, 0);
    if (ep->call == FC_CALL_STREAM)
        frame.flags = FC_FLAG_STREAM;
    int64_t len = fc_put_frame(ep, frame, NULL, NULL, 0);
    fc_still_busy(ep);
    return len < 0 ? (int)len : fc_give(ep, (uint32_t)len, then_wait);
}

/* Give control away with a stream's frame that is a header and the items published before (kind and code in `what`),
 * and do not wait: fc_take does. Precondition: MINE, a stream under way. */
int fc_hand(struct fc_endpoint *ep, uint64_t what)
{
    int result = fc_enter(ep);
    if (result != FC_OK)
        return result;
    if (ep->turn == FC_TURN_MINE && ep->call == FC_CALL_STREAM)
        result = fc_give_kind(ep, (uint8_t)(what >> FC_WHAT_KIND_SHIFT), (uint16_t)what, false);
    else
        result = FC_ERR_TURN;
    fc_leave(ep);
    return result;
}
