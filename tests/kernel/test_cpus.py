"""Where the CPU limits of a process are found, and what they mean for spinning. Run on made-up trees."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from flipcall import cpus, kernel

V2_MOUNT = "31 23 0:28 {root} /sys/fs/cgroup rw,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate"
V1_MOUNT = "32 31 0:29 {root} /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct"
V1_CPUSET = "33 31 0:30 / /sys/fs/cgroup/cpuset rw,relatime - cgroup cgroup rw,cpuset"


class Machine:
    """A made-up root with /proc/self and a cgroup tree."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.proc = root / "proc"
        self.proc.mkdir()

    def describe(self, cgroup: str, *mounts: str) -> None:
        (self.proc / "cgroup").write_text(cgroup)
        (self.proc / "mountinfo").write_text("\n".join(mounts) + "\n")

    def limit(self, directory: str, **files: str) -> None:
        place = self.root / directory
        place.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (place / name.replace("cpu_", "cpu.", 1)).write_text(text + "\n")

    def quota(self) -> float | None:
        return cpus.lowest_quota(cpus.quota_directories(self.proc, self.root))


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.fixture
def fresh_quota() -> Iterator[None]:
    cpus._quota_directories.cache_clear()
    yield
    cpus._quota_directories.cache_clear()


def test_v2_takes_the_smallest_of_all_levels(machine: Machine) -> None:
    """Each level limits those below it, so the smallest counts, wherever it stands."""
    machine.describe("0::/user.slice/app.service\n", V2_MOUNT.format(root="/"))
    machine.limit("sys/fs/cgroup/user.slice/app.service", cpu_max="400000 100000")
    machine.limit("sys/fs/cgroup/user.slice", cpu_max="150000 100000")
    assert machine.quota() == 1.5


def test_v2_without_a_limit(machine: Machine) -> None:
    """ "max" and a missing file are no limit."""
    machine.describe("0::/a/b\n", V2_MOUNT.format(root="/"))
    machine.limit("sys/fs/cgroup/a/b", cpu_max="max 100000")
    assert machine.quota() is None


def test_v1_quota_and_period(machine: Machine) -> None:
    """v1 keeps two files, and -1 for no limit; other controllers are not looked at."""
    machine.describe("5:cpu,cpuacct:/docker/x\n4:cpuset:/\n", V1_CPUSET, V1_MOUNT.format(root="/"))
    machine.limit("sys/fs/cgroup/cpu,cpuacct/docker/x", cpu_cfs_quota_us="50000", cpu_cfs_period_us="100000")
    machine.limit("sys/fs/cgroup/cpu,cpuacct", cpu_cfs_quota_us="-1", cpu_cfs_period_us="100000")
    assert machine.quota() == 0.5


def test_both_versions_at_once(machine: Machine) -> None:
    """A hybrid machine has v1's controller and an empty v2 tree."""
    machine.describe("5:cpu,cpuacct:/\n0::/\n", V1_MOUNT.format(root="/"), V2_MOUNT.format(root="/"))
    machine.limit("sys/fs/cgroup/cpu,cpuacct", cpu_cfs_quota_us="300000", cpu_cfs_period_us="100000")
    assert machine.quota() == 3.0


@pytest.mark.parametrize("own", ["/docker/x", "/elsewhere", "/../outside"])
def test_container_that_sees_only_its_own_part(machine: Machine, own: str) -> None:
    """With a part of the tree mounted, the process's own cgroup is the mount, whatever its path is called."""
    machine.describe(f"0::{own}\n", V2_MOUNT.format(root="/docker/x"))
    machine.limit("sys/fs/cgroup", cpu_max="200000 100000")
    assert machine.quota() == 2.0


def test_no_cgroups_at_all(machine: Machine) -> None:
    """Nothing to read is no limit."""
    assert machine.quota() is None


def test_mount_points_with_blanks(machine: Machine) -> None:
    """mountinfo writes a blank as \\040."""
    machine.describe("0::/\n", V2_MOUNT.format(root="/").replace("/sys/fs/cgroup", r"/my\040groups"))
    machine.limit("my groups", cpu_max="100000 100000")
    assert machine.quota() == 1.0


@pytest.mark.parametrize(
    ("numbers", "text"), [((0,), "0"), ((0, 1), "0-1"), ((0, 1, 2, 5, 7, 8), "0-2,5,7-8"), ((), "")]
)
def test_cpu_ranges(numbers: tuple[int, ...], text: str) -> None:
    """CPU sets are written as the kernel writes them."""
    assert cpus.as_ranges(frozenset(numbers)) == text


@pytest.mark.parametrize(
    ("affinity", "quota", "allowed", "said"),
    [
        ({0, 1}, None, True, "2 CPUs are allowed (0-1), no CPU quota"),
        ({3}, None, False, "only CPU 3"),
        ({0, 1, 2, 3}, 1.5, False, "quota is 1.5 CPUs"),
        ({0, 1, 2, 3}, 2.0, True, "a quota of 2 CPUs"),
    ],
)
def test_spinning_asks_for_two_cpus_by_both_measures(
    monkeypatch: pytest.MonkeyPatch, affinity: set[int], quota: float | None, allowed: bool, said: str
) -> None:
    """Spinning asks for two CPUs by affinity and by quota; the reason names the measure that decided."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: affinity)
    monkeypatch.setattr(cpus, "quota", lambda: quota)
    verdict, reason = kernel.spinning_allowed()
    assert verdict is allowed
    assert said in reason


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two CPUs to give one up")
def test_affinity_is_read_anew(fresh_quota: None) -> None:
    """A thread that pins itself to one CPU stops being allowed to spin, without a restart."""
    before = os.sched_getaffinity(0)
    first = min(before)
    try:
        os.sched_setaffinity(0, {first})
        allowed, reason = cpus.spinning_allowed()
    finally:
        os.sched_setaffinity(0, before)
    assert not allowed
    assert f"only CPU {first} " in reason


def test_quota_is_read_anew(monkeypatch: pytest.MonkeyPatch, machine: Machine, fresh_quota: None) -> None:
    """Where limits stand is looked up once, what they say every time."""
    machine.describe("0::/\n", V2_MOUNT.format(root="/"))
    machine.limit("sys/fs/cgroup", cpu_max="max 100000")
    monkeypatch.setattr(cpus, "_PROC_SELF", machine.proc)
    monkeypatch.setattr(cpus, "_ROOT", machine.root)
    assert cpus.quota() is None
    machine.limit("sys/fs/cgroup", cpu_max="100000 100000")
    assert cpus.quota() == 1.0
