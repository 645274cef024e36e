"""The core is not made for one processor: no instruction outside cpu.h, and what the orderings become on aarch64.

`make test-aarch64` runs the C tests there, under qemu. qemu on x86 keeps x86's stronger order, so running says
nothing about the orders: they are read, here, in the instructions, and argued in proto/window.md.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from flipcall import syscalls

ROOT = Path(__file__).resolve().parents[2]
CORE = ROOT / "flipcall" / "core"
CC = "aarch64-linux-gnu-gcc"
FLAGS = ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Wno-unused-parameter", "-Werror"]
INCLUDE = [f"-I{CORE}", f"-I{ROOT / 'proto'}"]

needs_cross = pytest.mark.skipif(
    shutil.which(CC) is None, reason=f"no {CC}: apt-get install gcc-aarch64-linux-gnu libc6-dev-arm64-cross"
)
_X86 = re.compile(r"__x86_64__|__i386__|__builtin_ia32|immintrin|x86intrin|\b_mm_|rdtsc|__aarch64__|__arm__")
_INSTRUCTION = re.compile(r'\basm\b|__asm__(?! __volatile__\("" ::: "memory"\))')
_COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)


def _sources() -> list[Path]:
    files = [*CORE.glob("*.[ch]"), *(ROOT / "proto").glob("*.h"), *(ROOT / "tests").glob("*/*.[ch]")]
    return sorted(file for file in files if file.name != "cpu.h")


def test_no_processor_outside_cpu_h() -> None:
    """No other file of the core, or of its tests, names a processor or holds an instruction."""
    found: list[str] = []
    for file in _sources():
        text = _COMMENT.sub("", file.read_text())
        found += [
            f"{file.relative_to(ROOT)}: {m.group()}" for p in (_X86, _INSTRUCTION) for m in p.finditer(text)
        ]
    assert not found


@needs_cross
@pytest.mark.parametrize("source", sorted(file.name for file in CORE.glob("*.c")))
def test_compiles_for_aarch64(source: str, tmp_path: Path) -> None:
    """Every file of the core, without a warning."""
    subprocess.run([CC, *FLAGS, *INCLUDE, "-c", "-o", str(tmp_path / "x.o"), str(CORE / source)], check=True)


def _instructions(source: str, function: str, *flags: str) -> list[str]:
    """A function's instructions in order, static functions it calls inlined or left out."""
    command = [CC, *FLAGS, *INCLUDE, *flags, "-S", "-o", "-", str(CORE / source)]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    body = re.search(rf"^{function}:\n(.*?)^\t\.size\t{function},", text, re.MULTILINE | re.DOTALL)
    assert body, f"no function {function} in {source}"
    return [line.split()[0] for line in body[1].splitlines() if re.match(r"\t[a-z]", line)]


def _in_order(found: list[str], *wanted: str) -> bool:
    """Whether instructions matching all of `wanted` come one after the other in `found`."""
    rest = iter(found)
    return all(any(re.fullmatch(pattern, word) for word in rest) for pattern in wanted)


@needs_cross
@pytest.mark.parametrize(
    ("flags", "exchange"),
    [
        (["-march=armv8-a", "-mno-outline-atomics"], ("ldaxr", "stlxr")),
        (["-march=armv8.1-a"], ("casal",)),
        (["-march=armv8.3-a"], ("casal",)),  # has ldapr, which would not do: it may be read before the store
    ],
)
def test_giver_looks_after_its_store(flags: list[str], exchange: tuple[str, ...]) -> None:
    """W1 is a store-release and R1 a load-acquire of the kind that waits for it (ldar, not ldapr or ldr)."""
    assert _in_order(_instructions("wait.c", "fc_give", *flags), *exchange, "ldar")


@needs_cross
@pytest.mark.parametrize(
    ("flags", "set_bit"),
    [
        (["-march=armv8-a", "-mno-outline-atomics"], ("ldaxr", "stlxr")),
        (["-march=armv8.1-a"], ("ldsetal",)),
        (["-march=armv8.3-a"], ("ldsetal",)),
    ],
)
def test_sleeper_looks_after_its_bit(flags: list[str], set_bit: tuple[str, ...]) -> None:
    """So are W2 and R2, in sleep_once."""
    found = _instructions("wait.c", "sleep_once", "-fno-inline-functions-called-once", *flags)
    assert _in_order(found, *set_bit, "ldar")


@needs_cross
def test_numbers_are_those_of_the_aarch64_headers(tmp_path: Path) -> None:
    """Every number in flipcall/syscalls.py for aarch64 is the one its headers have, where they know it."""
    names = [*syscalls._OWN["aarch64"], *syscalls._COMMON]
    lines = ["#include <asm/unistd.h>", *(f"{name} __NR_{name}" for name in names)]
    source = tmp_path / "numbers.c"
    source.write_text("\n".join(lines) + "\n")
    done = subprocess.run([CC, "-E", "-P", str(source)], check=True, capture_output=True, text=True)
    values = {
        name: int(number)
        for name, number in (line.split() for line in done.stdout.splitlines() if line.strip())
        if number.isdigit()
    }
    assert "futex" in values
    assert values == {name: (syscalls._OWN["aarch64"] | syscalls._COMMON)[name] for name in values}


def test_missing_tools_are_a_visible_skip() -> None:
    """`make test-aarch64` without a cross compiler or qemu says what to install, and passes."""
    for missing in ("ARM_CC=no-such-compiler", "ARM_RUN=no-such-emulator"):
        done = subprocess.run(
            ["make", "test-aarch64", missing], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert "skipped" in done.stdout
        assert "gcc-aarch64-linux-gnu" in done.stdout
        assert "qemu-user" in done.stdout
