"""The gofer's mount beside a plain passthrough file system on the same FUSE library: git status, and tar.

Each run is the first use of a fresh mount: neither the kernel nor the process behind the mount knows anything yet,
though the files are in the page cache of the host. Once the kernel has names and attributes, it asks nobody, and
every mount is as quick as any other (the *_again rows).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.compile import ROOT
from bench.measure import Contender, Effort, Sample
from bench.peer import GoferConfig, MountConfig
from bench.placement import UnavailableError
from bench.process import PeerProcess
from bench.rows import Labels, Row, find_row, ratio
from bench.run import Case, Progress, measure_group

# tar looks whether it writes to /dev/null, and then reads nothing: hence cat.
COMMANDS = {
    "fuse_git_status": ["git", "--no-optional-locks", "status", "--porcelain"],
    "fuse_tar": ["sh", "-c", "tar -cf - . | cat >/dev/null"],
}
AGAIN = "_again"
TARGETED = ("mount", "passthrough")
KINDS = ("mount", "passthrough", "passthrough-loop", "direct")

_ENVIRONMENT = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "LC_ALL": "C"}


class Command:
    """A command run in the tree, on a mount of its own each time."""

    def __init__(
        self, labels: Labels, tree: Path, mounted: Callable[[], AbstractContextManager[object]]
    ) -> None:
        self.labels = labels
        self._tree = tree
        self._mounted = mounted

    def run(self, effort: Effort) -> Sample:
        """One run: the first use of the mount, or the second."""
        again = self.labels.case.endswith(AGAIN)
        argv = COMMANDS[self.labels.case.removesuffix(AGAIN)]
        with self._mounted():
            if again:
                _run(argv, self._tree)
            elapsed = _run(argv, self._tree)
        return Sample(p50=elapsed, mean=elapsed, elapsed=elapsed)


def measure_mounts(effort: Effort, progress: Progress) -> tuple[list[Row], dict[str, float | None]]:
    """The rows and ratios of the mount; a row with the reason where there can be no mount."""
    rows: list[Row] = []
    with ExitStack() as stack:
        directory = Path(stack.enter_context(TemporaryDirectory(prefix="flipcall-bench-")))
        tree, mountpoint = directory / "tree", directory / "mnt"
        mountpoint.mkdir()
        socket = str(directory / "gofer.sock")
        why = _unavailable()
        if why is None:
            progress("cloning the repository")
            _clone(tree)
            stack.enter_context(PeerProcess(GoferConfig(path=socket, root=str(tree), read_only=False)))
        ways: dict[str, tuple[Path, Callable[[], AbstractContextManager[object]]]] = {
            kind: (mountpoint, partial(_mounted, MountConfig(source, str(mountpoint), kind)))
            for kind, source in (
                ("mount", socket),
                ("passthrough", str(tree)),
                ("passthrough-loop", str(tree)),
            )
        }
        ways["direct"] = (tree, nullcontext)
        for command in COMMANDS:
            for case in (command, command + AGAIN) if effort.thorough else (command,):
                kinds = KINDS if effort.thorough else TARGETED
                cases = [_case(Labels(case=case, transport=kind), *ways[kind], why) for kind in kinds]
                rows += measure_group(cases, effort, progress)
    return rows, ratios(rows)


def ratios(rows: list[Row]) -> dict[str, float | None]:
    """How much longer each command takes on the gofer's mount than on the passthrough, and than without any.

    The mount runs pyfuse3 in a loop of its own, the passthrough runs it in trio, as everybody does; so beside it
    is the passthrough in that loop, too, which says what the proxy alone costs.
    """
    found: dict[str, float | None] = {}
    for case in COMMANDS:
        for name in (case, case + AGAIN):
            mount, *others = (find_row(rows, name, transport=kind) for kind in KINDS)
            for kind, other in zip(KINDS[1:], others, strict=True):
                found[f"{name}_over_{kind.replace('-', '_')}"] = ratio(mount, other)
    return found


def _mounted(config: MountConfig) -> AbstractContextManager[object]:
    return PeerProcess(config)


def _case(
    labels: Labels, tree: Path, mounted: Callable[[], AbstractContextManager[object]], why: str | None
) -> Case:
    def open_command() -> AbstractContextManager[Contender]:
        if why is not None:
            raise UnavailableError(why)
        return nullcontext(Command(labels, tree, mounted))

    return Case(labels, open_command)


def _unavailable() -> str | None:
    try:
        import pyfuse3  # noqa: F401
    except ImportError:
        return "pyfuse3 is not installed"
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "/dev/fuse cannot be opened"
    missing = [command for command in ("git", "tar") if shutil.which(command) is None]
    if missing:
        return f"{' and '.join(missing)} not installed"
    if not (Path(ROOT) / ".git").exists():
        return "not a clone of the repository"
    return None


def _clone(tree: Path) -> None:
    clone = ["git", "clone", "--quiet", "--no-hardlinks", str(ROOT), str(tree)]
    subprocess.run(clone, check=True, env=_ENVIRONMENT)
    # A checkout leaves entries with the time of the index itself, whose content git would compare: age them.
    time.sleep(1.1)
    subprocess.run(["git", "-C", str(tree), "update-index", "--refresh", "-q"], check=True, env=_ENVIRONMENT)
    (tree / "README.md").touch()
    subprocess.run(["git", "-C", str(tree), "update-index", "--refresh", "-q"], check=True, env=_ENVIRONMENT)


def _run(argv: list[str], directory: Path) -> float:
    """The time the command takes, ns."""
    started = time.perf_counter_ns()
    done = subprocess.run(argv, cwd=directory, env=_ENVIRONMENT, capture_output=True)
    elapsed = time.perf_counter_ns() - started
    if done.returncode or done.stdout or done.stderr:
        raise AssertionError(f"{argv} said {done.stdout!r} {done.stderr!r}, status {done.returncode}")
    return elapsed
