"""How the C core reaches Python: a cffi API-mode module, flipcall._core.

Constants are declared `#define X ...`, so the compiler reads their values from the headers.
"""

import re
import sys
import sysconfig
from pathlib import Path

from cffi import FFI

ROOT = Path(__file__).resolve().parents[2]
SOURCES = [
    "endpoint.c",
    "switch_futex.c",
    "switch_swap.c",
    "switch_notify.c",
    "notify_server.c",
    "notify_filter.c",
    "notify_watch.c",
    "notify_taker.c",
    "life.c",
    "wait.c",
    "doorbell.c",
    "adapt.c",
    "follow.c",
    "flip.c",
    "frame.c",
    "call.c",
    "cancel.c",
    "split.c",
    "items.c",
    "meter.c",
]
HEADERS = [
    "flipcall/core/cpu.h", "flipcall/core/endpoint.h", "flipcall/core/notify.h", "flipcall/core/seccomp_abi.h",
    "proto/flipcall.h",
]  # fmt: skip

# Every object-like macro and enumerator of the headers that Python sees whole.
_CONSTANT = re.compile(
    r"^(?:#define +(FC_[A-Z0-9_]+) +\S|    (FC_[A-Z0-9_]+)(?: = -?\d+)?,?(?: |$))", re.MULTILINE
)
OFFERED = [name for name in HEADERS if not name.endswith(("cpu.h", "seccomp_abi.h"))]
CONSTANTS = sorted({a or b for name in OFFERED for a, b in _CONSTANT.findall((ROOT / name).read_text())})

CDEF = """
struct fc_packet { uint32_t conn_state, data_len, sleepers, cancel; };
struct fc_policy { int64_t spin_ns; uint32_t adaptive; uint32_t yields; };
struct fc_meter { uint64_t calls, errors, bytes_in, bytes_out, total_ns; uint64_t buckets[...]; };
struct fc_metering { struct fc_meter **methods; uint32_t count; ...; };
struct fc_stats { uint64_t flips, spins_paid, spins_lost, parks, swaps, wakes, wakes_skipped, rescues; };
struct fc_frame_in {
    uint32_t kind, flags, call_id, timeout_us, body_off, body_len, attach_off, attach_len, code;
    uint32_t items_off, items_len, items_count; uint64_t whole_body, whole_attach; int64_t arrived_ns; ...;
};
struct fc_endpoint {
    uint32_t cap; int32_t life_fd[2]; int64_t slice_ns; struct fc_policy policy;
    uint32_t turn, trust_sleepers, brief, fault, call_id; int64_t fault_value, deadline, since;
    struct fc_frame_in received; uint32_t call; struct fc_stats stats; struct fc_metering metering; ...;
};
int fc_init(struct fc_endpoint *ep, void *window, uint32_t length, uint32_t side, struct fc_policy policy);
void fc_shutdown(struct fc_endpoint *ep);
void fc_condemn(struct fc_endpoint *ep);
int fc_retire(struct fc_endpoint *ep);
void fc_drain(struct fc_endpoint *ep);
int fc_ended(struct fc_endpoint *ep);
int fc_seal(struct fc_endpoint *ep);
void fc_forked(void);
int fc_use_switch(struct fc_endpoint *ep, uint32_t id);
int fc_use_doorbell(struct fc_endpoint *ep, int fd);
int fc_wait_by_doorbell(struct fc_endpoint *ep);
void fc_hung_up(struct fc_endpoint *ep);
int fc_set_swap(uint32_t number);
int64_t fc_send_recv(struct fc_endpoint *ep, uint32_t len, int64_t deadline);
int64_t fc_resume(struct fc_endpoint *ep, int64_t deadline);
int64_t fc_first(struct fc_endpoint *ep, int64_t deadline);
int64_t fc_connect(struct fc_endpoint *ep, uint32_t len, int64_t deadline);
int fc_send(struct fc_endpoint *ep, uint32_t len);
int fc_send_last(struct fc_endpoint *ep, uint32_t len);
int fc_reclaim(struct fc_endpoint *ep);
int64_t fc_call(struct fc_endpoint *ep, uint64_t what, const char *body, uint32_t body_len);
int64_t fc_call_attached(struct fc_endpoint *ep, uint64_t what, const char *body, uint32_t body_len,
                         const char *attach, uint32_t attach_len);
int64_t fc_call_resume(struct fc_endpoint *ep);
int64_t fc_request(struct fc_endpoint *ep);
int64_t fc_ask(struct fc_endpoint *ep, uint64_t what, const char *body, uint32_t body_len);
int64_t fc_answer(struct fc_endpoint *ep, uint64_t status, const char *body, uint32_t body_len);
int64_t fc_glance(struct fc_endpoint *ep);
int64_t fc_reply_request(struct fc_endpoint *ep, uint64_t status, const char *body, uint32_t body_len);
int64_t fc_reply_request_attached(struct fc_endpoint *ep, uint64_t status, const char *body, uint32_t body_len,
                                  const char *attach, uint32_t attach_len);
int64_t fc_exchange(struct fc_endpoint *ep, uint64_t what, const char *body, uint32_t body_len);
int fc_hand(struct fc_endpoint *ep, uint64_t what);
int64_t fc_call_split(struct fc_endpoint *ep, uint64_t what, const char *body, uint64_t body_len,
                      const char *attach, uint64_t attach_len);
int64_t fc_reply_split(struct fc_endpoint *ep, uint32_t status, const char *body, uint64_t body_len,
                       const char *attach, uint64_t attach_len);
int64_t fc_items_split(struct fc_endpoint *ep, const char *item, uint64_t len);
int64_t fc_gather(struct fc_endpoint *ep, char *body, uint64_t body_len, char *attach, uint64_t attach_len);
int fc_publish(struct fc_endpoint *ep, const char *item, uint32_t len);
int fc_publish_bulk(struct fc_endpoint *ep, const char *data, uint32_t len);
int64_t fc_take(struct fc_endpoint *ep);
void fc_cancel(struct fc_endpoint *ep);
int fc_cancelled(struct fc_endpoint *ep);
uint32_t fc_attach_offset(uint32_t body_len);
void fc_set_spinner_limit(uint32_t limit);
void fc_use_same_cpu(struct fc_endpoint *ep);
void fc_unpin(void);
int fc_futex_wake(void *word, int count);
int64_t fc_now(void);
uint32_t fc_meter_bucket(uint64_t ns);
void fc_meter_add(struct fc_meter **methods, uint32_t count, uint32_t method, bool error,
                  uint64_t in, uint64_t out, int64_t took_ns);
void fc_meter_free(struct fc_meter **methods, uint32_t count);
struct fc_listener { int32_t fd; ...; };
struct fc_notify_end { uint32_t gone; ...; };
int fc_notify_install(void);
int fc_listener_init(struct fc_listener *listener, int fd, int baton);
int fc_notify_client(struct fc_endpoint *ep, struct fc_notify_end *end, int bell, uint32_t index);
int fc_notify_server(struct fc_endpoint *ep, struct fc_notify_end *end, struct fc_listener *listener, int bell,
                     uint32_t index);
void fc_notify_leave(struct fc_endpoint *ep);
long fc_notify_trap(uint32_t index);
"""

abi3 = sys.implementation.name == "cpython" and not sysconfig.get_config_var("Py_GIL_DISABLED")

ffi = FFI()
ffi.cdef("".join(f"#define {name} ...\n" for name in CONSTANTS) + CDEF)
ffi.set_source(
    "flipcall._core",
    '#include "notify.h"',
    sources=[f"flipcall/core/{name}" for name in SOURCES],
    depends=HEADERS,
    include_dirs=[str(ROOT / "proto"), str(ROOT / "flipcall" / "core")],
    extra_compile_args=["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Wno-unused-parameter", "-pthread"],
    extra_link_args=["-pthread"],
    py_limited_api=abi3,
)
