/* frame.c: a call in one step: copy in, flip, wait, check what came (proto/rpc.md).
 *
 * The result packs what the caller needs at once: body length (32 bits), code (16 bits), whether there is an
 * attachment, the flags; the rest is in ep->received. The bytes stay in the window, where the peer can still change them: whoever
 * parses them copies them first (Python: ffi.unpack, one copy into a bytes object). */
#include "endpoint.h"

#include <string.h>

/* Where an attachment starts, from the start of the window, behind a body of body_len bytes. */
uint32_t fc_attach_offset(uint32_t body_len)
{
    uint32_t end = FC_PACKET_HEADER + FC_FRAME_HEADER + body_len;
    return (end + FC_ATTACH_ALIGN - 1) & ~(FC_ATTACH_ALIGN - 1);
}

/* Write a frame; the length of the datagram, or FC_ERR_SIZE with the window as it was. */
static int64_t put(struct fc_endpoint *ep, struct fc_frame frame, const char *body, const char *attach, uint32_t attach_len)
{
    char *window = (char *)ep->packet;
    uint64_t room = (uint64_t)ep->cap + FC_PACKET_HEADER;
    if (frame.body_len > ep->cap - FC_FRAME_HEADER)
        return FC_ERR_SIZE;
    uint64_t end = (uint64_t)FC_PACKET_HEADER + FC_FRAME_HEADER + frame.body_len;
    if (attach_len) {
        uint32_t at = fc_attach_offset(frame.body_len);
        end = (uint64_t)at + attach_len;
        if (end > room)
            return FC_ERR_SIZE;
        /* First, because it may lie in the window already (a view filled in place: nothing to do; a borrowed
         * view of the request: move it before the body overwrites it). */
        if (window + at != attach)
            memmove(window + at, attach, attach_len);
    }
    memcpy(window + FC_PACKET_HEADER, &frame, sizeof frame);
    if (frame.body_len)
        memcpy(window + FC_PACKET_HEADER + FC_FRAME_HEADER, body, frame.body_len);
    return (int64_t)(end - FC_PACKET_HEADER);
}

static int64_t broken(struct fc_endpoint *ep, enum fc_fault what, int64_t value)
{
    return fc_break(ep, FC_ERR_PROTOCOL, what, value);
}

/* Check the frame that came. Each header byte is read once: two 64-bit loads that the compiler may not repeat. */
static int64_t get(struct fc_endpoint *ep, uint8_t kind)
{
    const char *window = (const char *)ep->packet;
    uint32_t len = atomic_load_explicit(fc_word(&ep->packet->data_len), memory_order_relaxed);
    if (len > ep->cap)
        return broken(ep, FC_FAULT_LENGTH, len);
    if (len < FC_FRAME_HEADER)
        return broken(ep, FC_FAULT_SHORT, len);
    uint64_t raw[2];
    struct fc_frame f;
    raw[0] = __atomic_load_n((const uint64_t *)(window + FC_PACKET_HEADER), __ATOMIC_RELAXED);
    raw[1] = __atomic_load_n((const uint64_t *)(window + FC_PACKET_HEADER + 8), __ATOMIC_RELAXED);
    memcpy(&f, raw, sizeof f);
    if (f.kind != kind)
        return broken(ep, FC_FAULT_KIND, f.kind);
    if (f.flags & ~FC_FLAG_FDS)
        return broken(ep, FC_FAULT_FLAGS, f.flags);
    if (f.body_len > len - FC_FRAME_HEADER)
        return broken(ep, FC_FAULT_BODY, f.body_len);

    uint32_t attach_off = fc_attach_offset(f.body_len), attach_len = 0, end = len + FC_PACKET_HEADER;
    if (len != FC_FRAME_HEADER + f.body_len) {
        if (end <= attach_off)
            return broken(ep, FC_FAULT_PADDING, len);
        attach_len = end - attach_off;
    }
    if (kind == FC_REPLY) {
        if (f.call_id != ep->call_id)
            return broken(ep, FC_FAULT_CALL_ID, f.call_id);
        if (f.timeout_us)
            return broken(ep, FC_FAULT_RESERVED, f.timeout_us);
    } else {
        if (!f.call_id)
            return broken(ep, FC_FAULT_CALL_ID, 0);
        ep->call_id = f.call_id;
        ep->received.arrived_ns = f.timeout_us == FC_TIMEOUT_NONE ? 0 : fc_now();
    }
    ep->received.call_id = f.call_id;
    ep->received.timeout_us = f.timeout_us;
    ep->received.body_len = f.body_len;
    ep->received.attach_off = attach_off;
    ep->received.attach_len = attach_len;
    ep->received.code = f.code;
    return (int64_t)f.body_len | ((int64_t)f.code << FC_FRAME_CODE_SHIFT) | (attach_len ? FC_FRAME_ATTACHED : 0) |
           ((int64_t)f.flags << FC_FRAME_FLAGS_SHIFT);
}

static int64_t wait_frame(struct fc_endpoint *ep, uint8_t kind)
{
    int result = fc_wait(ep);
    return result == FC_OK ? get(ep, kind) : result;
}

static int64_t call(struct fc_endpoint *ep, struct fc_frame frame, const char *body, const char *attach, uint32_t attach_len)
{
    if (ep->turn != FC_TURN_MINE)
        return FC_ERR_TURN;
    int64_t len = put(ep, frame, body, attach, attach_len);
    if (len < 0)
        return len;
    ep->call_id = frame.call_id;
    ep->deadline = FC_NO_DEADLINE;
    ep->timeout_us = frame.timeout_us;
    int result = fc_give(ep, (uint32_t)len, true);
    return result == FC_OK ? wait_frame(ep, FC_REPLY) : result;
}

/* Client: ask and wait. `what` is the method number, from bit 16 the flags, and from bit 32 timeout_us, which counts from the moment
 * of giving (FC_TIMEOUT_NONE waits for ever): one number, because each argument costs its conversion, some 20 ns.
 * After FC_TICK go on with fc_call_resume, which keeps the deadline. Precondition: MINE. */
int64_t fc_call_attached(struct fc_endpoint *ep, uint64_t what, const char *body, uint32_t body_len,
                         const char *attach, uint32_t attach_len)
{
    int64_t result = fc_enter(ep);
    if (result != FC_OK)
        return result;
    uint32_t id = ep->call_id + 1;
    struct fc_frame frame = {.kind = FC_REQUEST, .flags = (uint8_t)(what >> FC_WHAT_FLAGS_SHIFT), .code = (uint16_t)what, .call_id = id ? id : 1,
                             .body_len = body_len, .timeout_us = (uint32_t)(what >> FC_CALL_TIMEOUT_SHIFT)};
    result = call(ep, frame, body, attach, attach_len);
    fc_leave(ep);
    return result;
}

int64_t fc_call(struct fc_endpoint *ep, uint64_t what, const char *body, uint32_t body_len)
{
    return fc_call_attached(ep, what, body, body_len, NULL, 0);
}

static int64_t resume(struct fc_endpoint *ep, uint8_t kind)
{
    int64_t result = fc_enter(ep);
    if (result != FC_OK)
        return result;
    result = ep->turn == FC_TURN_THEIRS ? wait_frame(ep, kind) : FC_ERR_TURN;
    fc_leave(ep);
    return result;
}

int64_t fc_call_resume(struct fc_endpoint *ep)
{
    return resume(ep, FC_REPLY);
}

/* Server: go on waiting for a request (the first time after fc_first has answered the connection; after FC_TICK). */
int64_t fc_request(struct fc_endpoint *ep)
{
    return resume(ep, FC_REQUEST);
}

static int64_t reply(struct fc_endpoint *ep, uint32_t status, const char *body, uint32_t body_len,
                     const char *attach, uint32_t attach_len)
{
    if (ep->turn != FC_TURN_MINE)
        return FC_ERR_TURN;
    struct fc_frame frame = {.kind = FC_REPLY, .flags = (uint8_t)(status >> FC_WHAT_FLAGS_SHIFT), .code = (uint16_t)status, .call_id = ep->call_id, .body_len = body_len};
    int64_t len = put(ep, frame, body, attach, attach_len);
    if (len < 0)
        return len;
    ep->deadline = FC_NO_DEADLINE;
    ep->timeout_us = FC_TIMEOUT_NONE;
    return fc_give(ep, (uint32_t)len, true);
}

/* Server: answer and wait for the next request, in one step. `status` may carry flags, from bit 16.
 * Precondition: MINE. */
int64_t fc_reply_request_attached(struct fc_endpoint *ep, uint32_t status, const char *body, uint32_t body_len,
                                  const char *attach, uint32_t attach_len)
{
    int64_t result = fc_enter(ep);
    if (result != FC_OK)
        return result;
    result = reply(ep, status, body, body_len, attach, attach_len);
    if (result == FC_OK)
        result = wait_frame(ep, FC_REQUEST);
    fc_leave(ep);
    return result;
}

int64_t fc_reply_request(struct fc_endpoint *ep, uint32_t status, const char *body, uint32_t body_len)
{
    return fc_reply_request_attached(ep, status, body, body_len, NULL, 0);
}

/* Client: tell the server that nobody waits for the call under way. */
void fc_cancel(struct fc_endpoint *ep)
{
    if (fc_enter(ep) != FC_OK)
        return;
    if (ep->turn == FC_TURN_THEIRS)
        atomic_store_explicit(fc_word(&ep->packet->cancel), ep->call_id, memory_order_release);
    fc_leave(ep);
}

/* Server: has the client given up the call under way? Any thread, while the call lasts. */
int fc_cancelled(struct fc_endpoint *ep)
{
    uint32_t id = ep->received.call_id; /* 0: there has been no call, and 0 in the window cancels none */
    return atomic_load(&ep->stop) != 0 ||
           (id && atomic_load_explicit(fc_word(&ep->packet->cancel), memory_order_acquire) == id) ||
           fc_is_over(atomic_load_explicit(fc_word(&ep->packet->conn_state), memory_order_acquire));
}
