"""Real work on the mount: programs that know nothing of it, and check what they read."""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from gofer_support import ROOT
from mount_support import Mounted, mounted, needs_mount, needs_rows

pytestmark = [needs_mount, pytest.mark.timeout(60)]

_ENVIRONMENT = {
    **os.environ,
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    **{f"GIT_{who}_{what}": "t@t" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
}


def needs(*programs: str) -> pytest.MarkDecorator:
    """Skip where a program is missing."""
    missing = [program for program in programs if shutil.which(program) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {' '.join(missing)}")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mounted]:
    """One mount for the module."""
    with mounted(tmp_path_factory.mktemp("mount")) as found:
        yield found


@pytest.fixture
def at(shared: Mounted, request: pytest.FixtureRequest) -> Path:
    """The test's directory, on the mount."""
    path = shared.at / request.node.name.replace("/", "_")
    path.mkdir()
    return path


def run(*argv: str | Path, at: Path) -> str:
    """A program's output; it must succeed."""
    done = subprocess.run(argv, cwd=at, env=_ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"
    return done.stdout


def copy_sources(to: Path) -> None:
    """This project's modules: some hundred files in some ten directories."""
    shutil.copytree(ROOT / "flipcall", to, ignore=shutil.ignore_patterns("*.so", "*.o", "__pycache__"))


@needs("git")
def test_git(at: Path, host: Path) -> None:
    """A repository is made, committed to, garbage-collected and found whole, from both sides."""
    copy_sources(at / "src")
    run("git", "init", "-q", at=at)
    run("git", "add", ".", at=at)
    run("git", "commit", "-qm", "one", at=at)
    (at / "src" / "new.py").write_text("new = 1\n")
    os.rename(at / "src" / "client.py", at / "src" / "renamed.py")
    assert len(run("git", "status", "--porcelain", at=at).splitlines()) == 3
    run("git", "add", "-A", at=at)
    run("git", "commit", "-qm", "two", at=at)
    assert run("git", "log", "--format=%s", at=at).split() == ["two", "one"]
    run("git", "gc", "-q", at=at)
    assert run("git", "fsck", "--strict", "--full", at=at) == ""
    run("git", "checkout", "-q", "HEAD~1", at=at)
    assert run("git", "status", "--porcelain", at=at) == ""
    assert run("git", "-c", "safe.directory=*", "status", "--porcelain", at=host) == ""


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_sqlite(at: Path, host: Path, mode: str) -> None:
    """Two connections, transactions that are kept and dropped, with a journal and with a WAL (which is mapped)."""
    with sqlite3.connect(at / "db") as one, sqlite3.connect(at / "db", timeout=10) as two:
        assert one.execute(f"pragma journal_mode={mode}").fetchone() == (mode,)
        one.execute("create table t (n integer primary key, text)")
        one.executemany("insert into t values (?, ?)", ((n, "x" * (n % 500)) for n in range(3000)))
        one.commit()
        two.execute("delete from t where n % 2")
        two.rollback()
        two.execute("update t set text = 'y' where n < 10")
        two.commit()
        assert one.execute("select count(*), sum(text = 'y') from t").fetchone() == (3000, 10)
        assert one.execute("pragma integrity_check").fetchone() == ("ok",)
    one.close()
    two.close()
    with sqlite3.connect(host / "db") as there:
        assert there.execute("select count(*) from t").fetchone() == (3000,)
    there.close()


@needs("tar")
def test_tar(at: Path, host: Path) -> None:
    """A tree of files, links and odd modes packed from both sides is the same, and unpacked the same again."""
    copy_sources(at / "src")
    os.symlink("client.py", at / "src" / "link")
    os.link(at / "src" / "client.py", at / "src" / "hard.py")
    os.mkfifo(at / "src" / "fifo")
    os.chmod(at / "src" / "pool.py", 0o400)
    pack = (
        "tar",
        "--sort=name",
        "--format=posix",
        "--pax-option=delete=atime,delete=ctime",
        "-cf",
        "-",
        "src",
    )

    def digest(directory: Path) -> str:
        packed = subprocess.run(pack, cwd=directory, capture_output=True, check=True)
        return hashlib.sha256(packed.stdout).hexdigest()

    assert digest(at) == digest(host)
    (at / "again").mkdir()
    run("sh", "-c", "tar -cf - src | tar -xf - -C again", at=at)
    assert digest(at / "again") == digest(host / "again")
    run("diff", "-r", "--no-dereference", "--exclude=fifo", "src", "again/src", at=at)


def test_venv(at: Path) -> None:
    """An environment is made, and its Python runs from the mount."""
    run(sys.executable, "-m", "venv", "--without-pip", "--copies", "env", at=at)
    (at / "env" / "module.py").write_text("answer = 42\n")
    program = "import sys, module; print(sys.prefix, module.answer)"
    said = run(at / "env" / "bin" / "python", "-c", program, at=at / "env")
    assert said.split() == [str(at / "env"), "42"]
    run(at / "env" / "bin" / "python", "-m", "py_compile", "module.py", at=at / "env")
    assert list((at / "env" / "__pycache__").iterdir())


@needs("gcc", "make")
def test_gcc(at: Path) -> None:
    """A program is compiled, linked and run, and make sees that nothing is to be done again."""
    (at / "part.h").write_text("int part(void);\n")
    (at / "part.c").write_text('#include "part.h"\nint part(void) { return 42; }\n')
    (at / "main.c").write_text(
        '#include <stdio.h>\n#include "part.h"\nint main(void) { return printf("%d", part()) < 0; }\n'
    )
    (at / "Makefile").write_text("program: main.o part.o\n\tgcc -o $@ $^\nmain.o part.o: part.h\n")
    run("make", "-j2", "CC=gcc", at=at)
    assert run(at / "program", at=at) == "42"
    assert "up to date" in run("make", at=at)
    (at / "part.c").write_text('#include "part.h"\nint part(void) { return 43; }\n')
    run("make", "CC=gcc", at=at)
    assert run(at / "program", at=at) == "43"


@needs("fio")
@pytest.mark.parametrize("engine", ["psync", "mmap"])
def test_fio_verifies(at: Path, engine: str) -> None:
    """Random writes of many sizes by two jobs, read back and verified by their checksums."""
    job = f"""[global]
ioengine={engine}
rw=randwrite
bssplit=4k/60:64k/30:256k/10
size=4m
verify=crc32c
do_verify=1
verify_fatal=1
fsync=64
fallocate=native
[one]
[two]
"""
    (at / "job").write_text(job)
    run("fio", "--minimal", "job", at=at)


@needs_rows
@needs("fio")
def test_fio_reserves(at: Path, host: Path) -> None:
    """Two jobs reserve a file each by fallocate, range by range, at random."""
    job = """[global]
ioengine=falloc
rw=randwrite
bs=16k
size=4m
[one]
[two]
"""
    (at / "job").write_text(job)
    run("fio", "--minimal", "job", at=at)
    for name in ("one.0.0", "two.0.0"):
        assert (host / name).stat().st_blocks * 512 >= (host / name).stat().st_size == 4 << 20


@needs("cp", "rm", "mv", "cmp")
def test_coreutils(at: Path, host: Path) -> None:
    """cp -a keeps everything, sparse files stay readable, mv and rm -r work over whole trees."""
    copy_sources(at / "src")
    with open(at / "src" / "sparse", "wb") as file:
        file.seek(10 << 20)
        file.write(b"end")
    run("cp", "-a", "src", "copy", at=at)
    run("diff", "-r", "src", "copy", at=at)
    assert (host / "copy" / "client.py").stat().st_mtime_ns == (host / "src" / "client.py").stat().st_mtime_ns
    run("mv", "copy", "moved", at=at)
    run("cmp", "src/sparse", "moved/sparse", at=at)
    run("rm", "-r", "src", "moved", at=at)
    assert list(host.iterdir()) == []
