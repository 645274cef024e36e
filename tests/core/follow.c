/* follow.c: placement same-cpu: who is pinned where, and that every mask is given back exactly. */
#include "check.h"

static cpu_set_t all; /* what this process may use */
static int first, second; /* two CPUs of it; `second` is -1 where there is only one */

static cpu_set_t mask_of(pid_t tid)
{
    cpu_set_t mask;
    CHECK_EQ(sched_getaffinity(tid, sizeof mask, &mask), 0);
    return mask;
}

static bool is(pid_t tid, const cpu_set_t *expected)
{
    cpu_set_t mask = mask_of(tid);
    return CPU_EQUAL(&mask, expected);
}

static cpu_set_t only(int cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    return set;
}

static void set_mask(const cpu_set_t *mask)
{
    CHECK_EQ(sched_setaffinity(0, sizeof *mask, mask), 0);
}

/* The client's thread, or the server's, begins a wait. */
static void wait_begins(struct fc_endpoint *ep)
{
    fc_follow(ep);
    fc_place(ep);
}

static void following(struct pair *p)
{
    pair_connected(p, YIELDING);
    fc_use_same_cpu(&p->client);
    fc_use_same_cpu(&p->server);
}

/* As a client that says it runs on `cpu`. */
static void say_cpu(struct pair *p, uint32_t cpu)
{
    uint32_t rest = word(&p->server.packet->sleepers) & ~(FC_CPU_FIELD << FC_CPU_SHIFT_CLIENT);
    set_word(&p->server.packet->sleepers, rest | (cpu + 1) << FC_CPU_SHIFT_CLIENT);
}

/* The client stays where it is and says so; fc_unpin gives the mask back. */
static void test_client_leads(void)
{
    struct pair p;
    following(&p);
    wait_begins(&p.client);
    cpu_set_t mask = mask_of(0);
    CHECK_EQ(CPU_COUNT(&mask), 1);
    CHECK(CPU_ISSET((int)p.client.adapt.cpu - 1, &mask));
    fc_unpin();
    CHECK(is(0, &all));
    fc_unpin();
    CHECK(is(0, &all));
    pair_close(&p);
}

static void *serve(void *argument)
{
    wait_begins(argument);
    return (void *)(intptr_t)(is(0, &all) ? -1 : sched_getcpu());
}

/* The server goes where the client is, wherever that is, and both know that they are together. */
static void test_server_follows(void)
{
    for (int round = 0; round < 20; round++) {
        struct pair p;
        following(&p);
        cpu_set_t at = only(round % 2 && second >= 0 ? second : first);
        set_mask(&at);
        set_mask(&all);
        wait_begins(&p.client);
        cpu_set_t mask = mask_of(0);
        CHECK_EQ(CPU_COUNT(&mask), 1);
        CHECK_EQ(finish(start(serve, &p.server)), (int)p.client.adapt.cpu - 1);
        CHECK_EQ(p.server.adapt.together, 1);
        wait_begins(&p.client);
        CHECK_EQ(p.client.adapt.together, 1);
        fc_unpin();
        pair_close(&p);
    }
}

/* Any number the peer writes that is not a CPU of this thread's own is not followed, and no wait fails of it. */
static void test_hostile_cpu_numbers(void)
{
    cpu_set_t narrow = only(first);
    struct pair p;
    set_mask(&narrow);
    for (uint32_t cpu = 0; cpu <= FC_CPU_MAX; cpu++) {
        following(&p);
        say_cpu(&p, cpu);
        wait_begins(&p.server);
        CHECK(is(0, &narrow));
        CHECK_EQ(p.server.adapt.follow_rest > 0, cpu != (uint32_t)first);
        fc_unpin();
        CHECK(is(0, &narrow));
        pair_close(&p);
    }
    set_mask(&all);
}

/* A client that moves with every call is left alone, for a long while. */
static void test_peer_that_keeps_moving(void)
{
    struct pair p;
    if (second < 0)
        return;
    following(&p);
    int moves = 0;
    for (int i = 0; i < 900; i++) {
        cpu_set_t before = mask_of(0), now;
        say_cpu(&p, (uint32_t)(i % 2 ? first : second));
        wait_begins(&p.server);
        now = mask_of(0);
        moves += !CPU_EQUAL(&before, &now);
    }
    CHECK(moves <= 9);
    CHECK(is(0, &all));
    pair_close(&p);
}

/* A server that does not come: the client does not stay pinned for it. */
static void test_peer_that_does_not_follow(void)
{
    struct pair p;
    following(&p);
    for (int i = 0; i < 20; i++)
        wait_begins(&p.client);
    CHECK(is(0, &all));
    pair_close(&p);
}

/* A mask set by somebody else meanwhile stays. */
static void test_users_own_change_stays(void)
{
    struct pair p;
    if (second < 0)
        return;
    following(&p);
    wait_begins(&p.client);
    cpu_set_t theirs = only((int)p.client.adapt.cpu - 1 == first ? second : first);
    set_mask(&theirs);
    fc_unpin();
    CHECK(is(0, &theirs));
    set_mask(&all);
    pair_close(&p);
}

/* A thread that pins itself, says so, and does nothing more until it is told. */
struct idler {
    struct pair pair;
    _Atomic pid_t tid;
    _Atomic bool done;
};

static void *idle(void *argument)
{
    struct idler *it = argument;
    wait_begins(&it->pair.client);
    cpu_set_t mask = mask_of(0);
    CHECK_EQ(CPU_COUNT(&mask), 1);
    atomic_store(&it->tid, (pid_t)syscall(SYS_gettid));
    while (!atomic_load(&it->done))
        usleep(1000);
    return NULL;
}

/* The keeper gives back what a thread that waits no more still has; one that ends pinned is forgotten. */
static void test_keeper_gives_back(void)
{
    enum { THREADS = 8 };
    static struct idler idlers[THREADS];
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) {
        following(&idlers[i].pair);
        threads[i] = start(idle, &idlers[i]);
    }
    for (int i = 0; i < THREADS; i++) {
        pid_t tid;
        while (!(tid = atomic_load(&idlers[i].tid)))
            usleep(1000);
        if (i % 2)
            while (!is(tid, &all)) /* alarm() bounds it */
                usleep(1000);
        atomic_store(&idlers[i].done, true);
        finish(threads[i]);
        pair_close(&idlers[i].pair);
    }
}

/* A wait that goes on and on, slice by slice, is an idle channel: the CPU is given back while it waits. */
static void test_idle_wait_gives_back(void)
{
    struct pair p;
    following(&p);
    p.client.slice_ns = MS;
    int64_t result = fc_send_recv(&p.client, 0, FC_NO_DEADLINE);
    cpu_set_t mask = mask_of(0);
    CHECK_EQ(CPU_COUNT(&mask), 1);
    while (!is(0, &all)) {
        CHECK_EQ(result, FC_TICK);
        result = fc_resume(&p.client, FC_NO_DEADLINE);
    }
    pair_close(&p);
}

/* Two endpoints of one thread: the mask given back is the one before both. */
static void test_two_endpoints_one_thread(void)
{
    struct pair one, two;
    following(&one);
    following(&two);
    wait_begins(&one.client);
    wait_begins(&two.client);
    CHECK_EQ(one.client.adapt.cpu, two.client.adapt.cpu);
    fc_unpin();
    CHECK(is(0, &all));
    pair_close(&one);
    pair_close(&two);
}

/* A forked child has the mask from before, can follow by itself, and has a keeper of its own. */
static void test_fork(void)
{
    struct pair p;
    following(&p);
    wait_begins(&p.client);
    bool whole = check_child_threads(); /* the keeper is one; the parent's runs already */
    if (!whole)
        SKIPPED("the child's own following: this emulator's forked child cannot start a thread");
    pid_t child = fork();
    if (child == 0) {
        struct pair own;
        fc_forked();
        CHECK(is(0, &all));
        if (!whole)
            _exit(0);
        following(&own);
        wait_begins(&own.client);
        cpu_set_t mask = mask_of(0);
        CHECK_EQ(CPU_COUNT(&mask), 1);
        while (!is(0, &all))
            usleep(1000);
        _exit(0);
    }
    reap(child);
    fc_unpin();
    CHECK(is(0, &all));
    pair_close(&p);
}

int main(void)
{
    all = mask_of(0);
    first = second = -1;
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, &all)) {
            if (first < 0)
                first = cpu;
            else if (second < 0)
                second = cpu;
        }
    if (CPU_COUNT(&all) == 1) {
        printf("  skipped: with one CPU every thread is pinned already\n");
        return 0;
    }
    RUN(test_client_leads);
    RUN(test_server_follows);
    RUN(test_hostile_cpu_numbers);
    RUN(test_peer_that_keeps_moving);
    RUN(test_peer_that_does_not_follow);
    RUN(test_users_own_change_stays);
    RUN(test_keeper_gives_back);
    RUN(test_idle_wait_gives_back);
    RUN(test_two_endpoints_one_thread);
    RUN(test_fork);
    return 0;
}
