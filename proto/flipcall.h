/* flipcall.h: the packet window and the message frame, the only home of these numbers.
 *
 * The window (proto/window.md) is byte-compatible with gVisor's pkg/flipcall; what this project adds lives in
 * the eight bytes gVisor reserves. The message frame is described in proto/rpc.md. C includes this file; Python
 * reads the values from the compiled module (flipcall/core/build.py), so no number is typed twice.
 */
#ifndef FLIPCALL_PROTO_H
#define FLIPCALL_PROTO_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
#error "flipcall.h is C"
#endif

/* ---- the packet window ---------------------------------------------------------------------------------- */

/* conn_state. The client is active when a window is new, so CLIENT_ACTIVE is what zeroed memory says. */
#define FC_CLIENT_ACTIVE 0u
#define FC_SERVER_ACTIVE 1u
#define FC_SHUTDOWN 2u
/* Extension: shut down too, by a side that had given control away before; its datagram is the other one's to take. */
#define FC_SHUTDOWN_CLIENT_TURN 3u /* the client's */
#define FC_SHUTDOWN_SERVER_TURN 4u /* the server's */

/* sleepers: who sleeps in the kernel (each bit written only by its owner). */
#define FC_SLEEPS_CLIENT 0x1u
#define FC_SLEEPS_SERVER 0x2u
/* ... how, with the switch "notify": in a trapped call, on the listener; without these two by futex. */
#define FC_NOTIFY_CLIENT 0x4u
#define FC_NOTIFY_SERVER 0x8u
/* ... or does not sleep at all, but waits in an event loop: with this bit it is woken by its doorbell, a message on the
 * control socket, when its FC_SLEEPS_ bit is set, and without that one, too, when the other gives up a call or ends. */
#define FC_BELL_CLIENT 0x40u
#define FC_BELL_SERVER 0x80u
/* ... and where each side ran when it last looked: its CPU's number + 1, 0 for unknown, written by that side only.
 * A hint: stale at once, and a peer may write anything. CPUs beyond FC_CPU_MAX stay unknown. */
#define FC_CPU_MAX 2046u
#define FC_CPU_FIELD 0x7ffu
#define FC_CPU_SHIFT_CLIENT 10
#define FC_CPU_SHIFT_SERVER 21

struct fc_packet {
    uint32_t conn_state; /* whose turn it is; the futex word */
    uint32_t data_len;   /* bytes of the datagram, written by the side that gives control away */
    uint32_t sleepers;   /* extension: FC_SLEEPS_*, CPUs; meaningless unless both sides negotiated "sleepers" */
    uint32_t cancel;     /* extension: call_id of the call the client no longer waits for, 0 for none */
};

#define FC_RING_BYTES 8u /* a ring of the doorbell: so many bytes, all 0 */

#define FC_PACKET_HEADER 16u
#define FC_WINDOW_MIN 4096u
#define FC_WINDOW_MAX 0x40000000u     /* 1 GiB: lengths stay far from u32 wrap-around */
#define FC_WINDOW_DEFAULT 65536u

_Static_assert(sizeof(struct fc_packet) == FC_PACKET_HEADER, "gVisor: PacketHeaderBytes");
_Static_assert(offsetof(struct fc_packet, conn_state) == 0, "gVisor: the futex word comes first");
_Static_assert(offsetof(struct fc_packet, data_len) == 4, "gVisor: data_len follows it");
_Static_assert(offsetof(struct fc_packet, sleepers) == 8, "extension word one");
_Static_assert(offsetof(struct fc_packet, cancel) == 12, "extension word two");

/* ---- the message frame ---------------------------------------------------------------------------------- */

/* kind */
#define FC_REQUEST 1u /* client: a call */
#define FC_REPLY 2u   /* server: its answer, and the end of it */
#define FC_MORE 3u    /* whoever takes: the next part, or further items, please */
#define FC_PART 4u    /* the next part of a message that was split */
#define FC_ITEMS 5u   /* whoever produces: the window is full of items, or holds the first part of a large one */
#define FC_END 6u     /* client: its stream is over; code 0, or the status it broke off with */
#define FC_CANCEL 7u  /* client: enough of it; a REPLY follows */

/* flags */
#define FC_FLAG_SPLIT 0x1u  /* the first part of a message that does not fit; its lengths are in struct fc_stream */
#define FC_FLAG_STREAM 0x2u /* of a streaming call: the datagram is laid out as struct fc_stream says */
#define FC_FLAG_FDS 0x4u    /* descriptors belong to this message: they came over the control socket before it */
#define FC_FLAG_META 0x8u   /* request: the body is [metadata, the arguments] */
#define FC_FLAGS 0xfu       /* all there are */

#define FC_STATUS_CANCELLED 1u        /* code of a REPLY to a CANCEL; all of them are in rpc.md */
#define FC_TIMEOUT_NONE 0xffffffffu   /* timeout_us: the caller waits for ever */

struct fc_frame {
    uint8_t kind;        /* FC_REQUEST, ... */
    uint8_t flags;       /* FC_FLAG_... */
    uint16_t code;       /* request: method number; reply: status code, 0 for OK */
    uint32_t call_id;    /* chosen by the client, never 0; every other frame of the call repeats it */
    uint32_t body_len;   /* bytes of msgpack after this header */
    uint32_t timeout_us; /* request: how long the caller will wait, from now; else 0 */
};

/* What stands behind the header with FC_FLAG_STREAM, FC_FLAG_SPLIT and in FC_PART. `published` has one word a side,
 * written by that side alone while it is active: how many items (upper half) of how many bytes (lower half) it has put
 * into the window in this call, both modulo 2^32. Items of a turn lie one after the other from FC_STREAM_START; so do
 * the bytes of a part. A stream frame's body lies behind its items. */
struct fc_stream {
    uint64_t published[2]; /* of the client, of the server; 0 in a request */
    uint64_t split[2];     /* FC_FLAG_SPLIT: bytes of the whole body, of the whole attachment */
};

#define FC_FRAME_HEADER 16u
#define FC_STREAM_START 64u /* from the start of the window */
/* A bulk attachment starts at the next multiple of this *in the window*: rep movsb between CPUs is slow for a
 * target a few bytes above its source modulo 4096, and starts of 32 or 64 have no slow case (docs/design.md). */
#define FC_ATTACH_ALIGN 32u

_Static_assert(sizeof(struct fc_frame) == FC_FRAME_HEADER, "frame header");
_Static_assert(offsetof(struct fc_frame, code) == 2, "frame: code");
_Static_assert(offsetof(struct fc_frame, call_id) == 4, "frame: call_id");
_Static_assert(offsetof(struct fc_frame, body_len) == 8, "frame: body_len");
_Static_assert(offsetof(struct fc_frame, timeout_us) == 12, "frame: timeout_us");
_Static_assert(FC_PACKET_HEADER + FC_FRAME_HEADER + sizeof(struct fc_stream) == FC_STREAM_START, "stream words");
_Static_assert((FC_PACKET_HEADER + FC_FRAME_HEADER) % FC_ATTACH_ALIGN == 0, "an empty body needs no padding");

/* ---- limits --------------------------------------------------------------------------------------------- */

#define FC_PROTOCOL_VERSION 1u
#define FC_HANDSHAKE_MAX 1048576u     /* bytes of one handshake message on the control socket: 1 KiB a method */
#define FC_METHODS_MAX 1024u          /* methods of one service */
#define FC_MESSAGE_DEFAULT 67108864u  /* bytes of body and attachment that a side takes unless told otherwise: 64 MiB */
#define FC_SPLIT_MAX 0x10000000000    /* bytes of a body, of an attachment, that can be said: 1 TiB */
#define FC_CONNECT_JSON_MAX 4096u     /* bytes of the JSON object that connects a window */

_Static_assert(FC_METHODS_MAX <= 0xffff, "a method number is a u16");
_Static_assert(FC_WINDOW_MIN >= FC_PACKET_HEADER + FC_FRAME_HEADER + FC_ATTACH_ALIGN, "a frame fits any window");

#endif
