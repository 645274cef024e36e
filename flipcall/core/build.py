"""How the C core reaches Python: a cffi API-mode module, flipcall._core.

Constants are declared `#define X ...`, so the compiler reads their values from proto/flipcall.h.
"""

import sys
import sysconfig
from pathlib import Path

from cffi import FFI

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ["endpoint.c", "futex.c", "life.c", "wait.c", "flip.c", "frame.c"]
HEADERS = ["flipcall/core/cpu.h", "flipcall/core/endpoint.h", "proto/flipcall.h"]

CONSTANTS = """
FC_CLIENT_ACTIVE FC_SERVER_ACTIVE FC_SHUTDOWN FC_SLEEPS_CLIENT FC_SLEEPS_SERVER
FC_PACKET_HEADER FC_WINDOW_MIN FC_WINDOW_MAX FC_WINDOW_DEFAULT
FC_REQUEST FC_REPLY FC_TIMEOUT_NONE FC_FRAME_HEADER FC_ATTACH_ALIGN
FC_PROTOCOL_VERSION FC_HANDSHAKE_MAX FC_METHODS_MAX FC_CONNECT_JSON_MAX
FC_OK FC_TICK FC_ERR_TIMEOUT FC_ERR_SHUTDOWN FC_ERR_DIED FC_ERR_PROTOCOL FC_ERR_BUSY FC_ERR_TURN FC_ERR_SIZE
FC_ERR_FORKED FC_ERR_OS
FC_TURN_NEW FC_TURN_MINE FC_TURN_THEIRS FC_TURN_LAST FC_TURN_OVER
FC_FAULT_NONE FC_FAULT_STATE FC_FAULT_LENGTH FC_FAULT_SHORT FC_FAULT_KIND FC_FAULT_FLAGS FC_FAULT_BODY
FC_FAULT_PADDING FC_FAULT_CALL_ID FC_FAULT_RESERVED FC_FAULT_SYSCALL
FC_NO_DEADLINE FC_SLICE_NS FC_FRAME_CODE_SHIFT FC_FRAME_ATTACHED
""".split()

CDEF = """
struct fc_policy { int64_t spin_ns; uint32_t adaptive; uint32_t yields; };
struct fc_stats { uint64_t flips, spins_paid, spins_lost, parks, wakes, wakes_skipped, rescues; };
struct fc_frame_in {
    uint32_t call_id, timeout_us, body_len, attach_off, attach_len, code; int64_t arrived_ns; ...;
};
struct fc_endpoint {
    uint32_t cap; int32_t life_fd[2]; int64_t slice_ns; struct fc_policy policy; uint32_t turn, trust_sleepers, fault;
    int64_t fault_value; struct fc_frame_in in; struct fc_stats stats; ...;
};
int fc_init(struct fc_endpoint *ep, void *window, uint32_t length, uint32_t side, struct fc_policy policy);
int fc_enter(struct fc_endpoint *ep);
void fc_leave(struct fc_endpoint *ep);
void fc_shutdown(struct fc_endpoint *ep);
void fc_condemn(struct fc_endpoint *ep);
void fc_forked(void);
int64_t fc_send_recv(struct fc_endpoint *ep, uint32_t len, int64_t deadline);
int64_t fc_resume(struct fc_endpoint *ep, int64_t deadline);
int64_t fc_first(struct fc_endpoint *ep, int64_t deadline);
int64_t fc_connect(struct fc_endpoint *ep, uint32_t len, int64_t deadline);
int fc_send(struct fc_endpoint *ep, uint32_t len);
int fc_send_last(struct fc_endpoint *ep, uint32_t len);
int fc_reclaim(struct fc_endpoint *ep);
int64_t fc_call(struct fc_endpoint *ep, uint32_t method, uint32_t timeout_us, const char *body, uint32_t body_len,
                const char *attach, uint32_t attach_len);
int64_t fc_call_resume(struct fc_endpoint *ep);
int64_t fc_request(struct fc_endpoint *ep);
int64_t fc_reply(struct fc_endpoint *ep, uint32_t status, const char *body, uint32_t body_len, const char *attach,
                 uint32_t attach_len);
int64_t fc_reply_request(struct fc_endpoint *ep, uint32_t status, const char *body, uint32_t body_len,
                         const char *attach, uint32_t attach_len);
void fc_cancel(struct fc_endpoint *ep);
int fc_cancelled(struct fc_endpoint *ep);
uint32_t fc_attach_offset(uint32_t body_len);
void fc_set_spinner_limit(uint32_t limit);
int64_t fc_now(void);
"""

abi3 = sys.implementation.name == "cpython" and not sysconfig.get_config_var("Py_GIL_DISABLED")

ffi = FFI()
ffi.cdef("".join(f"#define {name} ...\n" for name in CONSTANTS) + CDEF)
ffi.set_source(
    "flipcall._core",
    '#include "endpoint.h"',
    sources=[f"flipcall/core/{name}" for name in SOURCES],
    depends=HEADERS,
    include_dirs=[str(ROOT / "proto"), str(ROOT / "flipcall" / "core")],
    extra_compile_args=["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Wno-unused-parameter"],
    py_limited_api=abi3,
)
