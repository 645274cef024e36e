"""The demo: what `make demo` prints and when it fails."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from gofer import demo, latency
from gofer.client import GoferClient
from gofer.tree import Digested, Found
from gofer.tree import walk as tree_walk


@pytest.fixture(autouse=True)
def short_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many calls as show that it works."""
    monkeypatch.setattr(latency, "RUNS", 2)
    monkeypatch.setattr(latency, "_CALLS", {"window": 20, "socket": 20})


def test_demo_reads_the_tree(tree: Path) -> None:
    """Counts, bytes, a verdict and three latencies; status 0."""
    done = CliRunner().invoke(demo.main, [str(tree)])
    assert done.exit_code == 0, done.output
    assert "Every SHA-256" in done.output
    for row in ("small typed call", "stat of a file", "open + close"):
        assert row in done.output


def test_demo_of_an_empty_directory(tmp_path: Path) -> None:
    """Nothing to read and nothing to open is no error."""
    done = CliRunner().invoke(demo.main, [str(tmp_path)])
    assert done.exit_code == 0, done.output


def test_demo_fails_when_a_digest_differs(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that came over wrong is named, and the status says so."""

    def wrong(*_: object) -> Digested:
        return Digested("0" * 64, 4)

    monkeypatch.setattr(demo, "digest", wrong)
    done = CliRunner().invoke(demo.main, [str(tree)])
    assert done.exit_code == 1
    assert "differs: dir/deep/file" in done.output


def test_demo_fails_when_a_file_is_missing(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the gofer did not show is a difference too."""

    def forgetful_walk(client: GoferClient) -> list[Found]:
        return [found for found in tree_walk(client) if found.path != b"hello"]

    monkeypatch.setattr("gofer.demo.walk", forgetful_walk)
    lstat = GoferClient.lstat

    def forgetful_lstat(self: GoferClient, path: bytes) -> object:
        if path == b"hello":
            raise FileNotFoundError
        return lstat(self, path)

    monkeypatch.setattr(GoferClient, "lstat", forgetful_lstat)
    done = CliRunner().invoke(demo.main, [str(tree)])
    assert done.exit_code == 1
    assert "differs: hello" in done.output
