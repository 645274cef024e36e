/* notify_watch.c: ends trapped calls in time, whatever the server does.
 *
 * Theory. A trapped call has no timeout, and nothing but an answer ends it (or a signal handler, which this library
 * never installs). The server may answer late, never, or be stopped; but any holder of the listener can answer, and
 * this process holds it. So a thread of its own, the watch, answers in the server's place: at the deadline, at the
 * end of a slice, after shutdown(), when the server's end of the bell hangs up.
 *
 * Which notification? Only who receives one learns its number. But a listener numbers its notifications one after
 * the other, and this process counts its trapped calls, so number = base + count, with a base measured when the
 * listener was made (fc_taker_calibrate, which also verifies that numbers are consecutive here). Calls that are
 * begun again by the kernel (after SIGSTOP, or a handler with SA_RESTART), and threads that overtake each other between
 * counting and trapping, shift it by a little. So the watch sets base right at each tick, by a call that the server is
 * holding (ID_VALID says which numbers are held, and changes nothing); and when it answers it tries the neighbours too,
 * farther away with each attempt.
 * Answering a neighbour's call is harmless: its thread looks at conn_state, and traps again.
 *
 *     SEND(number) ──► 0            answered
 *                  ──► EINPROGRESS  it is there, and nobody has received it: the taker does, then answers
 *                  ──► ENOENT       not this number; or its thread is only about to trap: again in a moment
 *
 * The taker receives, since that may block: notify_taker.c.
 *
 * When is it awake? Each trapped call says until when it may last (fc_watch_until) and wakes the watch only if that is
 * before the watch would look by itself. While calls are made it looks every FC_TICK_NS, so that they need not; after
 * a tick without one it sleeps until it is woken. The two orders are set-then-look on both sides: the caller stores
 * `until` and reads `wakes_at`, the watch stores `wakes_at` and reads `until`.
 */
#define _GNU_SOURCE
#include "notify.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define FC_TICK_NS 50000000ll
#define FC_AGAIN_NS 300000ll    /* between two attempts to end the same call */
#define FC_GRACE_NS 5000000ll   /* how long the server may take to receive what woke it */
#define FC_NEAR 16              /* numbers tried on each side at first */
#define FC_WIDE 64              /* where it does not matter whether one of another call is hit */
#define FC_FAR (1ll << 14)      /* and at last: some milliseconds */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* ends, count, and what belongs to the watch in them */
static struct fc_notify_end *ends;
static uint32_t count;
static uint64_t changes; /* of the list */
static int kick_fd = -1;
static _Atomic int64_t wakes_at;  /* when the watch will look by itself */

static void kick(void)
{
    uint64_t one = 1;
    ssize_t ignored = write(kick_fd, &one, sizeof one); /* EAGAIN: it is being kicked already */
    (void)ignored;
}

/* ---- the watch -------------------------------------------------------------------------------------------- */

/* 0, 1, -1, 2, -2, ... */
static uint64_t nearby(uint64_t guess, int64_t i)
{
    return guess + (uint64_t)(i % 2 ? (i + 1) / 2 : -i / 2);
}

static bool server_receives(void)
{
    for (struct fc_notify_end *e = ends; e; e = e->next)
        if (atomic_load(fc_word(&e->ep->packet->sleepers)) & FC_NOTIFY_SERVER)
            return true;
    return false;
}

/* The call of `e` is there, and nobody has received it: the server is about to, or the taker shall. */
static void receive_for(struct fc_notify_end *e, int64_t now)
{
    if (fc_taker_idle() && (!server_receives() || now - e->first_try >= FC_GRACE_NS))
        fc_taker_ask();
}

/* Answer the call that `e` is in, if it can be found. */
static void answer(struct fc_notify_end *e, int64_t now)
{
    int64_t reach = FC_NEAR;
    for (uint32_t i = 0; i < e->tries && reach < FC_FAR; i += 4)
        reach *= 4;
    uint64_t trap = atomic_load(&e->trap), guess = fc_notify.base + trap;
    if (!e->tries++)
        e->first_try = now;
    /* Its turn has come, so the answer is on its way. If not by the next attempt, this is a rescue. */
    bool turned = atomic_load(fc_word(&e->ep->packet->conn_state)) != e->ep->theirs;
    bool rescue = turned && e->turned;
    e->turned = turned;
    if (turned && !rescue && !atomic_load(&e->gone))
        return;
    atomic_store(&e->ended, rescue ? FC_ENDED_TOO_LATE : FC_ENDED_IN_TIME);
    for (int64_t i = 0; i <= 2 * reach; i++) {
        int error = fc_notify_send(fc_notify.listener, nearby(guess, i));
        if (error == -ENOENT)
            continue;
        fc_notify.base = nearby(guess, i) - trap;
        if (error == -EINPROGRESS)
            receive_for(e, now);
        return;
    }
    atomic_store(&e->ended, 0); /* nothing was ended: its thread has its answer, and only has not run since; or is about to trap */
}

/* `e` is in a call: does its number agree? */
static void adjust(struct fc_notify_end *e)
{
    uint64_t trap = atomic_load(&e->trap), guess = fc_notify.base + trap;
    for (int64_t i = 0; i <= 2 * FC_WIDE; i++)
        if (fc_notify_valid(fc_notify.listener, nearby(guess, i))) {
            if (atomic_load(&e->trap) == trap && atomic_load(&e->until))
                fc_notify.base = nearby(guess, i) - trap;
            return;
        }
}

/* Look at every call; when to look again. */
static int64_t look(int64_t now, uint64_t *traps)
{
    int64_t next = FC_NO_DEADLINE;
    uint64_t seen = atomic_load(&fc_notify.traps);
    if (seen != *traps)
        next = now + FC_TICK_NS;
    *traps = seen;
    for (struct fc_notify_end *e = ends; e; e = e->next) {
        int64_t until = atomic_load(&e->until);
        if (!until) {
            e->tries = 0;
            e->turned = false;
            continue;
        }
        if (atomic_load(&e->gone) || until <= now) {
            answer(e, now);
            until = now + FC_AGAIN_NS;
        } else {
            e->tries = 0;
            e->turned = false;
            adjust(e);
        }
        next = until < next ? until : next;
    }
    return next;
}

/* A server that has died may have received the poke and not answered it. */
static void answer_poke(void)
{
    uint64_t poke = fc_poke_under_way();
    for (int64_t i = 0; poke && i <= 2 * FC_WIDE; i++)
        fc_notify_send(fc_notify.listener, nearby(fc_notify.base + poke - 1, i));
}

/* The other end of a bell has hung up: whoever sleeps for its answer shall see. */
static void hung_up(int fd)
{
    for (struct fc_notify_end *e = ends; e; e = e->next)
        if (e->bell == fd && !atomic_exchange(&e->gone, 1)) {
            fc_futex_wake(fc_word(&e->ep->packet->conn_state), INT_MAX);
            answer_poke();
        }
}

/* The descriptors to watch: the kick, and each bell for its hang-up. NULL when there is no memory. */
static struct pollfd *descriptors(nfds_t *n)
{
    struct pollfd *fds = calloc(count + 1, sizeof *fds);
    if (!fds)
        return NULL;
    *n = 0;
    fds[(*n)++] = (struct pollfd){.fd = kick_fd, .events = POLLIN};
    for (struct fc_notify_end *e = ends; e; e = e->next)
        if (!atomic_load(&e->gone))
            fds[(*n)++] = (struct pollfd){.fd = e->bell};
    return fds;
}

static void *watch(void *unused)
{
    uint64_t traps = 0, kicks;
    (void)unused;
    for (;;) {
        nfds_t n;
        pthread_mutex_lock(&lock);
        int64_t next = look(fc_now(), &traps);
        atomic_store(&wakes_at, next);
        for (struct fc_notify_end *e = ends; e; e = e->next) { /* set, then look */
            int64_t until = atomic_load(&e->until);
            if (until && until < next && !e->tries)
                next = until;
        }
        struct pollfd *fds = descriptors(&n);
        uint64_t snapshot = changes;
        pthread_mutex_unlock(&lock);
        if (!fds) {
            usleep(1000);
            continue;
        }
        int64_t left = next - fc_now();
        struct timespec t = {.tv_sec = left / 1000000000ll, .tv_nsec = left % 1000000000ll};
        if (left > 0 && ppoll(fds, n, next == FC_NO_DEADLINE ? NULL : &t, NULL) > 0) {
            if (fds[0].revents) {
                ssize_t ignored = read(kick_fd, &kicks, sizeof kicks);
                (void)ignored;
            }
            pthread_mutex_lock(&lock);
            for (nfds_t i = 1; i < n && changes == snapshot; i++) /* else the numbers may mean other bells now */
                if (fds[i].revents)
                    hung_up(fds[i].fd);
            pthread_mutex_unlock(&lock);
        }
        free(fds);
    }
    return NULL;
}

/* ---- for the others --------------------------------------------------------------------------------------- */

/* Trapping until `until`, from now on; 0: not any more. */
void fc_watch_until(struct fc_notify_end *end, int64_t until)
{
    atomic_store(&end->until, until);
    if (until < atomic_load(&wakes_at) && until)
        kick();
}

void fc_watch_add(struct fc_notify_end *end)
{
    pthread_mutex_lock(&lock);
    end->next = ends;
    ends = end;
    count++;
    changes++;
    pthread_mutex_unlock(&lock);
    kick();
}

void fc_watch_remove(struct fc_notify_end *end)
{
    pthread_mutex_lock(&lock);
    for (struct fc_notify_end **e = &ends; *e; e = &(*e)->next)
        if (*e == end) {
            *e = end->next;
            count--;
            changes++;
            break;
        }
    pthread_mutex_unlock(&lock);
}

static int start(void *(*run)(void *))
{
    pthread_t thread;
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    int error = pthread_create(&thread, &attr, run, NULL);
    pthread_attr_destroy(&attr);
    return error;
}

/* Start the threads, which live as long as the process, like the filter. Signals are none of their business. */
int fc_watch_start(void)
{
    sigset_t all, before;
    if (kick_fd >= 0)
        return 0; /* an earlier attempt to install got this far */
    if ((kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) < 0)
        return -errno;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = start(watch);
    if (!error)
        error = start(fc_taker);
    if (!error)
        error = start(fc_poker);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return -error;
}

/* In a forked child: no threads, and a lock that may be held by one that is not here. */
void fc_watch_forked(void)
{
    pthread_mutex_init(&lock, NULL);
    ends = NULL;
    count = 0;
    if (kick_fd >= 0)
        close(kick_fd);
    kick_fd = -1;
    fc_taker_forked();
}
