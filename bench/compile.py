"""Building the C programs with the system's compiler, once per content."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "bench" / ".build"
BARE = ROOT / "bench" / "bare"
FLAGS = ("-O2", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-pthread")


class CompileError(Exception):
    """The compiler is missing or rejected a program; the message is what it said."""


def build(
    name: str, sources: Sequence[Path], headers: Sequence[Path] = (), include: Sequence[Path] = ()
) -> Path:
    """The program `name` made of `sources`; built unless one with the same content and flags is there.

    `headers` are what the sources include: not compiled, but a change in them is a change of content.
    """
    compiler = os.environ.get("CC", "cc")
    if shutil.which(compiler) is None:
        raise CompileError(f"no C compiler: {compiler!r} is not on the PATH")
    flags = [*FLAGS, *(f"-I{path}" for path in include)]
    digest = hashlib.sha256(repr((compiler, flags)).encode())
    for path in [*sources, *headers]:
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    target = BUILD / f"{name}-{digest.hexdigest()[:16]}"
    if target.exists():
        return target
    BUILD.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f"{target.name}.{os.getpid()}")
    command = [compiler, *flags, "-o", str(partial), *map(str, sources)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise CompileError(f"{' '.join(command)}\n{done.stderr.strip()}")
    partial.rename(target)  # atomic: two benches at once never run half a program
    for stale in BUILD.glob(f"{name}-*"):
        if stale != target and "." not in stale.name:
            stale.unlink(missing_ok=True)
    return target
