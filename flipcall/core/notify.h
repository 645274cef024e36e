/* notify.h: what the files of the notify switch share. The theory is at the head of switch_notify.c.
 *
 *   switch_notify.c   park, wake, swap and close; the client's half of them
 *   notify_server.c   the server's half: who waits on the listener
 *   notify_filter.c   the client process: the filter, its listener, who is covered
 *   notify_watch.c    the client process: the thread that ends trapped calls in time
 *   notify_taker.c    the client process: the thread that receives, where the watch must not block, and its poke
 */
#ifndef FLIPCALL_NOTIFY_H
#define FLIPCALL_NOTIFY_H

#include "endpoint.h"

#define FC_NOTIFY_INDEX_NONE 0xffffffffu /* the trapped calls of notify_taker.c; no channel has this index */

/* The server process's end of one client's listener; shared by all channels from that client process. */
#define FC_LISTENER_MAX 256u
struct fc_listener {
    int32_t fd;
    int32_t baton;              /* eventfd of this process alone: leader, see who leads now; -1 for none */
    _Atomic uint32_t members;   /* channels that may use it */
    _Atomic uint32_t receiving; /* a thread is about to receive, and nobody else may */
    _Atomic uint32_t leader;    /* the member whose thread waits on the listener, + 1; 0 for none */
    struct {
        _Atomic uint32_t used;    /* a channel has this place */
        _Atomic uint32_t waiting; /* its thread is in poll(), or about to be */
        _Atomic uint32_t parks;   /* how often it has led */
    } member[FC_LISTENER_MAX];
};

/* The watch ended a trapped call whose time was over; or that should have been answered before (a rescue). */
enum { FC_ENDED_IN_TIME = 1, FC_ENDED_TOO_LATE };

/* One endpoint's part in the switch. */
struct fc_notify_end {
    /* fixed once the endpoint uses it */
    struct fc_endpoint *ep;
    struct fc_listener *listener; /* server only */
    uint32_t place;               /* server only: in listener->member */
    int32_t bell;                 /* this side's end of a SOCK_SEQPACKET pair: rings, and hangs up at death */
    uint32_t index;               /* of the channel, in its client process */

    /* the server's thread inside */
    uint64_t id;          /* of the notification received and not yet answered */
    uint32_t holding;     /* there is one */
    uint32_t patience;    /* parks without the lead while the leader stayed idle */
    uint32_t leader_was;  /* who led at the last of them, */
    uint32_t parks_was;   /* and how often it had */

    /* the client's thread inside, and the watch */
    uint32_t futex_only;    /* this filter does not reach the watch: something stands between */
    _Atomic int64_t until;  /* the watch ends the trapped call then; 0 when not trapped */
    _Atomic uint64_t trap;  /* number of the trapped call, as this process counts them */
    _Atomic uint32_t ended; /* by the watch: FC_ENDED_* */
    _Atomic uint32_t gone;  /* the peer's end of the bell has hung up */

    /* the watch, under its lock */
    struct fc_notify_end *next;
    uint32_t tries;         /* looks in vain for the notification of the trapped call */
    int64_t first_try;
    bool turned;            /* it was this side's turn at the last of them */
};

/* The client process: one filter, one listener. notify_filter.c owns it. */
struct fc_notify_process {
    int listener;
    uint64_t cookie;
    _Atomic uint64_t traps; /* trapped calls begun by this process */
    uint64_t base;          /* number of a notification minus number of its call; the watch corrects it */
};
extern struct fc_notify_process fc_notify;

extern const struct fc_switch fc_switch_notify;

/* The trapped call. 0 or whatever the answer was; -EINTR, -ENOSYS, ... */
long fc_notify_trap(uint32_t index);
/* Is the calling thread under this process's filter? */
bool fc_notify_covered(void);

/* One receive and its answer. The caller sees to it that nobody else receives at the same time. */
struct fc_note {
    uint64_t id, cookie;
    uint32_t index;
};
int fc_notify_recv(int listener, struct fc_note *note); /* 0, -ENOENT: its thread has left, ... */
int fc_notify_send(int listener, uint64_t id);          /* 0, -ENOENT: its thread has left, -EINPROGRESS */
bool fc_notify_valid(int listener, uint64_t id);        /* received, not answered, and its thread is there */

bool fc_readable(int fd, int timeout_ms);

static inline _Atomic uint32_t *fc_sleepers(struct fc_endpoint *ep)
{
    return fc_word(&ep->packet->sleepers);
}

static inline uint32_t fc_state(struct fc_endpoint *ep)
{
    return atomic_load(fc_word(&ep->packet->conn_state));
}

/* Sleep by futex, and say so: `bit` is this side's FC_NOTIFY bit. */
static inline int fc_notify_by_futex(struct fc_endpoint *ep, uint32_t bit, int64_t until)
{
    atomic_fetch_and(fc_sleepers(ep), ~bit);
    return fc_futex_wait(fc_word(&ep->packet->conn_state), ep->theirs, until);
}

static inline void fc_notify_join(struct fc_endpoint *ep, struct fc_notify_end *end, int bell, uint32_t index, uint32_t bit)
{
    end->ep = ep;
    end->bell = bell;
    end->index = index;
    ep->notify = end;
    ep->my_bit |= bit;
}

/* notify_server.c */
int fc_notify_server_sleep(struct fc_endpoint *ep, int64_t until);
int fc_notify_wake_client(struct fc_endpoint *ep);
void fc_listener_leave(struct fc_notify_end *e);

/* What Python calls (flipcall/notify.py). */
int fc_notify_install(void);
int fc_listener_init(struct fc_listener *listener, int fd, int baton);
int fc_notify_client(struct fc_endpoint *ep, struct fc_notify_end *end, int bell, uint32_t index);
int fc_notify_server(struct fc_endpoint *ep, struct fc_notify_end *end, struct fc_listener *listener, int bell,
                     uint32_t index);
void fc_notify_leave(struct fc_endpoint *ep);

/* notify_watch.c */
int fc_watch_start(void);
void fc_watch_add(struct fc_notify_end *end);
void fc_watch_remove(struct fc_notify_end *end);
void fc_watch_until(struct fc_notify_end *end, int64_t until);
void fc_watch_forked(void);

/* notify_taker.c */
void *fc_taker(void *unused);
bool fc_taker_idle(void);
void fc_taker_ask(void);
void *fc_poker(void *unused);
uint64_t fc_poke_under_way(void); /* number of its trapped call, + 1; 0 for none */
int fc_taker_calibrate(void);
void fc_taker_forked(void);

#endif
