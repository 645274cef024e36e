/* plan.h: what happens in one round of the stress, drawn from a seed: the same seed and round, the same plan. */
#ifndef FLIPCALL_STRESS_PLAN_H
#define FLIPCALL_STRESS_PLAN_H

#include <stdint.h>
#include <stdio.h>

#include "endpoint.h"

#define US 1000ll
#define MS 1000000ll
#define HOUR (3600ll * 1000 * MS)

/* splitmix64: any seed will do, zero too. */
static inline uint64_t draw(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15ull;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

static inline uint32_t below(uint64_t *state, uint32_t n)
{
    return (uint32_t)(draw(state) >> 32) % n;
}

/* How a round ends, and who ends it (plan.actor). */
enum ending {
    FINISH,   /* the client says that this is the last one */
    SHUTDOWN, /* fc_shutdown by another thread of the actor's process */
    RETIRE,   /* fc_retire by another thread of the server, tried until it succeeds */
    CONDEMN,  /* fc_condemn by another thread of the actor's process */
    KILL,     /* SIGKILL; between threads, where that cannot be, CONDEMN */
    ENDINGS
};

static const char *const ENDING[ENDINGS] = {"finish", "shutdown", "retire", "condemn", "kill"};

struct plan {
    uint64_t seed;
    uint32_t round;
    enum ending ending;
    uint32_t actor;     /* side that ends it, or is killed */
    uint32_t after;     /* exchanges before the end comes */
    uint32_t hesitate;  /* then that many turns of an empty loop */
    uint32_t framed;    /* calls (frame.c) instead of bare datagrams (flip.c) */
    uint32_t sleepers;  /* both sides keep and trust their sleepers bits */
    uint32_t deadlines; /* one wait in so many has a short deadline; 0 for none */
    uint32_t pauses;    /* one turn in so many hesitates; 0 for none */
    uint32_t stops;     /* the supervisor stops and continues sides, and sends signals */
    int64_t slice_ns;   /* an hour where nothing must end early: there a lost wake is a hang, not a rescue */
    struct fc_policy policy[2];
};

static inline struct fc_policy draw_policy(uint64_t *s, uint32_t one_cpu)
{
    static const struct fc_policy choice[] = {
        {0, 0, 0}, {0, 0, 2}, {3 * US, 0, 0}, {3 * US, 1, 2}, {2 * US, 1, 0}, {50 * US, 1, 2}, {100 * US, 0, 0}, {MS, 0, 0},
    };
    return choice[below(s, one_cpu ? 5 : sizeof choice / sizeof *choice)]; /* long spins on one CPU only take time */
}

static inline struct plan draw_plan(uint64_t seed, uint32_t round, uint32_t one_cpu)
{
    uint64_t s = seed ^ (0x632be59bd9b4e019ull * (round + 1));
    static const int64_t slices[] = {HOUR, HOUR, HOUR, FC_SLICE_NS, MS};
    struct plan p = {.seed = draw(&s), .round = round};
    p.ending = below(&s, ENDINGS);
    p.actor = p.ending == RETIRE ? FC_SERVER_ACTIVE : below(&s, 2);
    uint32_t scale = below(&s, 8);
    p.after = scale == 0 ? below(&s, 2) : scale < 6 ? below(&s, 300) : below(&s, 20000); /* also while connecting */
    p.hesitate = below(&s, 20000);
    p.framed = below(&s, 3) == 0;
    p.sleepers = below(&s, 8) != 0;
    p.deadlines = below(&s, 3) ? 0 : 1 + below(&s, 20);
    p.pauses = below(&s, 3) ? 1 + below(&s, 50) : 0;
    p.stops = below(&s, 3) == 0;
    p.slice_ns = p.ending == KILL ? (1 + below(&s, 5)) * MS : slices[below(&s, 5)];
    p.policy[0] = draw_policy(&s, one_cpu);
    p.policy[1] = below(&s, 2) ? p.policy[0] : draw_policy(&s, one_cpu);
    return p;
}

static inline void tell_plan(FILE *out, const struct plan *p)
{
    fprintf(out, "round %u: %s by %s after %u exchanges, %s, sleepers %s, a deadline in 1 of %u, a pause in 1 of %u, %s, slice %lld us",
            p->round, ENDING[p->ending], p->actor == FC_CLIENT_ACTIVE ? "client" : "server", p->after,
            p->framed ? "calls" : "datagrams", p->sleepers ? "kept" : "not kept", p->deadlines, p->pauses,
            p->stops ? "signals" : "no signals", (long long)(p->slice_ns / US));
    for (int i = 0; i < 2; i++)
        fprintf(out, ", %s {spin %lld ns, adaptive %u, yields %u}", i ? "server" : "client",
                (long long)p->policy[i].spin_ns, p->policy[i].adaptive, p->policy[i].yields);
    fprintf(out, "\n");
}

#endif
