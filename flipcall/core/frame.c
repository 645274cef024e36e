/* frame.c: a call in one step: copy in, flip, wait, check what came (proto/rpc.md).
 *
 * The result packs what the caller needs at once: body length (32 bits), code (16 bits), and what sets the frame apart
 * from a plain request or reply; the rest is in ep->received. The bytes stay in the window, where the peer can still
 * change them: whoever parses them copies them first (Python: ffi.unpack, one copy into a bytes object).
 *
 * What may come next, by side and by the call under way (expected()):
 *
 *     server  NONE ──REQUEST──► PLAIN | STREAM ──it answers──► NONE      client  NONE ──it asks──► PLAIN | STREAM
 *             meanwhile   MORE, CANCEL; in a stream ITEMS, END                   ◄──REPLY──┘  meanwhile MORE; ITEMS
 */
#include "endpoint.h"

#include <string.h>

#include "cpu.h"

static uint32_t aligned(uint32_t at)
{
    return (at + FC_ATTACH_ALIGN - 1) & ~(FC_ATTACH_ALIGN - 1);
}

/* Where an attachment starts, from the start of the window, behind a body of body_len bytes. */
uint32_t fc_attach_offset(uint32_t body_len)
{
    return aligned(FC_PACKET_HEADER + FC_FRAME_HEADER + body_len);
}

/* Where the body of a frame that this side sends starts, from the start of the window. */
static uint32_t body_offset(const struct fc_endpoint *ep, uint8_t flags)
{
    return flags & FC_FLAG_STREAM ? fc_flow_end(ep) : FC_PACKET_HEADER + FC_FRAME_HEADER;
}

/* Write a frame; the length of the datagram, or FC_ERR_SIZE with the window as it was. */
int64_t fc_put_frame(struct fc_endpoint *ep, struct fc_frame frame, const char *body, const char *attach, uint32_t attach_len)
{
    char *window = (char *)ep->packet;
    uint64_t room = (uint64_t)ep->cap + FC_PACKET_HEADER;
    uint32_t start = body_offset(ep, frame.flags);
    uint64_t end = (uint64_t)start + frame.body_len;
    if (end > room)
        return FC_ERR_SIZE;
    if (attach_len) {
        uint32_t at = aligned((uint32_t)end);
        end = (uint64_t)at + attach_len;
        if (end > room)
            return FC_ERR_SIZE;
        /* First, because it may lie in the window already (a view filled in place: nothing to do; a borrowed
         * view of the request: move it before the body overwrites it). */
        if (window + at != attach)
            memmove(window + at, attach, attach_len);
    }
    ep->metering.out += end - FC_PACKET_HEADER;
    memcpy(window + FC_PACKET_HEADER, &frame, sizeof frame);
    if (body && frame.body_len)
        memcpy(window + start, body, frame.body_len);
    return (int64_t)(end - FC_PACKET_HEADER);
}

static int64_t broken(struct fc_endpoint *ep, enum fc_fault what, int64_t value)
{
    return fc_break(ep, FC_ERR_PROTOCOL, what, value);
}

static bool sending(const struct fc_endpoint *ep)
{
    return ep->out.at != ep->out.end;
}

/* Is this a kind of frame that the peer may send now? */
static bool expected(const struct fc_endpoint *ep, uint8_t kind)
{
    bool server = ep->mine == FC_SERVER_ACTIVE, stream = ep->call == FC_CALL_STREAM;
    if (ep->in.at != ep->in.end)
        return kind == FC_PART || (kind == FC_CANCEL && server);
    switch (kind) {
    case FC_REQUEST:
        return server && ep->call == FC_CALL_NONE;
    case FC_REPLY:
        return !server && ep->call != FC_CALL_NONE;
    case FC_MORE:
        return sending(ep) || stream;
    case FC_ITEMS:
        return stream;
    case FC_END:
        return stream && server;
    case FC_CANCEL:
        return ep->call != FC_CALL_NONE && server;
    default:
        return false;
    }
}

/* The flags that a frame of this kind may have. */
static uint32_t possible(uint8_t kind)
{
    switch (kind) {
    case FC_REQUEST:
        return FC_FLAG_SPLIT | FC_FLAG_STREAM | FC_FLAG_FDS | FC_FLAG_META;
    case FC_REPLY:
        return FC_FLAG_SPLIT | FC_FLAG_STREAM | FC_FLAG_FDS;
    case FC_ITEMS:
        return FC_FLAG_SPLIT | FC_FLAG_STREAM;
    case FC_PART:
        return 0;
    default:
        return FC_FLAG_STREAM;
    }
}

/* Are the flags right: of a streaming call all frames have FC_FLAG_STREAM but those of a split message. */
static bool flags_fit(const struct fc_endpoint *ep, const struct fc_frame *f)
{
    if (f->flags & ~possible(f->kind))
        return false;
    bool stream = f->flags & FC_FLAG_STREAM, split = f->flags & FC_FLAG_SPLIT;
    if (f->kind == FC_REQUEST)
        return true;
    if (f->kind == FC_PART || split)
        return !stream;
    return stream == (ep->call == FC_CALL_STREAM);
}

/* Check the header, and take it in. Not for the plain frames that get() has checked itself. */
static int64_t check_header(struct fc_endpoint *ep, const struct fc_frame *f)
{
    if (!expected(ep, f->kind))
        return broken(ep, FC_FAULT_KIND, f->kind);
    if (!flags_fit(ep, f))
        return broken(ep, FC_FAULT_FLAGS, f->flags);
    if (f->kind == FC_REQUEST ? !f->call_id : f->call_id != ep->call_id)
        return broken(ep, FC_FAULT_CALL_ID, f->call_id);
    if (f->kind != FC_REQUEST && f->timeout_us)
        return broken(ep, FC_FAULT_RESERVED, f->timeout_us);
    return FC_OK;
}

/* Body and attachment of a frame whose body starts at `start`: they must lie within the datagram. */
static int64_t lay_out(struct fc_endpoint *ep, const struct fc_frame *f, uint32_t start, uint32_t len)
{
    struct fc_frame_in *r = &ep->received;
    uint32_t end = len + FC_PACKET_HEADER;
    if (end < start || f->body_len > end - start)
        return broken(ep, FC_FAULT_BODY, f->body_len);
    r->body_off = start;
    r->body_len = f->body_len;
    r->attach_off = aligned(start + f->body_len);
    r->attach_len = 0;
    if (end != start + f->body_len) {
        if (end <= r->attach_off)
            return broken(ep, FC_FAULT_PADDING, len);
        r->attach_len = end - r->attach_off;
    }
    return FC_OK;
}

static int64_t packed(const struct fc_endpoint *ep)
{
    const struct fc_frame_in *r = &ep->received;
    bool usual = r->kind == FC_REQUEST || r->kind == FC_REPLY;
    return (int64_t)r->body_len | ((int64_t)r->code << FC_FRAME_CODE_SHIFT) | (r->attach_len ? FC_FRAME_ATTACHED : 0) |
           ((int64_t)r->flags << FC_FRAME_FLAGS_SHIFT) | (usual ? 0 : (int64_t)r->kind << FC_FRAME_KIND_SHIFT);
}

/* A request has come: a call begins. */
static void begin(struct fc_endpoint *ep, const struct fc_frame *f)
{
    ep->call_id = f->call_id;
    ep->call = f->flags & FC_FLAG_STREAM ? FC_CALL_STREAM : FC_CALL_PLAIN;
    bool metered = ep->metering.methods != NULL;
    ep->received.arrived_ns = f->timeout_us == FC_TIMEOUT_NONE && !metered ? 0 : fc_now();
    ep->metering.method = f->code;
    ep->metering.since = ep->received.arrived_ns;
    if (ep->call == FC_CALL_STREAM && f->timeout_us != FC_TIMEOUT_NONE) /* this side waits within the call, too */
        ep->deadline = ep->received.arrived_ns + f->timeout_us * 1000ll;
}

/* A stream's frame: the items in front of its body are the last of that turn. A request has none. */
static int64_t get_stream(struct fc_endpoint *ep, const struct fc_frame *f, uint32_t len)
{
    uint64_t published = fc_flow_seen(ep);
    if (f->kind == FC_REQUEST && published)
        return broken(ep, FC_FAULT_ITEMS, (int64_t)published);
    int64_t result = fc_flow_account(ep, published);
    return result == FC_OK ? lay_out(ep, f, FC_STREAM_START + (uint32_t)published - ep->flow.their_start, len) : result;
}

/* The frames that are not plain, that is, what the quick way below does not do. */
static int64_t get_other(struct fc_endpoint *ep, const struct fc_frame *f, uint32_t len)
{
    struct fc_frame_in *r = &ep->received;
    int64_t result = check_header(ep, f);
    if (result != FC_OK)
        return result;
    *r = (struct fc_frame_in){.kind = f->kind, .flags = f->flags, .call_id = f->call_id, .timeout_us = f->timeout_us,
                              .code = f->code, .arrived_ns = r->arrived_ns};
    if (f->kind == FC_REQUEST)
        begin(ep, f);
    if ((f->flags & FC_FLAG_STREAM) || (f->flags & FC_FLAG_SPLIT) || f->kind == FC_PART) {
        if (len + FC_PACKET_HEADER < FC_STREAM_START)
            return broken(ep, FC_FAULT_SHORT, len);
        if (f->kind == FC_REQUEST)
            fc_flow_begin(ep);
    }
    if (f->kind == FC_PART || (f->flags & FC_FLAG_SPLIT))
        result = fc_split_came(ep, len);
    else if (f->flags & FC_FLAG_STREAM)
        result = get_stream(ep, f, len);
    else
        result = lay_out(ep, f, FC_PACKET_HEADER + FC_FRAME_HEADER, len);
    if (result != FC_OK)
        return result;
    fc_flow_turn(ep);
    if (f->kind == FC_REPLY && !(f->flags & FC_FLAG_SPLIT))
        ep->call = FC_CALL_NONE;
    return packed(ep);
}

/* Check the frame that came. Each header byte is read once: two 64-bit loads that the compiler may not repeat. */
int64_t fc_get_frame(struct fc_endpoint *ep)
{
    const char *window = (const char *)ep->packet;
    struct fc_frame_in *r = &ep->received;
    bool client = ep->mine == FC_CLIENT_ACTIVE;
    uint32_t len = atomic_load_explicit(fc_word(&ep->packet->data_len), memory_order_relaxed);
    if (len > ep->cap)
        return broken(ep, FC_FAULT_LENGTH, len);
    if (len < FC_FRAME_HEADER)
        return broken(ep, FC_FAULT_SHORT, len);
    ep->metering.in += len;
    uint64_t raw[2];
    struct fc_frame f;
    raw[0] = __atomic_load_n((const uint64_t *)(window + FC_PACKET_HEADER), __ATOMIC_RELAXED);
    raw[1] = __atomic_load_n((const uint64_t *)(window + FC_PACKET_HEADER + 8), __ATOMIC_RELAXED);
    memcpy(&f, raw, sizeof f);
    bool plain = client ? f.kind == FC_REPLY && ep->call == FC_CALL_PLAIN && ep->in.at == ep->in.end
                        : f.kind == FC_REQUEST && ep->call == FC_CALL_NONE;
    if (!plain || f.flags)
        return get_other(ep, &f, len);

    int64_t result = lay_out(ep, &f, FC_PACKET_HEADER + FC_FRAME_HEADER, len);
    if (result != FC_OK)
        return result;
    if (client) {
        if (f.call_id != ep->call_id)
            return broken(ep, FC_FAULT_CALL_ID, f.call_id);
        if (f.timeout_us)
            return broken(ep, FC_FAULT_RESERVED, f.timeout_us);
        ep->call = FC_CALL_NONE;
    } else {
        if (!f.call_id)
            return broken(ep, FC_FAULT_CALL_ID, 0);
        begin(ep, &f);
    }
    r->kind = f.kind;
    r->flags = 0;
    r->call_id = f.call_id;
    r->timeout_us = f.timeout_us;
    r->code = f.code;
    r->items_count = r->items_len = 0;
    return (int64_t)f.body_len | ((int64_t)f.code << FC_FRAME_CODE_SHIFT) | (r->attach_len ? FC_FRAME_ATTACHED : 0);
}

/* The turn has come, and with it a frame. */
static int64_t frame_there(struct fc_endpoint *ep)
{
    /* A small message's lines behind the first, which the look at conn_state has brought: this side reads them now
     * and writes its answer over them. */
    fc_cpu_prefetch_write((const char *)ep->packet + 64);
    fc_cpu_prefetch_write((const char *)ep->packet + 128);
    return fc_get_frame(ep);
}

/* Wait for a frame; where it asks for the next part of a message on its way out, send that, and go on. Ends with FC_NEWS
 * where the wait is for items, too (flow.watch). */
int64_t fc_wait_frame(struct fc_endpoint *ep)
{
    for (;;) {
        int64_t result = fc_wait(ep);
        if (result != FC_OK)
            return result;
        result = frame_there(ep);
        if (result < 0 || !sending(ep))
            return result;
        result = fc_send_on(ep, result);
        if (result != FC_OK)
            return result;
    }
}

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
    ep->call = stream ? FC_CALL_STREAM : FC_CALL_PLAIN;
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

/* Either side, after fc_ask or fc_answer: look for the frame that comes back, for about a microsecond, without a system
 * call; FC_TICK: it has not come, and it is time for fc_call_resume or fc_request. */
int64_t fc_glance(struct fc_endpoint *ep)
{
    int64_t result = fc_enter(ep);
    if (result != FC_OK)
        return result;
    result = ep->turn == FC_TURN_THEIRS && !sending(ep) ? fc_look(ep) : FC_ERR_TURN;
    if (result == FC_OK)
        result = frame_there(ep);
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
    ep->call = FC_CALL_NONE;
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
int64_t fc_reply_request_attached(struct fc_endpoint *ep, uint32_t status, const char *body, uint32_t body_len,
                                  const char *attach, uint32_t attach_len)
{
    int64_t result = fc_enter(ep);
    if (result != FC_OK)
        return result;
    result = reply(ep, status, body, body_len, attach, attach_len, false);
    if (result == FC_OK)
        result = fc_wait_frame(ep);
    fc_leave(ep);
    return result;
}

int64_t fc_reply_request(struct fc_endpoint *ep, uint64_t status, const char *body, uint32_t body_len)
{
    return fc_reply_request_attached(ep, (uint32_t)status, body, body_len, NULL, 0);
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
    if (result >= 0)
        result = fc_give(ep, (uint32_t)result, true);
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

/* ---- giving up -------------------------------------------------------------------------------------------- */

/* Client, whose turn it is: end the call under way, if it is not over with what has come. */
static int give_up(struct fc_endpoint *ep)
{
    if (fc_split_ends(ep))
        ep->call = FC_CALL_NONE;
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
           (id && atomic_load_explicit(fc_word(&ep->packet->cancel), memory_order_acquire) == id) ||
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
