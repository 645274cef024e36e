"""The C programs build from a clean checkout and answer; a broken one says what is wrong."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from bench import compile as compiling
from bench.bare import BareProgram, build_bare, build_core
from bench.compile import BARE, CompileError, build
from bench.loads import Load, around
from bench.measure import QUICK
from bench.placement import Placement, UnavailableError, pinned
from bench.rows import Labels

# Spinning on one CPU costs a time slice a hand-over, so it is left out: the library does not do it either.
CASES = [
    ("cacheline", "", "spin", Placement.FREE),
    ("cacheline", "", "spin", Placement.TWO_CPUS),
    ("core", "spin", "spin", Placement.FREE),
    ("core", "spin", "spin", Placement.TWO_CPUS),
    *(("futex", "", "futex", placement) for placement in Placement),
    *(("core", "futex", "futex", placement) for placement in Placement),
    *(("socketpair", "", None, placement) for placement in Placement),
]
PROGRAMS = ("futex", "socketpair", "core")


def program_named(name: str) -> Path:
    """A primitive, or the library's C core."""
    return build_core() if name == "core" else build_bare(name)


@pytest.mark.parametrize(("name", "mode", "switch", "placement"), CASES)
def test_a_program_measures_every_figure(
    name: str, mode: str, switch: str | None, placement: Placement
) -> None:
    """Each primitive under each placement: latency, mean and the CPU time of both sides."""
    try:
        contender = BareProgram(program_named(name), Labels(case=name, switch=switch), placement, mode)
    except UnavailableError as reason:
        pytest.skip(str(reason))
    sample = contender.run(QUICK)
    assert sample.p50 is not None
    assert sample.p99 is not None
    assert 0 < sample.p50 <= sample.p99
    assert sample.mean
    assert sample.client_cpu is not None
    assert sample.server_cpu is not None


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("load", Load)
def test_a_program_measures_every_load(name: str, load: Load) -> None:
    """Sleeping programs under each load; a paced run keeps every latency, and its pauses are in no latency."""
    contender = BareProgram(
        program_named(name), Labels(case=name), Placement.FREE, "futex" if name == "core" else "", load
    )
    with around(load):
        sample = contender.run(QUICK)
    assert sample.mean is not None
    assert sample.elapsed is not None
    if load.pause_us:
        assert len(sample.stamps) == QUICK.paced_calls(load.pause_us)
        assert sample.elapsed - sample.mean >= load.pause_us * 1000 * 0.99
    else:
        assert not sample.stamps
        assert sample.elapsed == sample.mean


def test_a_primitive_this_tree_has_not_is_unavailable() -> None:
    """Its row says so; nothing else fails."""
    with pytest.raises(UnavailableError, match="no bench/bare/nonesuch"):
        build_bare("nonesuch")


@pytest.mark.parametrize(
    "arguments", [[], ["-1", "-1", "1", "1", "0", "0", "", "x"], ["-1", "-1", "1", "0", "0", "0"]]
)
def test_a_program_refuses_a_plan_it_cannot_carry_out(arguments: list[str]) -> None:
    """Too few words, too many, nothing to measure: a line on stderr and a failure."""
    done = subprocess.run(
        [str(build_bare("futex")), *arguments], capture_output=True, timeout=30, check=False
    )
    assert done.returncode != 0
    assert done.stderr
    assert not done.stdout


def test_a_program_refuses_a_mode_it_does_not_know() -> None:
    """A misspelt mode is never measured as something else."""
    command = [str(build_core()), "-1", "-1", "1", "1", "0", "0", "spn"]
    done = subprocess.run(command, capture_output=True, timeout=30, check=False)
    assert done.returncode != 0


def test_a_program_is_built_once_per_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same sources give the same file; a changed one gives another, and the old one goes."""
    monkeypatch.setattr(compiling, "BUILD", tmp_path / "build")
    source = tmp_path / "p.c"
    source.write_text("int main(void) { return 0; }\n")
    first = build("p", [source])
    built = first.stat().st_mtime_ns
    assert build("p", [source]).stat().st_mtime_ns == built
    source.write_text("int main(void) { return 3; }\n")
    second = build("p", [source])
    assert second != first
    assert not first.exists()
    assert subprocess.run([str(second)], check=False).returncode == 3


def test_a_changed_header_is_a_changed_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the sources include counts as their content."""
    monkeypatch.setattr(compiling, "BUILD", tmp_path / "build")
    source, header = tmp_path / "p.c", tmp_path / "p.h"
    source.write_text('#include "p.h"\nint main(void) { return VALUE; }\n')
    header.write_text("#define VALUE 1\n")
    first = build("p", [source], [header], [tmp_path])
    header.write_text("#define VALUE 2\n")
    assert build("p", [source], [header], [tmp_path]) != first


def test_what_the_compiler_rejects_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A warning is an error here, and its text reaches whoever ran the bench."""
    monkeypatch.setattr(compiling, "BUILD", tmp_path / "build")
    source = tmp_path / "p.c"
    source.write_text("int main(void) { int unused; return 0; }\n")
    with pytest.raises(CompileError, match="unused"):
        build("p", [source])
    assert not list((tmp_path / "build").iterdir())


def test_without_a_compiler_the_error_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """CC names one that is not there."""
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(CompileError, match="no-such-compiler"):
        build("cacheline", [BARE / "pair.c"])


def test_one_cpu_is_not_two(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where this process may use one CPU, the two-CPU placement says why it is not measured."""
    with pinned(Placement.ONE_CPU.cpus[0]), pytest.raises(UnavailableError, match="two CPUs"):
        _ = Placement.TWO_CPUS.cpus
