/* judge.c: has the round ended as its plan says, and is everything there that was given? */
#include "stress.h"

#include <inttypes.h>

static void expect(uint32_t side, int64_t result)
{
    char text[120];
    int64_t got = atomic_load(&ledger->side[side].result);
    if (got == result)
        return;
    snprintf(text, sizeof text, "the %s ended with %" PRId64 ", not %" PRId64, name_of(&ledger->ep[side]), got, result);
    fail(text);
}

/* Everything `side` gave has reached the other one. */
static void expect_all_taken(uint32_t side)
{
    char text[120];
    uint64_t given = ledger->ep[side].stats.flips, taken = tally(&ledger->side[!side].taken);
    if (given == taken)
        return;
    snprintf(text, sizeof text, "the %s gave %" PRIu64 " datagrams, %" PRIu64 " were received", name_of(&ledger->ep[side]),
             given, taken);
    fail(text);
}

void judge(void)
{
    const struct plan *plan = &ledger->plan;
    uint32_t actor = plan->actor, other = !actor;
    enum ending ending = plan->ending == KILL && option.threads ? CONDEMN : plan->ending;
    switch (ending) {
    case FINISH:
        expect(FC_CLIENT_ACTIVE, FC_OK);
        expect(FC_SERVER_ACTIVE, plan->framed ? FC_ERR_SHUTDOWN : FC_OK);
        expect_all_taken(FC_CLIENT_ACTIVE);
        expect_all_taken(FC_SERVER_ACTIVE);
        break;
    case RETIRE:
        expect_all_taken(FC_CLIENT_ACTIVE); /* a client that was about to send knows that it did not */
        /* fall through */
    case SHUTDOWN:
        if (plan->sleepers && tally(&ledger->side[other].taken)) /* trusted, that is, after the first */
            expect_all_taken(actor); /* what it gave before it ended the connection stays given */
        expect(actor, FC_ERR_SHUTDOWN);
        expect(other, FC_ERR_SHUTDOWN);
        break;
    case CONDEMN:
        expect(actor, FC_ERR_DIED);
        expect(other, FC_ERR_SHUTDOWN);
        break;
    default:
        expect(other, FC_ERR_DIED);
    }
    for (int i = 0; i < 2; i++) {
        const struct fc_stats *s = &ledger->ep[i].stats;
        if (plan->slice_ns == HOUR && !plan->deadlines && s->rescues)
            fail("a wake was lost");
        if (s->wakes + s->wakes_skipped + s->swaps < s->flips && ending != KILL)
            fail("a flip without a wake");
        total.flips += s->flips, total.spins_paid += s->spins_paid;
        total.parks += s->parks, total.swaps += s->swaps, total.rescues += s->rescues;
        total.timeouts += tally(&ledger->side[i].timeouts), total.dropped += tally(&ledger->side[i].dropped);
    }
    total.rounds++;
    total.ended[plan->ending]++;
}
