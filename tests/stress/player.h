/* player.h: one side of a round. It plays until the plan ends it, and checks every datagram on the way.
 *
 * The ledger is what sides and supervisor share besides the window: an anonymous shared mapping. The endpoints lie
 * in it too, so the supervisor can look at the counts of a side that was killed. */
#ifndef FLIPCALL_STRESS_PLAYER_H
#define FLIPCALL_STRESS_PLAYER_H

#include <sched.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "notify.h"
#include "plan.h"

#define WINDOW 8192u
#define LONG_DATAGRAM 3000u

struct side {
    _Atomic uint64_t taken; /* datagrams received and checked, and those dropped by fc_reclaim */
    _Atomic uint64_t timeouts, dropped, ticks;
    _Atomic uint32_t done;
    _Atomic int64_t result; /* FC_OK, or the error that ended it; meaningful when done */
};

struct ledger {
    struct plan plan;
    struct fc_endpoint ep[2];
    struct side side[2];
    _Atomic uint32_t active; /* the side whose turn it is, plus one; 0 while control travels */
    _Atomic uint32_t go;     /* both sides may begin */
    _Atomic uint32_t enough; /* a round that ends by FINISH should */
    _Atomic uint32_t over;   /* nobody plays any more */
    _Atomic uint32_t wrong;  /* complaint is set */
    char complaint[300];
    uint32_t switch_id;
    uint32_t imitate; /* not that switch, but imitated_swap */
    uint64_t salt;
    /* with the notify switch (listener.c) */
    int bell[2];
    struct fc_notify_end end[2];
    struct fc_listener listener; /* of the server's process */
    _Atomic uint32_t ready;      /* both sides have what the switch needs */
};

struct player {
    struct ledger *ledger;
    struct fc_endpoint *ep;
    struct side *me;
    uint64_t dice;
    uint32_t seq;     /* of the exchange under way */
    uint32_t framed;  /* the connection stands, and calls follow */
    uint32_t dropped; /* the answer of the exchange under way was reclaimed, not received */
    uint8_t body[LONG_DATAGRAM + 8], attach[LONG_DATAGRAM + 8];
};

static inline void count(_Atomic uint64_t *what)
{
    atomic_fetch_add_explicit(what, 1, memory_order_relaxed);
}

static inline uint64_t tally(_Atomic uint64_t *what)
{
    return atomic_load_explicit(what, memory_order_relaxed);
}

/* Something is wrong with the core. The first complaint is kept, and this process ends. */
__attribute__((format(printf, 2, 3), noreturn)) static inline void complain(struct ledger *l, const char *format, ...)
{
    if (!atomic_exchange(&l->wrong, 1)) {
        va_list args;
        va_start(args, format);
        vsnprintf(l->complaint, sizeof l->complaint, format, args);
        va_end(args);
        atomic_store(&l->wrong, 2);
    }
    for (;;)
        pause(); /* the supervisor ends us, and shows everything as it is now */
}

static inline const char *name_of(const struct fc_endpoint *ep)
{
    return ep->mine == FC_CLIENT_ACTIVE ? "client" : "server";
}

/* Whose turn it is, seen from outside the window. Relaxed, so that it orders nothing that the core must order. */
static inline void begin_turn(struct player *p)
{
    uint32_t none = 0;
    if (!atomic_compare_exchange_strong_explicit(&p->ledger->active, &none, p->ep->mine + 1, memory_order_relaxed,
                                                 memory_order_relaxed))
        complain(p->ledger, "two active sides: the %s became active while side %u was", name_of(p->ep), none - 1);
}

static inline void end_turn(struct player *p)
{
    atomic_store_explicit(&p->ledger->active, 0, memory_order_relaxed);
}

/* ---- what is sent: a function of the round, the direction and the sequence number ---------------------------- */

static inline uint64_t mix(uint64_t a, uint64_t b)
{
    a += b * 0x9e3779b97f4a7c15ull;
    return draw(&a);
}

/* A datagram: sequence number, whether it is the last, then a pattern. */
static inline uint32_t length_of(uint64_t salt, uint32_t part)
{
    uint32_t r = (uint32_t)mix(salt, part);
    if (part == 1 && r % 4)
        return 0; /* most calls have no attachment */
    return 8 + (r % 64 ? (r >> 8) % 40 : (r >> 8) % LONG_DATAGRAM);
}

static inline void fill(uint8_t *at, uint32_t n, uint64_t salt, uint32_t seq, uint32_t last)
{
    uint8_t a = (uint8_t)salt, b = (uint8_t)(salt >> 8) | 1;
    memcpy(at, &seq, 4);
    memcpy(at + 4, &last, 4);
    for (uint32_t i = 8; i < n; i++)
        at[i] = (uint8_t)(a + i * b);
}

/* Whether it is last; complains when anything is not as it was sent. */
static inline uint32_t check(struct player *p, const uint8_t *at, uint32_t n, uint64_t salt, uint32_t part)
{
    uint32_t want = length_of(salt, part), seq, last;
    if (n != want)
        complain(p->ledger, "the %s received %u bytes in part %u of datagram %u, not %u", name_of(p->ep), n, part, p->seq, want);
    if (n == 0)
        return 0;
    memcpy(&seq, at, 4);
    memcpy(&last, at + 4, 4);
    if (seq != p->seq || last > 1)
        complain(p->ledger, "the %s received datagram %u (last: %u), not %u", name_of(p->ep), seq, last, p->seq);
    uint8_t a = (uint8_t)salt, b = (uint8_t)(salt >> 8) | 1;
    for (uint32_t i = 8; i < n; i++)
        if (at[i] != (uint8_t)(a + i * b))
            complain(p->ledger, "the %s found byte %u of datagram %u wrong", name_of(p->ep), i, p->seq);
    return last;
}

static inline uint64_t salt_of(const struct player *p, uint32_t from)
{
    return mix(p->ledger->salt + from, p->seq);
}

/* ---- giving, waiting, receiving ------------------------------------------------------------------------------- */

static inline void hesitate(struct player *p)
{
    uint32_t one_in = p->ledger->plan.pauses;
    if (!one_in || below(&p->dice, one_in))
        return;
    uint32_t r = below(&p->dice, 64);
    if (r == 0)
        nanosleep(&(struct timespec){.tv_nsec = below(&p->dice, 2 * MS)}, NULL);
    else if (r < 8)
        sched_yield();
    else
        for (uint32_t i = below(&p->dice, 4000); i; i--)
            __asm__ __volatile__("" ::: "memory");
}

static inline int64_t some_deadline(struct player *p)
{
    uint32_t one_in = p->ledger->plan.deadlines;
    if (!one_in || below(&p->dice, one_in))
        return FC_NO_DEADLINE;
    return fc_now() - 10 * US + below(&p->dice, 60 * US);
}

/* Over ticks and deadlines, to an end: a length or packed frame, or an error. A client may give an answer up. */
static inline int64_t settle(struct player *p, int64_t n)
{
    int client = p->ep->mine == FC_CLIENT_ACTIVE;
    for (;;) {
        if (n == FC_TICK)
            count(&p->me->ticks);
        else if (n == FC_ERR_TIMEOUT)
            count(&p->me->timeouts);
        else
            return n;
        if (n == FC_ERR_TIMEOUT && client && p->seq && (p->framed || below(&p->dice, 2))) {
            if (p->framed)
                fc_cancel(p->ep);
            while ((n = fc_reclaim(p->ep)) == FC_TICK)
                sched_yield();
            p->dropped = n == FC_OK;
            if (p->dropped)
                count(&p->me->dropped);
            return n;
        }
        if (p->framed)
            n = client ? fc_call_resume(p->ep) : fc_request(p->ep);
        else
            n = fc_resume(p->ep, some_deadline(p));
    }
}

/* Check what was received as datagram p->seq of the peer; nonzero when it is the last. Not for a dropped one. */
static inline uint32_t receive(struct player *p, int64_t n)
{
    const uint8_t *window = (const uint8_t *)p->ep->packet;
    uint64_t salt = salt_of(p, p->ep->theirs);
    begin_turn(p);
    if (!p->framed)
        return check(p, window + FC_PACKET_HEADER, (uint32_t)n, salt, 0);
    uint32_t code = (uint32_t)(n >> FC_FRAME_CODE_SHIFT) & 0xffff, attached = p->ep->received.attach_len;
    if (code != (uint16_t)salt || !(n & FC_FRAME_ATTACHED) != !attached)
        complain(p->ledger, "the %s received code %u in call %u", name_of(p->ep), code, p->seq);
    check(p, window + p->ep->received.attach_off, attached, salt, 1);
    return check(p, window + FC_PACKET_HEADER + FC_FRAME_HEADER, (uint32_t)n, salt, 0);
}

/* Give datagram p->seq to the peer and wait for what comes: as settle(). */
static inline int64_t exchange(struct player *p, uint32_t last)
{
    struct fc_endpoint *ep = p->ep;
    uint64_t salt = salt_of(p, ep->mine);
    uint32_t len = length_of(salt, 0), attached = length_of(salt, 1);
    p->dropped = 0;
    hesitate(p);
    if (!p->framed) {
        fill((uint8_t *)(ep->packet + 1), len, salt, p->seq, last);
        end_turn(p);
        if (ep->turn == FC_TURN_NEW)
            return settle(p, fc_connect(ep, len, some_deadline(p)));
        if (below(&p->dice, 4))
            return settle(p, fc_send_recv(ep, len, some_deadline(p)));
        int64_t sent = fc_send(ep, len);
        return sent == FC_OK ? settle(p, FC_TICK) : sent;
    }
    fill(p->body, len, salt, p->seq, last);
    if (attached)
        fill(p->attach, attached, salt, p->seq, last);
    end_turn(p);
    if (ep->mine == FC_SERVER_ACTIVE)
        return settle(p, fc_reply_request_attached(ep, (uint16_t)salt, (char *)p->body, len, (char *)p->attach, attached));
    int64_t deadline = some_deadline(p);
    uint64_t timeout_us = deadline == FC_NO_DEADLINE ? FC_TIMEOUT_NONE : below(&p->dice, 60);
    return settle(p, fc_call_attached(ep, (uint16_t)salt | timeout_us << FC_CALL_TIMEOUT_SHIFT, (char *)p->body, len,
                                      (char *)p->attach, attached));
}

/* A swap where the kernel has none: wake, then sleep. So the wakes that are owed are stressed everywhere. */
static inline int imitate_swap(struct fc_endpoint *ep, int64_t until)
{
    int failed = fc_switch_futex.wake(ep);
    return failed ? failed : fc_switch_futex.park(ep, until);
}

static inline int futex_park(struct fc_endpoint *ep, int64_t until)
{
    return fc_switch_futex.park(ep, until);
}

static inline int futex_wake(struct fc_endpoint *ep)
{
    return fc_switch_futex.wake(ep);
}

static inline void futex_close(struct fc_endpoint *ep)
{
    fc_switch_futex.close(ep);
}

static const struct fc_switch imitated_swap = {
    .name = "imitated-swap", .park = futex_park, .wake = futex_wake, .swap = imitate_swap, .close = futex_close,
};

#define CHANNEL 3u /* index of the one there is */

static inline void join_listener(struct player *p)
{
    struct ledger *l = p->ledger;
    int result = p->ep->mine == FC_CLIENT_ACTIVE
                     ? fc_notify_client(p->ep, &l->end[0], l->bell[0], CHANNEL)
                     : fc_notify_server(p->ep, &l->end[1], &l->listener, l->bell[1], CHANNEL);
    if (result != FC_OK)
        complain(l, "the %s could not join the listener: %d", name_of(p->ep), result);
}

/* As endpoint.py does it after the first datagram: both sides agree on extensions. */
static inline void agree(struct player *p)
{
    __atomic_store_n(&p->ep->trust_sleepers, p->ledger->plan.sleepers, __ATOMIC_RELAXED);
    if (p->ledger->switch_id == FC_SWITCH_NOTIFY)
        join_listener(p);
    if (fc_use_switch(p->ep, p->ledger->switch_id) != FC_OK)
        complain(p->ledger, "no switch has the number %u", p->ledger->switch_id);
    if (p->ledger->imitate)
        atomic_store(&p->ep->how, &imitated_swap);
}

/* ---- the two sides -------------------------------------------------------------------------------------------- */

static inline int64_t play_client(struct player *p)
{
    const struct plan *plan = &p->ledger->plan;
    for (uint32_t last = 0;; p->seq++) {
        int64_t n = exchange(p, last);
        if (n < 0)
            return n;
        if (p->dropped)
            begin_turn(p);
        else
            receive(p, n);
        count(&p->me->taken);
        if (p->seq == 0) {
            agree(p);
            p->framed = plan->framed;
        }
        if (last)
            break;
        last = plan->ending == FINISH &&
               (p->seq >= plan->after || atomic_load_explicit(&p->ledger->enough, memory_order_relaxed));
    }
    if (p->framed)
        fc_shutdown(p->ep);
    return FC_OK;
}

static inline int64_t play_server(struct player *p)
{
    int64_t n = settle(p, fc_first(p->ep, some_deadline(p)));
    for (; n >= 0; p->seq++) {
        uint32_t last = receive(p, n);
        count(&p->me->taken);
        if (p->seq == 0) {
            /* Answered without waiting: only then may the switch change. */
            uint64_t salt = salt_of(p, p->ep->mine);
            uint32_t len = length_of(salt, 0);
            fill((uint8_t *)(p->ep->packet + 1), len, salt, 0, 0);
            __atomic_store_n(&p->ep->trust_sleepers, p->ledger->plan.sleepers, __ATOMIC_RELAXED);
            end_turn(p);
            n = fc_send(p->ep, len);
            if (n < 0)
                break;
            agree(p);
            p->framed = p->ledger->plan.framed;
            n = settle(p, FC_TICK);
        } else if (last && !p->framed) {
            uint64_t salt = salt_of(p, p->ep->mine);
            uint32_t len = length_of(salt, 0);
            fill((uint8_t *)(p->ep->packet + 1), len, salt, p->seq, 1);
            end_turn(p);
            return fc_send_last(p->ep, len);
        } else
            n = exchange(p, last);
    }
    return n;
}

static inline void play(struct ledger *l, uint32_t side)
{
    struct player p = {.ledger = l, .ep = &l->ep[side], .me = &l->side[side], .dice = l->plan.seed + side};
    while (!atomic_load(&l->go))
        sched_yield();
    int64_t result = side == FC_CLIENT_ACTIVE ? play_client(&p) : play_server(&p);
    atomic_store(&l->side[side].result, result);
    atomic_store(&l->side[side].done, 1);
}

#endif
