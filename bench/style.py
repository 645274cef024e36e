"""Words and colours of the plots."""

from __future__ import annotations

from bench.rows import Report, Row

TITLES = {
    "sendrecv": "An empty datagram there and back",
    "call": "Calls, echoed",
    "gofer": "Files through the gofer",
}
LOADS = {
    "back-to-back": "Back to back",
    "paced-1ms": "Pauses of 1 ms",
    "paced-10ms": "Pauses of 10 ms",
    "busy": "CPUs busy with other work",
    "2-clients": "Two client processes at once",
    "8-clients": "Eight client processes at once",
    "64-clients": "64 client processes at once",
}
OPERATIONS = {
    "open_close": "Open and close",
    "stat": "Stat",
    "stat_deep": "Stat of a path of six names",
    "getdents_10000": "List and stat 10,000 files",
    "read_4k": "Read 4 KiB",
    "read_1m": "Read 1 MiB",
    "read_1m_copied": "Read 1 MiB, copied",
    "read_1m_donated": "Read 1 MiB, donated",
    "fuse_git_status": "git status, fresh mount",
    "fuse_git_status_again": "git status again",
    "fuse_tar": "tar, fresh mount",
    "fuse_tar_again": "tar again",
}
MOUNTS = {
    "mount": "gofer mount",
    "passthrough": "plain passthrough",
    "passthrough-loop": "passthrough, our loop",
    "direct": "no FUSE",
}
"""The contenders of a command on a mount."""
SIZES = {1 << 16: "64 KiB", 1 << 20: "1 MiB"}
# Cases of `call` that have a panel of their own whatever their load is.
PANELS = {
    "stream": "A stream's item",
    "workers": "As many workers as clients",
    **dict.fromkeys(("download", "download_into", "download_view"), "1 MiB one way"),
}
WAYS = {"download": "bytes", "download_into": "into a buffer", "download_view": "a view"}
CONNECTED = {"single": "single client", "among_1000": "among 1,000 connected"}
NAMES = {
    "socket": "Unix socket",
    "direct": "system call",
    "memcpy": "memcpy",
    "busy-ring": "busy ring",
    "vllm-ring": "vLLM's ring",
    "flipcall-split": "flipcall in parts",
    "grpc": "gRPC",
    "zmq": "ZeroMQ",
}
PLACEMENTS = {"one-cpu": ", one CPU", "two-cpus": ", two CPUs"}
# Distinguishable with any kind of colour vision (Okabe and Ito).
SPIN, BALANCED, FUTEX, NOTIFY = "#D55E00", "#E69F00", "#0072B2", "#009E73"
SWAP, SAME_CPU, SOCKET, OTHER = "#CC79A7", "#56B4E9", "#444444", "#999999"
POLLING = SWAP  # in its family there is no swap
COLOURS = {
    "socket": SOCKET,
    "busy-ring": POLLING,
    "vllm-ring": POLLING,
    "iceoryx2": POLLING,
    "mount": BALANCED,
    **dict.fromkeys(("passthrough", "passthrough-loop"), SOCKET),
    **dict.fromkeys(("direct", "memcpy", "grpc", "zmq", "pipe"), OTHER),
}


def title_of(family: str, report: Report) -> str:
    """What was measured, and on what."""
    m = report.machine
    return (
        f"{TITLES[family]}\n"
        f"{m.get('cpu')}, {m.get('cpus_allowed')} CPUs, {m.get('virtualisation')}; Linux {m.get('kernel')}; "
        f"CPython {m.get('python')}; commit {m.get('commit')}; {m.get('scheduling', '')}; {m.get('time')}"
    )


def panel_of(family: str, row: Row) -> str:
    """The panel a row is drawn in."""
    load = LOADS.get(row.load, row.load)
    if family == "gofer":
        return OPERATIONS.get(row.case, row.case)
    if row.case in PANELS:
        return PANELS[row.case]
    if row.case == "echo":
        return f"{SIZES.get(row.size or 0, row.size)} there and back"
    return f"One of many clients; {load[0].lower()}{load[1:]}" if row.case in CONNECTED else load


def label_of(family: str, row: Row) -> str:
    """A contender's name within its panel."""
    if family != "sendrecv":
        if row.case.startswith("fuse_"):
            return MOUNTS.get(row.transport or "", row.transport or "")
        name = NAMES.get(row.transport or "", row.transport or "")
        if row.case in CONNECTED:
            return CONNECTED[row.case]
        if row.case in WAYS and row.transport == "flipcall":
            return f"flipcall, {WAYS[row.case]}"
        if row.case == "workers":
            return row.load.replace("-", " ")
        return f"{name} {row.policy}" if row.policy and family == "call" else name
    layer, _, _ = row.case.partition("_")
    where = {"c": "C core", "python": "Python"}.get(layer, "bare")
    what = "Unix socket pair" if row.transport == "socket" else row.switch or ""
    if row.placement == "same-cpu":
        what = f"{what}, same CPU"
    return f"{where}: {what} ({row.policy})" if row.policy else f"{where}: {what}"


def colour_of(row: Row) -> str:
    """By what makes the difference: the switch, or the policy where that decides."""
    if row.transport in COLOURS:
        return COLOURS[row.transport]
    if row.placement == "same-cpu":
        return SAME_CPU
    switch = row.switch or ""
    if switch.endswith("notify"):
        return NOTIFY
    if switch.endswith("swap"):
        return SWAP
    if row.policy == "balanced":
        return BALANCED
    return SPIN if switch.startswith("spin") else FUTEX
