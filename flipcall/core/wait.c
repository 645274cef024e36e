/* wait.c: giving control away, and waiting to get it back.
 *
 * Theory. Two sides, one word. At any moment conn_state names the one side that may touch the datagram, or says
 * that the connection is over. The giver and the waiter meet in four accesses:
 *
 *        giver                                waiter
 *        W1  conn_state: mine -> theirs       W2  sleepers |= my bit
 *        R1  look at the waiter's bit         R2  look at conn_state
 *            set: FUTEX_WAKE                      still theirs: FUTEX_WAIT(conn_state == theirs)
 *
 * All four are sequentially consistent, so W1-R1 and W2-R2 cannot both see the past: either the giver sees the
 * bit and wakes, or the waiter sees the new state and does not sleep; and if the state changes between R2 and
 * the sleep, FUTEX_WAIT itself finds the word changed. A plain release store in W1 may stay in the store buffer
 * while R1 runs: then both see the past, and the wake is lost. proto/model/ checks this.
 *
 * Each side writes its own bit only. Rejected: one shared "somebody sleeps" flag. It saves nothing and loses
 * wakes, because one side, waking, clears what the other has just set.
 *
 * A wait goes down this ladder, each step bounded and skippable, and every step leaves at the first change:
 *
 *      give ──► spin ──► yield ──► park ◄──┐ woken, state unchanged (spurious), or a slice passed
 *                │         │        │  └───┘ and the peer lives
 *                └─────────┴────────┴──► conn_state changed:  mine      -> my turn
 *                                                             SHUTDOWN  -> over
 *                                                             other     -> protocol error
 *      park also ends at: the deadline, a signal (FC_TICK), `stop`, the peer's death.
 *      A side in an event loop does not park: it answers FC_ARMED (doorbell.c).
 *
 * How long a wait stands on each step is the policy's, and what this endpoint has learned about its peer (adapt.c):
 *
 *                  answers beyond the budget, or spins that do not pay
 *      SPINNING ─────────────────────────────────────────────────────► PARKING  one wait in FC_PROBE spins, to see
 *          ▲ ◄─────────────────────────────────────────────────────────  │ ▲
 *          │        a probe answered, or answers short again             │ │
 *          │                                                             ▼ │
 *          └──── the peer is on another CPU ─────── TOGETHER ◄── the peer is on this CPU, from either state:
 *                                                                spinning would only keep it from running, so
 *                                                                yield while that is quick, else park
 *
 * The answer of a busy peer costs no more than this: a wait answered within the first FC_BURST looks reads no clock
 * and learns nothing but a count.
 */
#define _GNU_SOURCE
#include "endpoint.h"

#include <errno.h>
#include <sched.h>

#include "cpu.h"

/* Spinners beyond CPUs - 1 only take the CPU from those they wait for. */
static _Atomic uint32_t spinners, spinner_limit = 1;

void fc_set_spinner_limit(uint32_t limit)
{
    atomic_store(&spinner_limit, limit);
}

/* In a forked child: the threads that were spinning stayed in the parent. */
void fc_no_spinners(void)
{
    atomic_store(&spinners, 0);
}

/* Does the peer look at the word, so that to give control away takes no system call? It may go to sleep meanwhile. */
bool fc_awake(const struct fc_endpoint *ep)
{
    return ep->trust_sleepers && !(atomic_load_explicit(fc_word(&ep->packet->sleepers), memory_order_relaxed) & ep->their_bit);
}

/* Write the length, flip the word, and see to it that the peer wakes: at once, or, where this side is about to
 * sleep itself (then_wait, and no spinning) and the switch can do both in one step, when it does. */
int fc_give(struct fc_endpoint *ep, uint32_t len, bool then_wait)
{
    struct fc_packet *p = ep->packet;
    uint32_t seen = ep->mine;
    atomic_store_explicit(fc_word(&p->data_len), len, memory_order_relaxed);
    if (!atomic_compare_exchange_strong(fc_word(&p->conn_state), &seen, ep->theirs)) {
        if (!fc_is_over(seen))
            return fc_break(ep, FC_ERR_PROTOCOL, FC_FAULT_STATE, seen);
        ep->turn = FC_TURN_OVER;
        uint32_t why = atomic_load(&ep->stop);
        return why ? -(int)why : FC_ERR_SHUTDOWN;
    }
    ep->turn = FC_TURN_THEIRS;
    ep->since = 0;
    ep->copying = len / FC_COPIED_PER_NS;
    FC_COUNT(ep, flips);
    uint32_t sleepers = ep->their_bit;
    if (ep->trust_sleepers && !((sleepers = atomic_load(fc_word(&p->sleepers))) & ep->their_bit)) {
        FC_COUNT(ep, wakes_skipped);
        return FC_OK;
    }
    if (sleepers & ep->their_bell)
        return fc_ring(ep);
    if (then_wait && fc_how(ep)->swap && !fc_will_spin(ep)) {
        ep->owed = 1;
        return FC_OK;
    }
    FC_COUNT(ep, wakes);
    int err = fc_how(ep)->wake(ep);
    return err ? fc_break(ep, FC_ERR_OS, FC_FAULT_SYSCALL, -err) : FC_OK;
}

#define NEWS 0xffffffffu /* no state: the peer is active still, and has published items */

/* conn_state is `seen`, not `theirs`: what does that mean? */
int fc_turned(struct fc_endpoint *ep, uint32_t seen)
{
    uint32_t why = atomic_load_explicit(&ep->stop, memory_order_acquire);
    if (ep->armed)
        fc_disarm(ep);
    if (seen == NEWS && !why && fc_flow_news(ep))
        return FC_NEWS;
    if (seen == ep->my_end && !why && ep->trust_sleepers)
        seen = ep->mine; /* the peer gave, then shut down: its datagram counts, and the next give will fail */
    if (why || fc_is_over(seen)) {
        ep->turn = FC_TURN_OVER;
        return why ? -(int)why : FC_ERR_SHUTDOWN;
    }
    if (seen != ep->mine)
        return fc_break(ep, FC_ERR_PROTOCOL, FC_FAULT_STATE, seen);
    ep->turn = FC_TURN_MINE;
    return FC_OK;
}

static inline uint32_t look(struct fc_endpoint *ep)
{
    uint32_t seen = atomic_load_explicit(fc_word(&ep->packet->conn_state), memory_order_acquire);
    return seen == ep->theirs && fc_flow_news(ep) ? NEWS : seen;
}

/* The peer is gone. It may have answered just before: its last word counts (proto/model, "last word"). */
int fc_died(struct fc_endpoint *ep)
{
    uint32_t seen = look(ep);
    if (seen != ep->theirs)
        return fc_turned(ep, seen);
    ep->turn = FC_TURN_OVER;
    return FC_ERR_DIED;
}

/* ---- spinning ------------------------------------------------------------------------------------------- */

/* Look at the word for `budget` ns from `start`; the state seen last. `spun` becomes false when enough others of this
 * process do already. */
static uint32_t spin(struct fc_endpoint *ep, int64_t start, int64_t budget, bool *spun)
{
    uint32_t seen = ep->theirs;
    *spun = atomic_fetch_add_explicit(&spinners, 1, memory_order_relaxed) <
            atomic_load_explicit(&spinner_limit, memory_order_relaxed);
    if (*spun) {
        do {
            for (int i = 0; i < FC_BURST && (seen = look(ep)) == ep->theirs; i++)
                fc_cpu_relax();
        } while (seen == ep->theirs && fc_now() - start < budget);
    }
    atomic_fetch_sub_explicit(&spinners, 1, memory_order_relaxed);
    return seen;
}

/* The peer is on this CPU: let it run, as often as the policy says. The state seen last. */
static uint32_t yield(struct fc_endpoint *ep, int64_t start)
{
    uint32_t seen = ep->theirs, most = fc_yields(ep);
    if (most == 0)
        return seen;
    for (uint32_t i = 0; i < most && seen == ep->theirs; i++) {
        sched_yield();
        seen = look(ep);
    }
    fc_yielded(ep, fc_now() - start);
    return seen;
}

/* ---- parking -------------------------------------------------------------------------------------------- */

/* Sleep until the state changes, or `until`. 0, or the negative errno of the sleep. A wake that is owed to the
 * peer is paid in any case: by the swap, or because there is nothing to sleep for any more. */
static int sleep_once(struct fc_endpoint *ep, int64_t until)
{
    struct fc_packet *p = ep->packet;
    bool owed = ep->owed;
    int err = 0;
    ep->owed = 0;
    atomic_fetch_or(fc_word(&p->sleepers), ep->my_bit);
    if (atomic_load(fc_word(&p->conn_state)) == ep->theirs && !fc_flow_news(ep) && !atomic_load(&ep->stop)) {
        FC_COUNT(ep, parks);
        if (owed)
            FC_COUNT(ep, swaps);
        if (ep->flow.watch && fc_how(ep)->items_by_futex)
            err = fc_flow_park(ep, until);
        else
            err = owed ? fc_how(ep)->swap(ep, until) : fc_how(ep)->park(ep, until);
    } else if (owed) {
        FC_COUNT(ep, wakes);
        err = fc_how(ep)->wake(ep);
    }
    atomic_fetch_and(fc_word(&p->sleepers), ~ep->my_bit);
    return err;
}

/* A slice, or the time until the deadline, has passed without an answer. */
static int slice_over(struct fc_endpoint *ep, int64_t now)
{
    if (atomic_load(&ep->stop))
        return fc_turned(ep, ep->theirs);
    if (now >= ep->life_due) {
        ep->life_due = now + ep->slice_ns;
        if (fc_peer_gone(ep))
            return fc_died(ep);
    }
    return now >= ep->deadline ? FC_ERR_TIMEOUT : FC_TICK;
}

/* The slice ends when the look at the peer's life is due, however often a signal or a short deadline has cut the wait
 * since: else a profiler's timer would keep a dead peer alive. */
static int park(struct fc_endpoint *ep)
{
    int64_t now, until = ep->deadline < ep->life_due ? ep->deadline : ep->life_due;
    for (;;) {
        int err = sleep_once(ep, until);
        uint32_t seen = look(ep);
        if (seen != ep->theirs) {
            if (err == -ETIMEDOUT && seen == ep->mine && until == ep->life_due) /* not a deadline */
                FC_COUNT(ep, rescues);
            return fc_turned(ep, seen);
        }
        if (atomic_load(&ep->stop))
            return fc_turned(ep, seen);
        if (err == -EINTR)
            return FC_TICK;
        if (err == -EPIPE)
            return fc_died(ep);
        if (err && err != -EAGAIN && err != -ETIMEDOUT)
            return fc_break(ep, FC_ERR_OS, FC_FAULT_SYSCALL, -err);
        /* Timed out, woken for nothing, or the peer played with the word: none of it moves the end of the slice. */
        now = fc_now();
        if (now >= until)
            return slice_over(ep, now);
    }
}

/* ---- leaving it to an event loop ------------------------------------------------------------------------ */

/* W2 and R2 of a side that waits by its doorbell. conn_state, seen after the bit was set. */
static uint32_t arm(struct fc_endpoint *ep)
{
    atomic_fetch_or(fc_word(&ep->packet->sleepers), ep->my_bit);
    ep->armed = 1;
    uint32_t seen = atomic_load(fc_word(&ep->packet->conn_state));
    return seen == ep->theirs && fc_flow_news(ep) ? NEWS : seen;
}

/* For a side that waits without a wait of its own under way: is there nothing yet, and will the peer ring? */
bool fc_arm(struct fc_endpoint *ep)
{
    return arm(ep) == ep->theirs && !atomic_load(&ep->stop) && !atomic_load(&ep->hung_up);
}

/* In place of park(): FC_ARMED, and the peer rings at the first change. It stays so after FC_ERR_TIMEOUT. */
static int leave_it(struct fc_endpoint *ep)
{
    uint32_t seen = arm(ep);
    if (seen != ep->theirs || atomic_load(&ep->stop))
        return fc_turned(ep, seen);
    if (atomic_load(&ep->hung_up))
        return fc_died(ep);
    if (fc_now() >= ep->deadline)
        return FC_ERR_TIMEOUT;
    FC_COUNT(ep, parks);
    return FC_ARMED;
}

/* The first looks of a wait, which read no clock. Did they find the turn, at the wait's beginning? Then it is counted, and
 * nothing else learned. `seen` is the state seen last. */
static bool glanced(struct fc_endpoint *ep, uint32_t *seen)
{
    *seen = look(ep);
    bool there = *seen != ep->theirs;
    if (!there && !ep->owed)
        for (uint32_t i = ep->burst; i > 0 && *seen == ep->theirs; i--) {
            fc_cpu_relax();
            *seen = look(ep);
        }
    if (*seen == ep->theirs || ep->since || ep->owed)
        return false;
    FC_COUNT(ep, spins_paid);
    if (there) {
        ep->adapt.taken_in++; /* it came before this wait began: that says nothing about the peer's pace */
        if (ep->follow) {
            fc_follow(ep);
            fc_place(ep);
        }
    }
    return true;
}

/* Look for about a microsecond whether it is this side's turn; FC_TICK: not yet. Precondition: inside, turn is THEIRS. */
int fc_look(struct fc_endpoint *ep)
{
    uint32_t seen;
    return glanced(ep, &seen) ? fc_turned(ep, seen) : FC_TICK;
}

/* Wait until it is this side's turn. Precondition: inside, turn is THEIRS. After FC_TICK the caller comes back for
 * the next slice of the same wait: it does not start to spin anew, and what is learned is the time of the whole. */
int fc_wait(struct fc_endpoint *ep)
{
    uint32_t seen;
    if (glanced(ep, &seen))
        return fc_turned(ep, seen);

    int64_t start = fc_now();
    bool begun = ep->since != 0;
    if (!begun) {
        ep->since = start;
        ep->life_due = start + ep->slice_ns;
    }
    if (ep->timeout_us != FC_TIMEOUT_NONE) {
        ep->deadline = start + ep->timeout_us * 1000ll;
        ep->timeout_us = FC_TIMEOUT_NONE;
    }
    if (ep->follow && !begun)
        fc_follow(ep); /* not at every slice: a channel that only waits is idle, and gives its CPU back */
    fc_place(ep);
    int64_t budget = seen == ep->theirs || ep->owed ? fc_spin_budget(ep, start - ep->since) : 0;
    if (ep->owed)
        budget = 0; /* asked for all the same: else PARKING would never probe */
    if (ep->brief)
        budget = ep->brief = 0;
    if (budget > ep->slice_ns)
        budget = ep->slice_ns; /* a spinning side, too, looks after signals and the peer's life */
    if (ep->deadline - start < budget)
        budget = ep->deadline - start;
    if (budget > 0) {
        bool spun;
        if ((seen = spin(ep, start, budget, &spun)) != ep->theirs) {
            FC_COUNT(ep, spins_paid);
            fc_learn(ep, fc_now() - ep->since, true);
            return fc_turned(ep, seen);
        }
        int64_t now = fc_now();
        if (now - start >= ep->slice_ns)
            return slice_over(ep, now);
        if (spun) {
            FC_COUNT(ep, spins_lost);
            fc_spin_lost(ep);
        }
    } else if (!begun && seen == ep->theirs && !ep->owed && !ep->by_bell)
        seen = yield(ep, start);
    int result;
    if (seen != ep->theirs && !ep->owed)
        result = fc_turned(ep, seen);
    else
        result = ep->by_bell ? leave_it(ep) : park(ep);
    if (result != FC_TICK && result != FC_ARMED)
        fc_learn(ep, fc_now() - ep->since, false);
    return result;
}
