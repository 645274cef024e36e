"""flipcall doctor: what this machine and kernel can do, and how a wait would go here."""

import os
import platform
import sys
from typing import Any

import click
from rich.table import Table
from rich.text import Text

from .. import cpus, kernel, switch
from ..policy import WaitPolicy
from .text import console, print_json

# What asks for each feature, and whether flipcall works at all without it.
_NEEDED_BY = {
    "memfd_sealing": ("windows", True),
    "futex_wait_bitset": ("every wait", True),
    "pidfd_open": ("noticing a dead peer", False),
    "so_peerpidfd": ("noticing a dead peer, safe from pid reuse", False),
    "futex_waitv": ("nothing yet", False),
    "futex_swap": ("the swap switch", False),
    "seccomp_notify": ("the notify switch", False),
    "seccomp_notify_sync_wake": ("the notify switch", False),
    "landlock": ("the gofer's confinement", False),
    "openat2": ("the gofer's confinement", False),
    "fuse": ("mounting the gofer's tree", False),
}


def examine() -> dict[str, Any]:
    """All that doctor knows, as the document `--json` prints."""
    features = kernel.features()
    spins, spin_reason = kernel.spinning_allowed()
    allowed = cpus.allowed()
    best = next(s for s in switch.SWITCHES if s.name == switch.offered(None)[0])
    policy = WaitPolicy.balanced()
    same_cpu, same_cpu_reason = cpus.same_cpu_possible()
    return {
        "machine": {
            "kernel": platform.release(),
            "architecture": platform.machine(),
            "python": platform.python_version(),
            "free_threaded": not getattr(sys, "_is_gil_enabled", lambda: True)(),
            "cpus_online": cpus.online(),
            "cpus_allowed": sorted(allowed),
            "cpu_quota": cpus.quota(),
            "page_size": os.sysconf("SC_PAGE_SIZE"),
        },
        "features": [
            {
                "name": f.name,
                "available": f.available,
                "value": f.value,
                "reason": f.reason,
                "needed_by": _NEEDED_BY[f.name][0],
                "required": _NEEDED_BY[f.name][1],
            }
            for f in features
        ],
        "wait": {
            "policy": "balanced",
            "spins": spins,
            "spin_reason": spin_reason,
            "spin_ns": policy.spin_ns if spins else 0,
            "adaptive": policy.adaptive,
            "yields": 0 if spins else policy.yields,
            "placement": policy.placement,
            "same_cpu": same_cpu,
            "same_cpu_reason": same_cpu_reason,
            "switch": best.name,
            "switch_reason": best.probe()[1],
        },
        "usable": all(f.available for f in features if _NEEDED_BY[f.name][1]),
    }


def _wait_in_words(wait: dict[str, Any]) -> str:
    steps = [f"spin up to {wait['spin_ns'] / 1000:g} µs" + (", while it pays" if wait["adaptive"] else "")]
    if not wait["spins"]:
        steps = ["no spinning"]
    if wait["yields"]:
        steps.append(f"yield {wait['yields']} times")
    steps.append(f"sleep by {wait['switch']}")
    return " → ".join(steps)


def _print(found: dict[str, Any]) -> None:
    out = console()
    machine, wait = found["machine"], found["wait"]
    quota = "none" if machine["cpu_quota"] is None else f"{machine['cpu_quota']:g} CPUs"
    facts = Table.grid(padding=(0, 2))
    facts.add_row("kernel", f"{machine['kernel']} {machine['architecture']}")
    facts.add_row("python", machine["python"] + (", free-threaded" if machine["free_threaded"] else ""))
    allowed = cpus.as_ranges(frozenset(machine["cpus_allowed"]))
    facts.add_row("CPUs", f"{machine['cpus_online']} online, {allowed} allowed, quota: {quota}")
    facts.add_row("a wait", f"{_wait_in_words(wait)} (policy {wait['policy']})")
    facts.add_row("", f"spinning: {'yes' if wait['spins'] else 'no'}: {wait['spin_reason']}")
    possible = "possible" if wait["same_cpu"] else "not possible"
    facts.add_row("", f"placement: {wait['placement']}; same-cpu {possible}: {wait['same_cpu_reason']}")
    facts.add_row("", f"switch: {wait['switch']}: {wait['switch_reason']}")
    out.print(facts)
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("feature", "", "why", "used for"):
        table.add_column(heading, no_wrap=heading == "feature")
    for f in found["features"]:
        word, style = (
            ("yes", "green") if f["available"] else ("NO", "bold red") if f["required"] else ("no", "yellow")
        )
        table.add_row(f["name"], Text(word, style), f["reason"], f["needed_by"])
    out.print()
    out.print(table)


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of tables.")
def command(as_json: bool) -> int:
    """What this machine and kernel can do, which way of waiting would be used, and why.

    Exit status 1 when something flipcall cannot do without is missing.
    """
    found = examine()
    if as_json:
        print_json(found)
    else:
        _print(found)
    return 0 if found["usable"] else 1
