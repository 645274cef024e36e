"""What calls cost the server that answers them: read here, counted by the C core (core/meter.c).

A channel of a server has Meters, its methods' counts and times. They are read from outside, in any thread, while
the channel's own goes on; the reader and close() exclude one another, for close() gives the memory back.
"""

import threading
from collections.abc import Sequence
from typing import Any

import msgspec

from ._core import ffi, lib

BUCKETS: int = lib.FC_METER_BUCKETS
_FIRST_BITS, _PARTS = 8, 4  # of core/meter.c; a test holds the two together


class Counts(msgspec.Struct):
    """Calls of one method so far. errors: those answered with a status other than OK. bytes_in, bytes_out: of
    requests and answers, headers included. total_ns: the time from a request's coming to its answer's going, and
    buckets: how many calls took how long (see quantile_us).
    """

    calls: int = 0
    errors: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    total_ns: int = 0
    buckets: list[int] = []

    def add(self, other: "Counts") -> None:
        """Add what another channel counted."""
        self.calls += other.calls
        self.errors += other.errors
        self.bytes_in += other.bytes_in
        self.bytes_out += other.bytes_out
        self.total_ns += other.total_ns
        longest = max(len(self.buckets), len(other.buckets))
        both = (b + [0] * (longest - len(b)) for b in (self.buckets, other.buckets))
        self.buckets = [a + b for a, b in zip(*both, strict=True)]

    def since(self, before: "Counts") -> "Counts":
        """What has come since `before`, an earlier reading of the same."""
        old = before.buckets + [0] * (len(self.buckets) - len(before.buckets))
        return Counts(
            self.calls - before.calls,
            self.errors - before.errors,
            self.bytes_in - before.bytes_in,
            self.bytes_out - before.bytes_out,
            self.total_ns - before.total_ns,
            [a - b for a, b in zip(self.buckets, old, strict=False)],
        )


class Meters:
    """The counts of one channel, of as many methods. add() is for the channel's thread, the others for any."""

    def __init__(self, methods: int) -> None:
        self._methods = ffi.new("struct fc_meter *[]", methods)
        self._lock = threading.Lock()  # between reading and giving back
        self._closed = False

    def attach(self, ep: Any) -> None:
        """Let the C endpoint `ep` count here, from its next request on. close() only after its last."""
        ep.metering.count = len(self._methods)
        ep.metering.methods = self._methods

    def add(self, method: int, failed: bool, bytes_in: int, bytes_out: int, took_ns: int) -> None:
        """Count a call of a channel that has no C endpoint."""
        lib.fc_meter_add(self._methods, len(self._methods), method, failed, bytes_in, bytes_out, took_ns)

    def read(self) -> dict[int, Counts]:
        """What was counted so far, by method number; methods never called are not there."""
        with self._lock:
            if self._closed:
                return {}
            return {i: _counts(m) for i, m in enumerate(self._methods) if m != ffi.NULL}

    def close(self) -> dict[int, Counts]:
        """The last reading; then give the memory back. Idempotent."""
        last = self.read()
        with self._lock:
            if not self._closed:
                self._closed = True
                lib.fc_meter_free(self._methods, len(self._methods))
        return last


def _counts(meter: Any) -> Counts:
    buckets = ffi.unpack(meter.buckets, BUCKETS)
    while buckets and not buckets[-1]:
        buckets.pop()
    return Counts(meter.calls, meter.errors, meter.bytes_in, meter.bytes_out, meter.total_ns, buckets)


def bucket_start_ns(bucket: int) -> int:
    """The shortest time, in nanoseconds, that falls into a bucket."""
    if bucket == 0:
        return 0
    power, part = divmod(bucket - 1, _PARTS)
    return (1 << (power + _FIRST_BITS)) * (_PARTS + part) // _PARTS


def quantile_us(buckets: Sequence[int], q: float) -> float | None:
    """The time, in microseconds, within which the fraction `q` of the calls was answered; None without calls.

    To within 12 %, as wide as the buckets are.
    """
    total = sum(buckets)
    if not total:
        return None
    below, wanted = 0, q * total
    for bucket, count in enumerate(buckets):
        if count and below + count >= wanted:
            start, end = bucket_start_ns(bucket), bucket_start_ns(bucket + 1)
            return (start + (end - start) * (wanted - below) / count) / 1000
        below += count
    return bucket_start_ns(len(buckets)) / 1000
