/* split.c: a message larger than the window goes in parts (proto/rpc.md).
 *
 *     sender                                              receiver
 *       kind|SPLIT: both lengths, the first bytes ──────►   is that allowed? room for it, the bytes out
 *       ◄────────────────────────────────────── MORE        ... or, instead: REPLY (server: too large), CANCEL (client)
 *       PART: the next bytes ───────────────────────────►   ... until all are there: control stays here
 *
 * Both sides copy through the same few cache-warm pages, so a large message costs its copies and a flip for each
 * window full. Rejected: a second, larger window for large messages, which would have to be made, sent, mapped and
 * faulted in for the first of them, and kept for the next.
 *
 * The bytes on their way out are the caller's memory: whoever passes them keeps them until the verb, over all its
 * ticks, has returned something else than FC_TICK. */
#include "endpoint.h"

#include <string.h>

static char *payload(struct fc_endpoint *ep)
{
    return (char *)ep->packet + FC_STREAM_START;
}

static uint32_t payload_room(const struct fc_endpoint *ep)
{
    return ep->cap + FC_PACKET_HEADER - FC_STREAM_START;
}

static struct fc_stream *stream_words(struct fc_endpoint *ep)
{
    return (struct fc_stream *)((char *)ep->packet + FC_PACKET_HEADER + FC_FRAME_HEADER);
}

/* ---- sending -------------------------------------------------------------------------------------------------- */

/* Copy the next bytes of body and attachment, which are one run of bytes, behind the header. How many. */
static uint32_t put_part(struct fc_endpoint *ep)
{
    struct fc_outgoing *out = &ep->out;
    char *to = payload(ep);
    uint64_t left = out->end - out->at;
    uint32_t n = left < payload_room(ep) ? (uint32_t)left : payload_room(ep), done = 0;
    if (out->at < out->body_len) {
        uint64_t of_body = out->body_len - out->at;
        done = of_body < n ? (uint32_t)of_body : n;
        memcpy(to, out->body + out->at, done);
    }
    if (done < n)
        memcpy(to + done, out->attach + (out->at + done - out->body_len), n - done);
    out->at += n;
    return n;
}

static int give_part(struct fc_endpoint *ep, struct fc_frame frame)
{
    uint32_t n = put_part(ep);
    if (ep->out.reply && ep->out.at == ep->out.end)
        fc_set_call(ep, FC_CALL_NONE); /* with its last part the answer is given */
    memcpy((char *)ep->packet + FC_PACKET_HEADER, &frame, sizeof frame);
    fc_still_busy(ep);
    return fc_give(ep, FC_STREAM_START - FC_PACKET_HEADER + n, true);
}

/* Give control away with the first part. Precondition: MINE; it does not fit the window. */
static int give_first(struct fc_endpoint *ep, struct fc_frame frame, const char *body, uint64_t body_len,
                      const char *attach, uint64_t attach_len)
{
    ep->out = (struct fc_outgoing){body, attach, body_len, attach_len, 0, body_len + attach_len, frame.kind == FC_REPLY};
    stream_words(ep)->split[0] = body_len;
    stream_words(ep)->split[1] = attach_len;
    frame.flags |= FC_FLAG_SPLIT;
    return give_part(ep, frame);
}

/* While a message goes out, `came` has come: the next part, if that was asked for (FC_OK: wait on). If not, the
 * message is not wanted any more; a reply's CANCEL is answered here, everything else is `came`. */
int64_t fc_send_on(struct fc_endpoint *ep, int64_t came)
{
    struct fc_frame part = {.kind = FC_PART, .call_id = ep->call_id};
    if (ep->received.kind == FC_MORE)
        return give_part(ep, part);
    ep->out.at = ep->out.end;
    if (ep->received.kind != FC_CANCEL || !ep->out.reply)
        return came;
    int result = fc_give_kind(ep, FC_REPLY, FC_STATUS_CANCELLED, true);
    fc_set_call(ep, FC_CALL_NONE);
    return result;
}

static bool too_long(uint64_t body_len, uint64_t attach_len)
{
    return body_len > FC_SPLIT_MAX || attach_len > FC_SPLIT_MAX;
}

/* Client: as fc_call_attached, for what does not fit the window. */
int64_t fc_call_split(struct fc_endpoint *ep, uint64_t what, const char *body, uint64_t body_len,
                      const char *attach, uint64_t attach_len)
{
    int64_t result = fc_enter(ep);
    if (result != FC_OK)
        return result;
    uint32_t id = ep->call_id + 1;
    struct fc_frame frame = {.kind = FC_REQUEST, .flags = (uint8_t)(what >> FC_WHAT_FLAGS_SHIFT), .code = (uint16_t)what,
                             .call_id = id ? id : 1, .timeout_us = (uint32_t)(what >> FC_CALL_TIMEOUT_SHIFT)};
    bool stream = frame.flags & FC_FLAG_STREAM;
    if (ep->turn != FC_TURN_MINE || ep->call != FC_CALL_NONE)
        result = FC_ERR_TURN;
    else if (too_long(body_len, attach_len) || body_len + attach_len == 0)
        result = FC_ERR_SIZE;
    else {
        if (stream)
            fc_flow_open(ep);
        ep->call_id = frame.call_id;
        fc_set_call(ep, stream ? FC_CALL_STREAM : FC_CALL_PLAIN);
        ep->timeout_us = FC_TIMEOUT_NONE;
        ep->deadline = frame.timeout_us == FC_TIMEOUT_NONE ? FC_NO_DEADLINE : fc_now() + frame.timeout_us * 1000ll;
        result = give_first(ep, frame, body, body_len, attach, attach_len);
        if (result == FC_OK)
            result = stream ? FC_TICK : fc_wait_frame(ep);
    }
    fc_leave(ep);
    return result;
}

/* Server: as fc_reply_request_attached, for what does not fit the window. Precondition: nothing published in this
 * turn. */
int64_t fc_reply_split(struct fc_endpoint *ep, uint32_t status, const char *body, uint64_t body_len,
                       const char *attach, uint64_t attach_len)
{
    int64_t result = fc_enter(ep);
    if (result != FC_OK)
        return result;
    struct fc_frame frame = {.kind = FC_REPLY, .flags = (uint8_t)(status >> FC_WHAT_FLAGS_SHIFT), .code = (uint16_t)status,
                             .call_id = ep->call_id};
    if (ep->turn != FC_TURN_MINE || ep->call == FC_CALL_NONE ||
        (ep->call == FC_CALL_STREAM && fc_flow_end(ep) != FC_STREAM_START))
        result = FC_ERR_TURN;
    else if (too_long(body_len, attach_len) || body_len + attach_len == 0)
        result = FC_ERR_SIZE;
    else {
        ep->deadline = FC_NO_DEADLINE;
        ep->timeout_us = FC_TIMEOUT_NONE;
        ep->metering.out += body_len + attach_len;
        fc_metered(ep, frame.code);
        result = give_first(ep, frame, body, body_len, attach, attach_len);
        if (result == FC_OK)
            result = fc_wait_frame(ep);
    }
    fc_leave(ep);
    return result;
}

/* Whoever produces: an item that does not fit even an empty window; then wait for the next frame. Precondition: MINE,
 * a stream under way, and nothing published in this turn. */
int64_t fc_items_split(struct fc_endpoint *ep, const char *item, uint64_t len)
{
    int64_t result = fc_enter(ep);
    if (result != FC_OK)
        return result;
    struct fc_frame frame = {.kind = FC_ITEMS, .call_id = ep->call_id};
    if (ep->turn != FC_TURN_MINE || ep->call != FC_CALL_STREAM || fc_flow_end(ep) != FC_STREAM_START)
        result = FC_ERR_TURN;
    else if (too_long(len, 0) || len == 0)
        result = FC_ERR_SIZE;
    else {
        result = give_first(ep, frame, item, len, NULL, 0);
        if (result == FC_OK)
            result = fc_wait_frame(ep);
    }
    fc_leave(ep);
    return result;
}

/* ---- receiving ------------------------------------------------------------------------------------------------ */

/* A datagram of `len` bytes is a part, or the first: take in the lengths, each read once, and check them. */
int64_t fc_split_came(struct fc_endpoint *ep, uint32_t len)
{
    struct fc_frame_in *r = &ep->received;
    struct fc_incoming *in = &ep->in;
    uint32_t n = len + FC_PACKET_HEADER - FC_STREAM_START;
    if (r->kind != FC_PART) {
        r->whole_body = __atomic_load_n(&stream_words(ep)->split[0], __ATOMIC_RELAXED);
        r->whole_attach = __atomic_load_n(&stream_words(ep)->split[1], __ATOMIC_RELAXED);
        if (too_long(r->whole_body, r->whole_attach))
            return fc_break(ep, FC_ERR_PROTOCOL, FC_FAULT_BODY, (int64_t)r->whole_body);
        in->kind = r->kind;
        in->at = 0;
        in->end = r->whole_body + r->whole_attach;
        in->body_len = r->whole_body;
        if (ep->call == FC_CALL_STREAM && fc_flow_seen(ep) != ep->flow.theirs)
            return fc_break(ep, FC_ERR_PROTOCOL, FC_FAULT_ITEMS, (int64_t)fc_flow_seen(ep));
    }
    if (n == 0 || n > in->end - in->at)
        return fc_break(ep, FC_ERR_PROTOCOL, FC_FAULT_PART, n);
    in->part_len = n;
    r->body_off = FC_STREAM_START;
    return FC_OK;
}

/* Is the part that is in the window the last one of an answer? */
bool fc_split_ends(const struct fc_endpoint *ep)
{
    return ep->in.kind == FC_REPLY && ep->in.part_len && ep->in.at + ep->in.part_len == ep->in.end;
}

/* Copy the part that is in the window to its place; whether others follow. */
static bool take_part(struct fc_endpoint *ep, char *body, char *attach, uint64_t body_len)
{
    struct fc_incoming *in = &ep->in;
    uint32_t done = 0, n = in->part_len;
    if (in->at < body_len) {
        uint64_t of_body = body_len - in->at;
        done = of_body < n ? (uint32_t)of_body : n;
        memcpy(body + in->at, payload(ep), done);
    }
    if (done < n)
        memcpy(attach + (in->at + done - body_len), payload(ep) + done, n - done);
    in->at += n;
    in->part_len = 0;
    return in->at != in->end;
}

static int64_t gather(struct fc_endpoint *ep, char *body, char *attach, uint64_t body_len)
{
    for (;;) {
        int64_t result;
        if (ep->turn == FC_TURN_MINE) {
            if (!take_part(ep, body, attach, body_len)) {
                if (ep->in.kind == FC_REPLY)
                    fc_set_call(ep, FC_CALL_NONE);
                return FC_OK;
            }
            if ((result = fc_give_kind(ep, FC_MORE, 0, true)) != FC_OK)
                return result;
        }
        if ((result = fc_wait(ep)) != FC_OK || (result = fc_get_frame(ep)) < 0)
            return result;
        if (ep->received.kind != FC_PART) {
            ep->in.at = ep->in.end;
            return result;
        }
    }
}

/* All of a message whose first part has come: its body and attachment into memory of just their lengths. FC_OK with
 * control on this side; or what came instead (a server: CANCEL). After FC_TICK call it again. */
int64_t fc_gather(struct fc_endpoint *ep, char *body, uint64_t body_len, char *attach, uint64_t attach_len)
{
    int64_t result = fc_enter(ep);
    if (result != FC_OK)
        return result;
    if (ep->in.at == ep->in.end)
        result = FC_ERR_TURN;
    else if (body_len != ep->in.body_len || body_len + attach_len != ep->in.end)
        result = FC_ERR_SIZE;
    else
        result = gather(ep, body, attach, body_len);
    fc_leave(ep);
    return result;
}
