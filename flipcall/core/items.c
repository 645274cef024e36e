/* items.c: the items of a stream, many to a flip (proto/rpc.md).
 *
 * Theory. A flip for each item would cost both sides a hand-over for each, and neither could work while the other does.
 * So the active side, which produces, *publishes*: it appends an item to the window and moves its word of
 * struct fc_stream, and stays active. The waiting side *takes* what has been published whenever it likes, without a
 * flip. Control changes sides only when the window is full, when the direction changes, or at the end; whoever then
 * gets it has everything that was published before.
 *
 *     producer (active)                            consumer (waiting)
 *       append, publish            (a)  word ────►   look at the word, take   ◄─┐
 *       peer's sleepers bit set?   (b)               nothing: spin, then set my │ bit        (c)
 *            yes: wake it, stay active               look at the word again     │            (d)
 *       full: flip (ITEMS) ──────────────────────►   take the rest, flip (MORE) │  nothing: sleep on conn_state
 *            ◄───────────────────────────────────────────────────────────────── ┘
 *
 * (a) before (b) and (c) before (d), all sequentially consistent, as for control itself (wait.c): no item is published
 * unnoticed. The consumer sleeps on both words at once (futex_waitv(2)), so that a change of either between (d) and the
 * sleep is found by the kernel. With a switch that does not sleep by futex the producer, seeing the bit, flips instead.
 *
 * Invariants. Each side writes its own word only. An item's bytes are written before its word and not changed after,
 * until the consumer has had control. A hostile producer may move its word to and fro: each look is one load, checked
 * against what was taken before and against the window, so the worst is garbage, which the codec refuses.
 *
 * Rejected: a ring with two indices. It would save the flip at a full window, and cost every item the wrap-around;
 * a window has room for thousands of small items, and a large one fills it whatever its shape. */
#include "endpoint.h"

#include <string.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the lower half of a u64 is taken for its first four bytes"
#endif

#define ARRAY32 0xdd /* msgpack: an array, its length in the four bytes behind, most significant first */
#define BIN32 0xc6   /* msgpack: bytes, likewise */
#define HEAD 5

static _Atomic uint64_t *published(struct fc_endpoint *ep, uint32_t side)
{
    struct fc_stream *words = (struct fc_stream *)((char *)ep->packet + FC_PACKET_HEADER + FC_FRAME_HEADER);
    return (_Atomic uint64_t *)&words->published[side];
}

/* Its lower half: what a sleeping consumer waits on beside conn_state. */
static _Atomic uint32_t *futex_word(struct fc_endpoint *ep, uint32_t side)
{
    return (_Atomic uint32_t *)published(ep, side);
}

static void put_head(char *at, uint8_t type, uint32_t n)
{
    at[0] = (char)type;
    for (int i = 0; i < 4; i++)
        at[1 + i] = (char)(n >> (24 - 8 * i));
}

/* A streaming call begins. */
void fc_flow_begin(struct fc_endpoint *ep)
{
    ep->flow = (struct fc_flow){0};
}

/* A client opens one: nothing is published yet. The server's word, too: it is the client's to look at soon. */
void fc_flow_open(struct fc_endpoint *ep)
{
    fc_flow_begin(ep);
    atomic_store_explicit(published(ep, FC_CLIENT_ACTIVE), 0, memory_order_relaxed);
    atomic_store_explicit(published(ep, FC_SERVER_ACTIVE), 0, memory_order_relaxed);
}

/* Control has come, and everything published was accounted for: both sides' next items start the window anew. */
void fc_flow_turn(struct fc_endpoint *ep)
{
    ep->flow.my_start = (uint32_t)ep->flow.mine;
    ep->flow.their_start = (uint32_t)ep->flow.theirs;
}

/* Where the next item goes, and behind the last one a frame's body: from the start of the window. */
uint32_t fc_flow_end(const struct fc_endpoint *ep)
{
    return FC_STREAM_START + ((uint32_t)ep->flow.mine - ep->flow.my_start);
}

/* ---- producing ------------------------------------------------------------------------------------------------ */

/* The peer sleeps although it is not its turn: it waits for items. */
static int rouse(struct fc_endpoint *ep)
{
    uint32_t sleepers = atomic_load(fc_word(&ep->packet->sleepers));
    if (!ep->trust_sleepers || !(sleepers & ep->their_bit))
        return FC_PUBLISHED;
    if (sleepers & ep->their_bell)
        return fc_ring(ep);
    if (!fc_how(ep)->items_by_futex)
        return FC_FLIP;
    FC_COUNT(ep, wakes);
    int err = fc_futex_wake(futex_word(ep, ep->mine), 1);
    return err ? fc_break(ep, FC_ERR_OS, FC_FAULT_SYSCALL, -err) : FC_PUBLISHED;
}

/* Has the peer said that it wants no more? */
static bool stopped(struct fc_endpoint *ep)
{
    return atomic_load(fc_word(&ep->packet->cancel)) == ep->call_id;
}

/* The window is full of items: whoever does not look any more would not give control back either. */
static int full(struct fc_endpoint *ep)
{
    return stopped(ep) ? FC_STOPPED : FC_FULL;
}

/* `len` bytes have been appended. */
static int publish(struct fc_endpoint *ep, uint32_t len)
{
    uint64_t count = (ep->flow.mine >> 32) + 1;
    ep->flow.mine = count << 32 | (uint32_t)((uint32_t)ep->flow.mine + len);
    atomic_store(published(ep, ep->mine), ep->flow.mine);
    uint32_t seen = atomic_load_explicit(fc_word(&ep->packet->conn_state), memory_order_acquire);
    if (seen != ep->mine) {
        int result = fc_turned(ep, seen);
        if (result != FC_OK)
            return result;
    }
    int result = rouse(ep);
    if (result != FC_PUBLISHED)
        return result;
    return stopped(ep) ? FC_STOPPED : FC_PUBLISHED;
}

/* Append an item and let the peer have it. `len` is not 0, and the item is whole msgpack. enum fc_published, or why
 * not; FC_ERR_SIZE when it does not fit an empty window (fc_items_split). Precondition: MINE, a stream under way. */
int fc_publish(struct fc_endpoint *ep, const char *item, uint32_t len)
{
    int result = fc_enter(ep);
    if (result != FC_OK)
        return result;
    uint64_t room = (uint64_t)ep->cap + FC_PACKET_HEADER, at = fc_flow_end(ep);
    if (ep->turn != FC_TURN_MINE || ep->call != FC_CALL_STREAM || len == 0)
        result = FC_ERR_TURN;
    else if (at + len > room)
        result = FC_STREAM_START + (uint64_t)len > room ? FC_ERR_SIZE : full(ep);
    else {
        memcpy((char *)ep->packet + at, item, len);
        result = publish(ep, len);
    }
    fc_leave(ep);
    return result;
}

/* The same for bytes that are no msgpack yet: they are copied once, behind msgpack's head for bytes. */
int fc_publish_bulk(struct fc_endpoint *ep, const char *data, uint32_t len)
{
    int result = fc_enter(ep);
    if (result != FC_OK)
        return result;
    uint64_t room = (uint64_t)ep->cap + FC_PACKET_HEADER, at = fc_flow_end(ep), need = (uint64_t)len + HEAD;
    if (ep->turn != FC_TURN_MINE || ep->call != FC_CALL_STREAM)
        result = FC_ERR_TURN;
    else if (at + need > room)
        result = FC_STREAM_START + need > room ? FC_ERR_SIZE : full(ep);
    else {
        char *to = (char *)ep->packet + at;
        put_head(to, BIN32, len);
        memcpy(to + HEAD, data, len);
        result = publish(ep, (uint32_t)need);
    }
    fc_leave(ep);
    return result;
}

/* ---- taking --------------------------------------------------------------------------------------------------- */

/* What the peer has published by now: one load. */
uint64_t fc_flow_seen(const struct fc_endpoint *ep)
{
    return atomic_load(published((struct fc_endpoint *)ep, ep->theirs));
}

/* Take what has been published up to `seen`: into ep->received, and before its first byte, where nothing is needed
 * any more, msgpack's head for an array of so many. The peer can overwrite that too, which gains it nothing. */
int fc_flow_account(struct fc_endpoint *ep, uint64_t seen)
{
    struct fc_flow *flow = &ep->flow;
    struct fc_frame_in *r = &ep->received;
    uint32_t before = (uint32_t)flow->theirs - flow->their_start, after = (uint32_t)seen - flow->their_start;
    uint32_t count = (uint32_t)(seen >> 32) - (uint32_t)(flow->theirs >> 32), n = after - before;
    uint64_t room = (uint64_t)ep->cap + FC_PACKET_HEADER - FC_STREAM_START;
    if (after < before || after > room || count > n || (n != 0 && count == 0))
        return fc_break(ep, FC_ERR_PROTOCOL, FC_FAULT_ITEMS, (int64_t)seen);
    flow->theirs = seen;
    r->items_off = FC_STREAM_START + before - HEAD;
    r->items_len = n ? n + HEAD : 0;
    r->items_count = count;
    if (n)
        put_head((char *)ep->packet + r->items_off, ARRAY32, count);
    return FC_OK;
}

/* Sleep until control comes or an item, or `until`. */
int fc_flow_park(struct fc_endpoint *ep, int64_t until)
{
    return fc_futex_wait_two(fc_word(&ep->packet->conn_state), ep->theirs, futex_word(ep, ep->theirs),
                             (uint32_t)ep->flow.theirs, until);
}

/* Wait for items, or for control: FC_FRAME_EARLY with items in ep->received, else a frame as fc_exchange answers it,
 * which may have brought the last items with it. After FC_TICK call it again; it goes on after any verb of a stream. Precondition: THEIRS, a stream under way. */
int64_t fc_take(struct fc_endpoint *ep)
{
    int64_t result = fc_enter(ep);
    if (result != FC_OK)
        return result;
    if (ep->turn != FC_TURN_THEIRS || ep->call != FC_CALL_STREAM)
        result = FC_ERR_TURN;
    while (result == FC_OK) {
        uint64_t seen = fc_flow_seen(ep);
        if (seen != ep->flow.theirs) {
            if (ep->armed)
                fc_disarm(ep);
            result = fc_flow_account(ep, seen);
            if (result == FC_OK)
                result = FC_FRAME_EARLY | (int64_t)FC_ITEMS << FC_FRAME_KIND_SHIFT;
            ep->since = 0;
            break;
        }
        ep->flow.watch = true;
        result = fc_wait_frame(ep);
        ep->flow.watch = false;
        if (result != FC_NEWS)
            break;
        result = FC_OK;
    }
    fc_leave(ep);
    return result;
}
