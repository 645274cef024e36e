/* follow.c: placement `same-cpu`: both sides on one CPU, for as long as they talk.
 *
 * Why. A wake-up on the waker's own CPU costs a tenth of one that must bring another CPU out of idle. Left to itself
 * the scheduler prefers the idle CPU, call after call; and with only one side pinned it moves the other one away. So
 * the client's thread restricts itself to the CPU it is on, and says so in the window; the server's thread reads that
 * and restricts itself to the same. Both must have asked for it (endpoint.py agrees on it when connecting).
 *
 * A pin belongs to a thread, not to an endpoint: a thread may use many endpoints, and an endpoint many threads.
 *
 *      FREE ── a wait on a following endpoint ──► PINNED ──┐ another wait (used = 1)
 *        ▲                                          │  ▲───┘
 *        ├── no wait for one to two FC_PIN_IDLE ────┤  the keeper, a thread that exists while something is pinned
 *        └── fc_unpin: close, a new endpoint, a fork's child; the peer does not follow
 *
 * The client's thread runs its own code between two calls, and may never call again: so it cannot be what gives the
 * CPU back, and the keeper is. What is given back is the mask the thread had, exactly; but only if its mask is still
 * the one CPU: otherwise the user, or a cpuset, has changed it meanwhile, and what they have set stays. (Somebody who
 * sets the very same single CPU meanwhile cannot be told apart, and loses it.)
 *
 * Whatever the peer publishes: it is checked against the mask this thread had; a CPU that is not in it is not followed.
 * A peer that keeps moving, or does not come, is left alone after FC_TRIES waits, for FC_TRIES_REST. No failure here
 * ends a call: the worst is a wait as without it.
 */
#define _GNU_SOURCE
#include "endpoint.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define FC_PIN_IDLE_NS 100000000l /* long against the pauses of a busy channel, short against a person's patience */
#define FC_TRIES 8u               /* both sides meet within three waits; this allows for a client's thread change */
#define FC_TRIES_REST 1024u       /* a peer that cannot follow costs two system calls in so many waits, if that */
#define MASK_WORDS ((FC_CPU_MAX + 64) / 64)

struct pin {
    struct pin *next;
    pid_t tid;
    uint64_t mask[MASK_WORDS]; /* what the thread had; guarded by `lock` */
    _Atomic int cpu;           /* what it is restricted to, -1 for FREE; written under `lock` */
    _Atomic uint32_t used;     /* waited since the keeper last looked */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct pin *pins; /* of all threads; guarded by `lock` */
static bool keeping;     /* the keeper exists; guarded by `lock` */
static __thread struct pin *own;
static pthread_key_t at_thread_end;
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* ---- masks; all under `lock` ---------------------------------------------------------------------------- */

static bool has(const uint64_t *mask, uint32_t cpu)
{
    return cpu < MASK_WORDS * 64 && mask[cpu / 64] >> cpu % 64 & 1;
}

static bool is_only(const uint64_t *mask, uint32_t cpu)
{
    for (uint32_t i = 0; i < MASK_WORDS; i++)
        if (mask[i] != (i == cpu / 64 ? 1ull << cpu % 64 : 0))
            return false;
    return true;
}

static bool read_mask(pid_t tid, uint64_t *mask)
{
    for (uint32_t i = 0; i < MASK_WORDS; i++)
        mask[i] = 0;
    return sched_getaffinity(tid, MASK_WORDS * sizeof *mask, (cpu_set_t *)mask) == 0;
}

static bool write_mask(pid_t tid, const uint64_t *mask)
{
    return sched_setaffinity(tid, MASK_WORDS * sizeof *mask, (const cpu_set_t *)mask) == 0;
}

/* Give the thread its mask back, unless somebody else has changed it. */
static void restore(struct pin *p)
{
    uint64_t now[MASK_WORDS];
    int cpu = atomic_load(&p->cpu);
    if (cpu >= 0 && read_mask(p->tid, now) && is_only(now, (uint32_t)cpu))
        write_mask(p->tid, p->mask);
    atomic_store(&p->cpu, -1);
}

/* ---- the keeper ----------------------------------------------------------------------------------------- */

static void *keep(void *unused)
{
    const struct timespec idle = {0, FC_PIN_IDLE_NS};
    for (;;) {
        nanosleep(&idle, NULL);
        bool pinned = false;
        pthread_mutex_lock(&lock);
        for (struct pin *p = pins; p; p = p->next) {
            if (!atomic_exchange(&p->used, 0))
                restore(p);
            pinned |= atomic_load(&p->cpu) >= 0;
        }
        keeping = pinned;
        pthread_mutex_unlock(&lock);
        if (!pinned)
            return unused;
    }
}

/* Under `lock`. Without a keeper nothing is pinned. It takes no signals: those are for the program's own threads. */
static bool start_keeper(void)
{
    pthread_attr_t attr;
    sigset_t all, before;
    pthread_t thread;
    if (keeping)
        return true;
    if (pthread_attr_init(&attr) != 0)
        return false;
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    keeping = pthread_create(&thread, &attr, keep, NULL) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attr);
    return keeping;
}

/* ---- pins ----------------------------------------------------------------------------------------------- */

/* The thread ends, and its mask with it. Under `lock`, so the keeper never acts on a thread id used anew. */
static void forget(void *ending)
{
    pthread_mutex_lock(&lock);
    for (struct pin **at = &pins; *at; at = &(*at)->next)
        if (*at == ending) {
            *at = (*at)->next;
            break;
        }
    pthread_mutex_unlock(&lock);
    free(ending);
}

static void make_key(void)
{
    if (pthread_key_create(&at_thread_end, forget) != 0)
        at_thread_end = (pthread_key_t)-1;
}

static struct pin *own_pin(void)
{
    pthread_once(&once, make_key);
    if (own || at_thread_end == (pthread_key_t)-1)
        return own;
    struct pin *p = calloc(1, sizeof *p);
    if (!p || pthread_setspecific(at_thread_end, p) != 0) {
        free(p);
        return NULL;
    }
    p->tid = gettid();
    atomic_init(&p->cpu, -1);
    pthread_mutex_lock(&lock);
    p->next = pins;
    pins = p;
    pthread_mutex_unlock(&lock);
    return own = p;
}

/* Restrict this thread to `cpu`. False when it may not run there, or anything else is in the way. */
static bool pin_to(struct pin *p, uint32_t cpu)
{
    uint64_t only[MASK_WORDS] = {0};
    bool done = false;
    pthread_mutex_lock(&lock);
    restore(p); /* from the CPU it followed to before: what it may follow to is asked of the mask it had, or has now */
    if (read_mask(p->tid, p->mask) && has(p->mask, cpu) && start_keeper()) {
        only[cpu / 64] = 1ull << cpu % 64;
        done = write_mask(p->tid, only);
        if (done) {
            atomic_store(&p->used, 1);
            atomic_store(&p->cpu, (int)cpu);
        }
    }
    pthread_mutex_unlock(&lock);
    return done;
}

/* Give this thread's CPU back, if it is pinned. Any thread, any time. */
void fc_unpin(void)
{
    if (!own || atomic_load(&own->cpu) < 0)
        return;
    pthread_mutex_lock(&lock);
    restore(own);
    pthread_mutex_unlock(&lock);
}

/* In a forked child, which has this thread only, under a new id, and neither the keeper nor a usable lock. */
void fc_unpin_forked(void)
{
    pthread_mutex_init(&lock, NULL);
    keeping = false;
    pins = own;
    if (!own)
        return;
    own->next = NULL;
    own->tid = gettid();
    restore(own);
}

/* ---- following ------------------------------------------------------------------------------------------ */

/* From now on: placement same-cpu. Both sides have agreed on it, and on trusting each other's sleepers word. */
void fc_use_same_cpu(struct fc_endpoint *ep)
{
    ep->follow = 1;
    ep->adapt.together = true;
    ep->burst = 0; /* else two sides that answer each other within it would never meet */
}

/* A wait begins: be where the peer is. The client leads: it stays where it is; the server goes to the CPU the client
 * has published. Precondition: ep->follow. */
void fc_follow(struct fc_endpoint *ep)
{
    struct fc_adapt *a = &ep->adapt;
    bool client = ep->mine == FC_CLIENT_ACTIVE;
    uint32_t word = atomic_load_explicit(fc_word(&ep->packet->sleepers), memory_order_relaxed);
    uint32_t peers = word >> (client ? FC_CPU_SHIFT_SERVER : FC_CPU_SHIFT_CLIENT) & FC_CPU_FIELD;
    struct pin *p;
    if (a->follow_rest > 0) {
        a->follow_rest--;
        return;
    }
    if (peers && peers == a->cpu)
        a->tries = 0;
    else if (++a->tries > FC_TRIES) {
        a->tries = 0;
        a->follow_rest = FC_TRIES_REST;
        fc_unpin();
        return;
    }
    if (!(p = own_pin()))
        return;
    int pinned = atomic_load_explicit(&p->cpu, memory_order_relaxed);
    int target = client ? (pinned >= 0 ? pinned : sched_getcpu()) : (int)peers - 1;
    if (target < 0)
        return;
    if (target == pinned)
        atomic_store_explicit(&p->used, 1, memory_order_relaxed);
    else if (!pin_to(p, (uint32_t)target))
        a->follow_rest = FC_TRIES_REST;
}
