/* endpoint.h: one side of a packet window, and everything the C core offers to Python.
 *
 * Who may call what. Every function takes the endpoint for itself while it runs (fc_enter; a second thread
 * gets FC_ERR_BUSY), except fc_shutdown and fc_condemn, which any thread may call at any time until fc_close.
 * Nothing here touches Python: cffi releases the GIL around each call.
 *
 * What the peer can do. It shares the window and may write any byte of it at any moment. So each word is read
 * once, into a local, and checked; no length, offset or state is read twice; and no wait depends on the peer
 * writing anything sensible (fc_wait gives up at the deadline, and looks at the peer's life every slice).
 */
#ifndef FLIPCALL_ENDPOINT_H
#define FLIPCALL_ENDPOINT_H

#include <stdatomic.h>
#include <stdbool.h>

#include "flipcall.h"

struct fc_endpoint;

/* A switch: how a side sleeps until it is its turn, and wakes the other. Called by the thread inside, except
 * close. One file each: switch_futex.c, ... Times are absolute, CLOCK_MONOTONIC ns. Sleeping may end early for
 * any reason: the caller looks at conn_state, and again. Results: 0 or a negative errno; -ETIMEDOUT when the
 * time has come, -EINTR after a signal, -EPIPE when the peer has hung up.
 */
struct fc_switch {
    const char *name;
    int (*park)(struct fc_endpoint *ep, int64_t until); /* sleep while conn_state is `theirs` */
    int (*wake)(struct fc_endpoint *ep);                /* wake the peer */
    int (*swap)(struct fc_endpoint *ep, int64_t until); /* wake the peer and park, in one step; NULL: cannot */
    void (*close)(struct fc_endpoint *ep);              /* wake both sides; conn_state says why. Any thread */
    bool items_by_futex; /* who waits for items sleeps by futex, too (items.c); else only a flip wakes it */
};

extern const struct fc_switch fc_switch_futex, fc_switch_swap, fc_switch_notify;

enum fc_switch_id {
    FC_SWITCH_FUTEX = 0,
    FC_SWITCH_SWAP = 1,
    FC_SWITCH_NOTIFY = 2
};

/* Where FUTEX_SWAP's number may lie: above the operations of Linux 5.13 (futex(2)), below the flags. */
#define FC_SWAP_MIN 13u
#define FC_SWAP_MAX 127u

/* Results: 0 or a count is success, these are not. The endpoint's turn says what state it is in afterwards. */
enum fc_result {
    FC_OK = 0,
    FC_TICK = -1,         /* a slice passed or a signal came: look after signals, then fc_resume */
    FC_ERR_TIMEOUT = -2,  /* the deadline passed; control is still the peer's */
    FC_ERR_SHUTDOWN = -3, /* this side or the peer shut the connection down */
    FC_ERR_DIED = -4,     /* the peer's process is gone */
    FC_ERR_PROTOCOL = -5, /* the peer broke the protocol: fault and fault_value say how */
    FC_ERR_BUSY = -6,     /* another thread is inside */
    FC_ERR_TURN = -7,     /* misuse: not this side's turn, or not connected */
    FC_ERR_SIZE = -8,     /* misuse: does not fit the window */
    FC_ERR_FORKED = -9,   /* misuse: inherited over fork */
    FC_ERR_OS = -10,      /* a system call failed: fault_value is its errno */
    FC_ERR_USED = -11,    /* this window has been connected before */
    FC_ARMED = -12,       /* by doorbell: the peer will ring; then go on as after FC_TICK */
    FC_ASLEEP = -13       /* nothing was done, because the peer sleeps: fc_ask, fc_answer */
};

/* Whose turn it is, as far as this side knows. Only the thread inside reads or writes it. */
enum fc_turn {
    FC_TURN_NEW = 0,    /* not connected */
    FC_TURN_MINE = 1,   /* this side is active */
    FC_TURN_THEIRS = 2, /* given away, not yet back: fc_resume waits on */
    FC_TURN_LAST = 3,   /* given away for good (fc_send_last) */
    FC_TURN_OVER = 4    /* shut down, died or broken */
};

enum fc_fault {
    FC_FAULT_NONE = 0,
    FC_FAULT_STATE,    /* conn_state held fault_value */
    FC_FAULT_LENGTH,   /* data_len was fault_value, beyond the window */
    FC_FAULT_SHORT,    /* a frame of fault_value bytes */
    FC_FAULT_KIND,     /* frame kind fault_value */
    FC_FAULT_FLAGS,    /* frame flags fault_value */
    FC_FAULT_BODY,     /* body_len fault_value beyond the datagram */
    FC_FAULT_PADDING,  /* bytes after the body end before an attachment could start */
    FC_FAULT_CALL_ID,  /* answer to call fault_value, which was not asked */
    FC_FAULT_RESERVED, /* a reserved field held fault_value */
    FC_FAULT_PART,     /* a part of fault_value bytes: none, or more than were announced */
    FC_FAULT_ITEMS,    /* published went to fault_value */
    FC_FAULT_SYSCALL,  /* FC_ERR_OS: errno fault_value */
    FC_FAULT_UNSENT    /* FC_ERR_SHUTDOWN, before the call was given: it has not been executed, nor will it be */
};

#define FC_NO_DEADLINE INT64_MAX
#define FC_SLICE_NS 50000000ll /* how long a wait stays in the kernel before it looks at the peer's life */
#define FC_LIFE_FDS 2          /* a pidfd and a socket */

struct fc_policy {
    int64_t spin_ns;  /* longest spin of one wait, 0 for none; what exceeds a slice is spun in several */
    uint32_t adaptive; /* spin only while spinning has been paying */
    uint32_t yields;  /* sched_yield calls before parking, where the peer is on this CPU */
};

struct fc_stats {
    uint64_t flips;         /* control given away */
    uint64_t spins_paid;    /* waits answered before they went on to yield or park */
    uint64_t spins_lost;    /* waits that spun in vain */
    uint64_t parks;         /* sleeps in the kernel, and waits left to the event loop */
    uint64_t swaps;         /* of these sleeps, how many woke the peer in the same step */
    uint64_t wakes;         /* wakes issued, swaps not counted */
    uint64_t wakes_skipped; /* wakes not needed: the peer was awake */
    uint64_t rescues;       /* turns found only when a slice ran out: a wake was lost. With an honest peer 0, but for an
                               answer given while the sleeper, its slice over, was on its way out of the kernel */
};

/* The frame received last, checked and copied out of the peer's reach. Offsets are from the start of the window. */
struct fc_frame_in {
    uint32_t kind, flags;
    uint32_t call_id;
    uint32_t timeout_us;
    uint32_t body_off, body_len;
    uint32_t attach_off, attach_len;
    uint32_t code;
    uint32_t items_off, items_len, items_count; /* of a stream: what came with it and had not been taken before */
    uint64_t whole_body, whole_attach;          /* FC_FLAG_SPLIT */
    int64_t arrived_ns; /* CLOCK_MONOTONIC; requests with a timeout only */
};

/* The call under way on this channel. */
enum fc_call_state {
    FC_CALL_NONE = 0,
    FC_CALL_PLAIN = 1,
    FC_CALL_STREAM = 2
};

/* A message on its way out in parts (split.c). The bytes are the caller's, and stay until it is done. */
struct fc_outgoing {
    const char *body, *attach;
    uint64_t body_len, attach_len;
    uint64_t at, end; /* equal: there is none */
    bool reply;
};

/* A message on its way in, in parts. */
struct fc_incoming {
    uint64_t at, end;  /* equal: there is none */
    uint64_t body_len;
    uint32_t part_len; /* bytes of the part that is in the window now */
    uint32_t kind;     /* of the whole */
};

/* Items published in this call, as struct fc_stream counts them (items.c). */
struct fc_flow {
    uint64_t mine, theirs;          /* published by this side; taken of the peer's */
    uint32_t my_start, their_start; /* their bytes when that side's turn began: what lies at FC_STREAM_START */
    bool watch;                     /* the wait under way ends at new items, too */
};

/* What the calls of one method were like (meter.c). One writer: the thread that serves; readers may see it a little late. */
#define FC_METER_BUCKETS 117
struct fc_meter {
    uint64_t calls, errors;      /* errors: answered with a status other than OK */
    uint64_t bytes_in, bytes_out; /* datagrams: headers, bodies, attachments */
    uint64_t total_ns;
    uint64_t buckets[FC_METER_BUCKETS]; /* by the time from a request's coming to its answer's going: fc_meter_bucket */
};

/* The call that is being metered. methods: by number, made when first called; NULL: nothing is metered. */
struct fc_metering {
    struct fc_meter **methods;
    uint32_t count, method;
    int64_t since;
    uint64_t in, out; /* bytes of the call under way */
};

/* What a side has learned about its peer's pace and place (adapt.c). */
struct fc_adapt {
    int64_t answer_ns;   /* weighted mean of the peer's answer times */
    uint32_t paid;       /* weighted share of spins that paid, of FC_PAID_ALL */
    uint32_t unspun;     /* waits since the last spin, while PARKING */
    uint64_t taken_in;   /* how many of stats.spins_paid the two means know of */
    uint32_t cpu;        /* what this side has published as its CPU */
    bool together;       /* the peer was on this CPU when last looked */
    uint32_t rest;       /* waits until yielding is tried again */
    uint32_t next_rest;  /* how long the next rest will be, 0 for the shortest */
    uint32_t good_yields; /* in a row */
    uint32_t tries;       /* waits since the peer was last here, while following */
    uint32_t follow_rest; /* waits until following is tried again */
};

struct fc_endpoint {
    /* fixed at creation */
    struct fc_packet *packet;
    uint32_t cap; /* bytes of the datagram */
    uint32_t mine, theirs;
    uint32_t my_bit, their_bit;
    uint32_t my_end, their_end; /* conn_state when it was shut down with the turn mine, theirs */
    uint32_t generation;
    int32_t life_fd[FC_LIFE_FDS]; /* -1 for none */
    int64_t slice_ns;
    struct fc_policy policy;
    const struct fc_switch *_Atomic how; /* fixed once connected */
    uint32_t follow;                     /* both sides agreed on placement same-cpu; fixed once connected */
    struct fc_notify_end *notify;        /* with the notify switch (notify.h), else NULL */
    uint32_t my_bell, their_bell;        /* bits; 0 where doorbells were not agreed on; fixed once connected */
    int32_t bell_fd;                     /* the socket this side rings on */
    uint32_t by_bell;                    /* this side waits by its doorbell; fixed once the first call is made */

    /* the thread inside */
    uint32_t turn;
    uint32_t owed;           /* the peer sleeps and has not been woken yet: park will swap */
    uint32_t trust_sleepers; /* both sides negotiated "sleepers" */
    uint32_t armed;          /* my_bit is set, for the doorbell */
    uint32_t brief;          /* the next wait that outlasts its burst does not spin */
    uint32_t fault;
    int64_t fault_value;
    int64_t deadline;        /* of the wait under way, absolute */
    int64_t copying;         /* ns: what copying the datagram given last takes the peer, roughly */
    int64_t since;           /* when the wait under way began, over all its slices; 0 before it asked the clock */
    int64_t life_due;        /* of that wait: when to look at the peer's life next */
    uint32_t timeout_us;     /* not yet turned into a deadline, or FC_TIMEOUT_NONE */
    uint32_t call_id;
    struct fc_frame_in received;
    uint32_t call; /* enum fc_call_state, written by fc_set_call: other threads may look (fc_retire) */
    struct fc_outgoing out;
    struct fc_incoming in;
    struct fc_flow flow;
    uint32_t burst;          /* looks at the word before the first look at the clock */
    struct fc_adapt adapt;
    struct fc_stats stats;
    struct fc_metering metering;

    /* any thread */
    _Atomic uint32_t busy;
    _Atomic uint32_t sealed; /* fc_seal succeeded: busy for ever */
    _Atomic uint32_t draining; /* this answer is the last one */
    _Atomic uint32_t retiring; /* so many threads are between finding no call and ending the connection */
    _Atomic uint32_t stop; /* 0, or the result every wait must end with, as a positive number */
    _Atomic uint32_t hung_up; /* the peer has closed the socket it rings on, or its process has ended */
};

/* life of an endpoint (endpoint.c) */
int fc_init(struct fc_endpoint *ep, void *window, uint32_t length, uint32_t side, struct fc_policy policy);
int fc_enter(struct fc_endpoint *ep);
void fc_leave(struct fc_endpoint *ep);

static inline void fc_set_call(struct fc_endpoint *ep, uint32_t call)
{
    __atomic_store_n(&ep->call, call, __ATOMIC_RELAXED); /* what order it needs is fc_still_busy's */
}

void fc_shutdown(struct fc_endpoint *ep);
void fc_condemn(struct fc_endpoint *ep);
int fc_retire(struct fc_endpoint *ep);
void fc_still_busy(struct fc_endpoint *ep);
void fc_drain(struct fc_endpoint *ep);
int fc_ended(const struct fc_endpoint *ep);
int fc_seal(struct fc_endpoint *ep);
int fc_break(struct fc_endpoint *ep, enum fc_result result, enum fc_fault what, int64_t value);
void fc_forked(void);
int fc_use_switch(struct fc_endpoint *ep, uint32_t id);

/* flipping (flip.c); deadlines are absolute CLOCK_MONOTONIC ns, FC_NO_DEADLINE for none */
int64_t fc_send_recv(struct fc_endpoint *ep, uint32_t len, int64_t deadline);
int64_t fc_resume(struct fc_endpoint *ep, int64_t deadline);
int64_t fc_first(struct fc_endpoint *ep, int64_t deadline);
int fc_send(struct fc_endpoint *ep, uint32_t len);
int fc_send_last(struct fc_endpoint *ep, uint32_t len);
int64_t fc_connect(struct fc_endpoint *ep, uint32_t len, int64_t deadline);

/* calls (call.c). What a verb sends is told in one number: code (16 bits), flags (8), kind (8), timeout_us (32), and
 * what came is answered in one: body_len (32), code (16), then what a plain REQUEST or REPLY does not have. */
#define FC_WHAT_FLAGS_SHIFT 16
#define FC_WHAT_KIND_SHIFT 24
#define FC_CALL_TIMEOUT_SHIFT 32
#define FC_FRAME_CODE_SHIFT 32
#define FC_FRAME_ATTACHED (1ll << 48)
#define FC_FRAME_FLAGS_SHIFT 49 /* FC_FLAG_... of what came, 4 bits */
#define FC_FRAME_EARLY (1ll << 53) /* items taken while the peer is active still */
#define FC_FRAME_KIND_SHIFT 56  /* of what is neither REQUEST nor REPLY */
int64_t fc_call(struct fc_endpoint *ep, uint64_t what, const char *body, uint32_t body_len);
int64_t fc_call_attached(struct fc_endpoint *ep, uint64_t what, const char *body, uint32_t body_len,
                         const char *attach, uint32_t attach_len);
int64_t fc_call_resume(struct fc_endpoint *ep);
int64_t fc_request(struct fc_endpoint *ep);
int64_t fc_ask(struct fc_endpoint *ep, uint64_t what, const char *body, uint32_t body_len);
int64_t fc_answer(struct fc_endpoint *ep, uint64_t status, const char *body, uint32_t body_len);
int64_t fc_reply_request(struct fc_endpoint *ep, uint64_t status, const char *body, uint32_t body_len);
int64_t fc_reply_request_attached(struct fc_endpoint *ep, uint64_t status, const char *body, uint32_t body_len,
                                  const char *attach, uint32_t attach_len);
int64_t fc_exchange(struct fc_endpoint *ep, uint64_t what, const char *body, uint32_t body_len);
int fc_hand(struct fc_endpoint *ep, uint64_t what);

/* giving a call up (cancel.c) */
void fc_cancel(struct fc_endpoint *ep);
int fc_cancelled(struct fc_endpoint *ep);
int fc_reclaim(struct fc_endpoint *ep);

/* frames (frame.c); but for the first two only for the thread inside, and so fc_give_kind (call.c) */
uint32_t fc_attach_offset(uint32_t body_len);
int64_t fc_glance(struct fc_endpoint *ep);
int64_t fc_put_frame(struct fc_endpoint *ep, struct fc_frame frame, const char *body, const char *attach, uint32_t attach_len);
int64_t fc_get_frame(struct fc_endpoint *ep);
int64_t fc_wait_frame(struct fc_endpoint *ep);
int fc_give_kind(struct fc_endpoint *ep, uint8_t kind, uint16_t code, bool then_wait);

/* messages that do not fit the window (split.c) */
int64_t fc_call_split(struct fc_endpoint *ep, uint64_t what, const char *body, uint64_t body_len,
                      const char *attach, uint64_t attach_len);
int64_t fc_reply_split(struct fc_endpoint *ep, uint32_t status, const char *body, uint64_t body_len,
                       const char *attach, uint64_t attach_len);
int64_t fc_items_split(struct fc_endpoint *ep, const char *item, uint64_t len);
int64_t fc_gather(struct fc_endpoint *ep, char *body, uint64_t body_len, char *attach, uint64_t attach_len);
int64_t fc_send_on(struct fc_endpoint *ep, int64_t came);
bool fc_split_ends(const struct fc_endpoint *ep);
int64_t fc_split_came(struct fc_endpoint *ep, uint32_t len);

/* items of a stream (items.c) */
enum fc_published {
    FC_PUBLISHED = 0,
    FC_STOPPED = 1, /* nobody wants any more, this one included */
    FC_FULL = 2,    /* it does not fit behind the others: give control away, then again */
    FC_FLIP = 3     /* it is there, and only giving control away wakes the peer */
};
int fc_publish(struct fc_endpoint *ep, const char *item, uint32_t len);
int fc_publish_bulk(struct fc_endpoint *ep, const char *data, uint32_t len);
int64_t fc_take(struct fc_endpoint *ep);
void fc_flow_begin(struct fc_endpoint *ep);
void fc_flow_open(struct fc_endpoint *ep);
void fc_flow_turn(struct fc_endpoint *ep);
uint32_t fc_flow_end(const struct fc_endpoint *ep);
int fc_flow_account(struct fc_endpoint *ep, uint64_t published);
uint64_t fc_flow_seen(const struct fc_endpoint *ep);
int fc_flow_park(struct fc_endpoint *ep, int64_t until);

/* metering (meter.c) */
uint32_t fc_meter_bucket(uint64_t ns);
void fc_meter_add(struct fc_meter **methods, uint32_t count, uint32_t method, bool error, uint64_t in, uint64_t out,
                  int64_t took_ns);
void fc_meter_free(struct fc_meter **methods, uint32_t count);
void fc_metered(struct fc_endpoint *ep, uint32_t status);

/* waiting (wait.c) */
int fc_give(struct fc_endpoint *ep, uint32_t len, bool then_wait);
bool fc_awake(const struct fc_endpoint *ep);
int fc_look(struct fc_endpoint *ep);
int fc_wait(struct fc_endpoint *ep);
#define FC_NEWS (-100) /* fc_wait, within the core: no turn, but new items (flow.watch) */
int fc_turned(struct fc_endpoint *ep, uint32_t seen);
void fc_no_spinners(void);
int fc_died(struct fc_endpoint *ep);
void fc_set_spinner_limit(uint32_t limit);

/* waiting in an event loop (doorbell.c; the waiter's half in wait.c) */
int fc_use_doorbell(struct fc_endpoint *ep, int fd);
int fc_wait_by_doorbell(struct fc_endpoint *ep);
void fc_hung_up(struct fc_endpoint *ep);
int fc_ring(struct fc_endpoint *ep);
void fc_ring_always(struct fc_endpoint *ep);
bool fc_arm(struct fc_endpoint *ep);
void fc_disarm(struct fc_endpoint *ep);

/* adapting (adapt.c) */
#define FC_BURST 64 /* looks at the word before the first look at the clock: about a microsecond */
#define FC_COPIED_PER_NS 8 /* bytes, by a core that reads what another has written */
#define FC_PROBE 32 /* while PARKING, one wait in so many spins */
void fc_adapt_init(struct fc_endpoint *ep);
void fc_place(struct fc_endpoint *ep);
bool fc_will_spin(const struct fc_endpoint *ep);
int64_t fc_spin_budget(struct fc_endpoint *ep, int64_t waited);
void fc_spin_lost(struct fc_endpoint *ep);
uint32_t fc_yields(struct fc_endpoint *ep);
void fc_yielded(struct fc_endpoint *ep, int64_t took);
void fc_learn(struct fc_endpoint *ep, int64_t took, bool spun);

/* placement same-cpu (follow.c) */
void fc_use_same_cpu(struct fc_endpoint *ep);
void fc_follow(struct fc_endpoint *ep);
void fc_unpin(void);
void fc_unpin_forked(void);

/* the kernel (switch_futex.c) */
int fc_futex_wait(_Atomic uint32_t *word, uint32_t value, int64_t until_ns);
int fc_futex_wait_two(_Atomic uint32_t *word, uint32_t value, _Atomic uint32_t *other, uint32_t other_value,
                      int64_t until_ns);
int fc_futex_wake(_Atomic uint32_t *word, int count);

/* FUTEX_SWAP's number in this kernel, for the whole process; until it is told, the swap fails (switch_swap.c) */
int fc_set_swap(uint32_t number);

/* the notify switch (notify.h) */
void fc_notify_forked(void);

/* the peer's life (life.c): nonzero when one of the descriptors says it is gone */
int fc_peer_gone(const struct fc_endpoint *ep);

int64_t fc_now(void);

/* The window's words as atomics: the layout is the same (asserted in endpoint.c). */
static inline _Atomic uint32_t *fc_word(uint32_t *word)
{
    return (_Atomic uint32_t *)word;
}

/* Has the peer published items that this wait is for? Sequentially consistent: see items.c. */
static inline bool fc_flow_news(const struct fc_endpoint *ep)
{
    return ep->flow.watch && fc_flow_seen(ep) != ep->flow.theirs;
}

/* Says conn_state `seen` that the connection is over? */
static inline bool fc_is_over(uint32_t seen)
{
    return seen >= FC_SHUTDOWN && seen <= FC_SHUTDOWN_SERVER_TURN;
}

/* The switch. Relaxed, because what it points to is constant; endpoint.c, fc_use_switch, says what does need order. */
static inline const struct fc_switch *fc_how(struct fc_endpoint *ep)
{
    return atomic_load_explicit(&ep->how, memory_order_relaxed);
}

/* Statistics have one writer; readers in other threads may see them a little late. */
#define FC_COUNT(ep, what) \
    __atomic_store_n(&(ep)->stats.what, __atomic_load_n(&(ep)->stats.what, __ATOMIC_RELAXED) + 1, __ATOMIC_RELAXED)

#endif
