/* frame.c: the frames: one is written, one has come and is checked (proto/rpc.md). The verbs are in call.c and cancel.c.
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
    fc_set_call(ep, f->flags & FC_FLAG_STREAM ? FC_CALL_STREAM : FC_CALL_PLAIN);
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
        fc_set_call(ep, FC_CALL_NONE);
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
        fc_set_call(ep, FC_CALL_NONE);
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
