/* adapt.c: what an endpoint learns about its peer, and what it makes of it: spin, yield or park (wait.c).
 *
 * Why. A wait that parks costs a wake-up, tens of microseconds when the other CPU must come out of idle; a wait that
 * spins costs what the peer takes. Spinning for about what a wake-up costs (policy.spin_ns) and then parking is never
 * more than twice the best choice, whatever the peer does (the ski-rental bound). Knowing the peer, one does better.
 *
 *   SPINNING   spin up to spin_ns, then park.
 *   PARKING    park at once. Entered when the weighted mean of answer times exceeds spin_ns, or when less than half
 *              (weighted) of the spins paid. One wait in FC_PROBE spins: an answer got by sleeping contains the
 *              wake-up, and cannot tell that the peer would have been caught by a spin. Left as soon as such a probe
 *              pays, or answers come within spin_ns in spite of the sleep while spinning had been paying.
 *   TOGETHER   the peer last ran on the CPU this side runs on, from any state and under any policy: whoever spins
 *              keeps the other from answering. Yield, where that has been quick; else park. Left as soon as the
 *              published CPUs differ.
 *
 * Each change takes a few calls, and at most FC_PROBE and a few: two long answers in a row end the spinning, one probe
 * brings it back. A single long answer changes nothing: it is the pause between two bursts of calls.
 *
 * Oversubscription, more runnable threads than CPUs, shows in two ways. Both sides are put on one CPU: TOGETHER. Or
 * this side loses its CPU in the middle of a spin: the answer then comes later than the budget, seen by the same spin
 * after a jump of the clock, and such a spin counts as lost.
 */
#define _GNU_SOURCE
#include "endpoint.h"

#include <sched.h>

/* Weights, as shifts. An answer time moves its mean by a quarter; FC_LONG budgets are the most one answer counts for,
 * so that one (3/4 of a budget) leaves SPINNING alone and two in a row (21/16) end it. */
#define FC_ANSWER_WEIGHT 2
#define FC_LONG 3
/* A spin moves the share of paid ones by an eighth: half of them over the last ten or so. */
#define FC_PAID_WEIGHT 3
#define FC_PAID_ALL 65536u
#define FC_PAID_LEAST (FC_PAID_ALL / 2)
/* What a probe that paid makes of the share: enough for three losses before it is under half again. */
#define FC_PAID_PROBED (FC_PAID_ALL / 4 * 3)
/* More quick answers than this and the means have forgotten everything before them: (3/4)^32 is 1/10,000. */
#define FC_FORGOTTEN 32

/* A yield that takes this long went to somebody else: the peer's turn and two switches take 3 us. Then the CPU is
 * shared with other work, and a yield gives that a whole slice (4 to 20 ms measured), where a sleeper is woken within
 * microseconds. So rest from yielding for FC_REST waits, each time four times as long, up to FC_REST_MOST: a slice
 * lost in 65,536 calls is a fifth of a microsecond each. FC_REST_OVER good ones in a row begin anew. */
#define FC_CROWDED_NS 100000
#define FC_REST 1024u
#define FC_REST_MOST 65536u
#define FC_REST_OVER 64u

void fc_adapt_init(struct fc_endpoint *ep)
{
    ep->adapt.paid = FC_PAID_ALL; /* spinning has the benefit of the doubt */
    ep->burst = ep->policy.spin_ns > 0 ? FC_BURST : 0;
}

/* The longest spin of a wait, ns. A peer that is given a megabyte copies it first, and so does one that sends a megabyte,
 * as the last frame had it: that it takes so long says nothing about its pace. */
static int64_t longest(const struct fc_endpoint *ep)
{
    if (!ep->policy.spin_ns)
        return 0;
    return ep->policy.spin_ns + ep->copying + ep->received.attach_len / FC_COPIED_PER_NS;
}

static bool parking(const struct fc_endpoint *ep)
{
    return ep->policy.adaptive &&
           (ep->adapt.answer_ns > longest(ep) || ep->adapt.paid < FC_PAID_LEAST);
}

/* A side that is not to spin does not look FC_BURST times either: that is a microsecond of a CPU the peer may need. */
static void set_burst(struct fc_endpoint *ep)
{
    ep->burst = ep->policy.spin_ns > 0 && !ep->adapt.together && !parking(ep) ? FC_BURST : 0;
}

/* Waits answered within the burst were only counted. Now that one was not, take in what they say: answers in next to
 * no time, and looking paid. */
static void catch_up(struct fc_endpoint *ep)
{
    struct fc_adapt *a = &ep->adapt;
    uint64_t quick = ep->stats.spins_paid - a->taken_in;
    a->taken_in = ep->stats.spins_paid;
    if (quick > FC_FORGOTTEN) {
        a->answer_ns = 0;
        a->paid = FC_PAID_ALL;
        return;
    }
    for (; quick > 0; quick--) {
        a->answer_ns -= a->answer_ns >> FC_ANSWER_WEIGHT;
        a->paid += (FC_PAID_ALL - a->paid) >> FC_PAID_WEIGHT;
    }
}

/* ---- place ---------------------------------------------------------------------------------------------- */

/* Publish this side's CPU if it has changed, and look whether the peer's is the same. Called when a wait outlasts its
 * burst: sides that answer each other within it are on two CPUs. The number read is a hint from the peer, compared
 * and nothing else; wrong, it costs a sleep or a spin. */
void fc_place(struct fc_endpoint *ep)
{
    struct fc_adapt *a = &ep->adapt;
    bool client = ep->mine == FC_CLIENT_ACTIVE;
    int shift = client ? FC_CPU_SHIFT_CLIENT : FC_CPU_SHIFT_SERVER;
    int peers_shift = client ? FC_CPU_SHIFT_SERVER : FC_CPU_SHIFT_CLIENT;
    uint32_t peers = 0;
    catch_up(ep);
    if (ep->trust_sleepers) {
        _Atomic uint32_t *word = fc_word(&ep->packet->sleepers);
        int cpu = sched_getcpu();
        uint32_t mine = cpu >= 0 && (uint32_t)cpu <= FC_CPU_MAX ? (uint32_t)cpu + 1 : 0;
        if (mine != a->cpu) {
            atomic_fetch_and_explicit(word, ~(FC_CPU_FIELD << shift), memory_order_relaxed);
            atomic_fetch_or_explicit(word, mine << shift, memory_order_relaxed);
            a->cpu = mine;
        }
        peers = atomic_load_explicit(word, memory_order_relaxed) >> peers_shift & FC_CPU_FIELD;
    }
    /* Unknown: then spinning was ruled out from outside, which on one CPU means together. A side that follows is
     * together, or will be. */
    a->together = peers ? peers == a->cpu : ep->policy.spin_ns == 0;
    if (ep->follow && !a->follow_rest)
        a->together = true;
    set_burst(ep);
}

/* ---- spinning ------------------------------------------------------------------------------------------- */

/* Whether the next wait would spin; changes nothing. */
bool fc_will_spin(const struct fc_endpoint *ep)
{
    return ep->policy.spin_ns > 0 && !ep->adapt.together && (!parking(ep) || ep->adapt.unspun + 1 >= FC_PROBE);
}

/* How long a wait that began `waited` ns ago may spin, ns. Only its first slice asks whether to probe. */
int64_t fc_spin_budget(struct fc_endpoint *ep, int64_t waited)
{
    struct fc_adapt *a = &ep->adapt;
    if (a->together)
        return 0;
    if (!parking(ep))
        return longest(ep) - waited;
    if (waited || ++a->unspun < FC_PROBE)
        return 0;
    a->unspun = 0;
    return longest(ep);
}

/* ---- yielding ------------------------------------------------------------------------------------------- */

/* How often this wait may yield. */
uint32_t fc_yields(struct fc_endpoint *ep)
{
    if (!ep->adapt.together || ep->policy.yields == 0)
        return 0;
    if (ep->adapt.rest > 0) {
        ep->adapt.rest--;
        return 0;
    }
    return ep->policy.yields;
}

/* A wait's yields took `took` ns. */
void fc_yielded(struct fc_endpoint *ep, int64_t took)
{
    struct fc_adapt *a = &ep->adapt;
    if (took < FC_CROWDED_NS) {
        if (++a->good_yields >= FC_REST_OVER)
            a->next_rest = 0;
        return;
    }
    a->good_yields = 0;
    a->rest = a->next_rest ? a->next_rest : FC_REST;
    a->next_rest = a->rest * 4 < FC_REST_MOST ? a->rest * 4 : FC_REST_MOST;
}

/* ---- learning ------------------------------------------------------------------------------------------- */

/* A spin ended without an answer. */
void fc_spin_lost(struct fc_endpoint *ep)
{
    ep->adapt.paid -= ep->adapt.paid >> FC_PAID_WEIGHT;
}

/* A wait, over all its slices, took `took` ns until the answer was seen, by a spin or not. */
void fc_learn(struct fc_endpoint *ep, int64_t took, bool spun)
{
    struct fc_adapt *a = &ep->adapt;
    int64_t budget = longest(ep), most = FC_LONG * budget;
    bool lost = spun && took > budget; /* this side lost its CPU while it spun */
    if (spun)
        a->taken_in++; /* of stats.spins_paid: it is taken in here */
    if (lost)
        fc_spin_lost(ep);
    if (spun && !lost && parking(ep)) {
        a->answer_ns = took; /* a probe that paid: believe it at once */
        a->paid = FC_PAID_PROBED;
    } else {
        a->answer_ns += ((took < most ? took : most) - a->answer_ns) >> FC_ANSWER_WEIGHT;
        if (spun && !lost)
            a->paid += (FC_PAID_ALL - a->paid) >> FC_PAID_WEIGHT;
    }
    set_burst(ep);
}
