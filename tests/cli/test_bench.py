"""flipcall bench: request and response over both transports, of its own server or of one that runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Flipcall, one_line_error
from tests.support import Child, child

FEW = ("--calls", "50", "--paced", "5")


def test_json(flipcall: Flipcall) -> None:
    """Both transports under both loads, with the CPU time of both sides, and the ratios of the medians."""
    done = flipcall("bench", *FEW, "--json")
    assert done.stderr == ""
    found = json.loads(done.stdout)
    rows = {(row["load"], row["transport"]): row for row in found["rows"]}
    assert set(rows) == {
        (load, transport)
        for load in ("back-to-back", "paced-10ms")
        for transport in ("flipcall", "unix-socket")
    }
    for (load, transport), row in rows.items():
        assert row["case"] == "typed"
        assert row["calls"] == (50 if load == "back-to-back" else 5)
        assert 0 < row["p50_us"] <= row["p99_us"]
        both = row["client_cpu_us_per_call"] + row["server_cpu_us_per_call"]
        assert row["cpu_us_per_call"] == pytest.approx(both, abs=0.002)
        assert (row["switch"] is None) == (transport == "unix-socket")
        assert (row["calls_per_s"] is None) == (load == "paced-10ms")
        assert (row["policy"], row["placement"]) == ("balanced", "free")
    medians = [rows["back-to-back", transport]["p50_us"] for transport in ("unix-socket", "flipcall")]
    assert found["ratios"]["typed_socket_over_flipcall"] == pytest.approx(medians[0] / medians[1], abs=0.01)
    assert set(found["machine"]) >= {"kernel", "cpus_allowed", "load_average", "clock_ns", "spin_ns"}


def test_table(flipcall: Flipcall) -> None:
    """The machine's line, a row each, the ratios."""
    done = flipcall("bench", *FEW)
    assert done.returncode == 0
    machine, *rest = done.stdout.splitlines()
    assert "placement free, policy balanced" in machine
    assert [line.split()[:2] for line in rest[1:5]] == [["typed", "flipcall"], ["typed", "unix-socket"]] * 2
    assert [line.partition(":")[0] for line in rest[5:]] == [
        "typed_socket_over_flipcall",
        "paced_socket_over_flipcall",
    ]


def test_a_server_that_runs(flipcall: Flipcall, shop: tuple[str, Child]) -> None:
    """Its health service is called; it need not know of Echo."""
    found = json.loads(flipcall("bench", shop[0], *FEW, "--json").stdout)
    assert [row["case"] for row in found["rows"]] == ["health"] * 4
    assert "health_socket_over_flipcall" in found["ratios"]


def in_a_loop(path: str) -> None:
    """A server in an event loop; runs in the child."""
    import asyncio

    import flipcall
    import flipcall.asyncio

    class Geo(flipcall.Service):
        async def one(self) -> int:
            return 1

    ready = lambda: print("listening", flush=True)  # noqa: E731
    asyncio.run(flipcall.asyncio.serve(Geo(), path, ready=ready, transports=("window",)))


def test_a_server_without_a_socket_transport(flipcall: Flipcall, tmp_path: Path) -> None:
    """There is nothing to compare with: its own rows, and no ratio."""
    path = str(tmp_path / "s")
    with child(in_a_loop, path) as server:
        server.expect("listening")
        found = json.loads(flipcall("bench", path, *FEW, "--json").stdout)
    assert [row["transport"] for row in found["rows"]] == ["flipcall"] * 2
    assert found["ratios"] == {}


def test_nobody_there(flipcall: Flipcall, tmp_path: Path) -> None:
    """One line, and status 1; and 2 for what is no number of calls."""
    assert "cannot connect to" in one_line_error(flipcall("bench", tmp_path / "none"), 1)
    one_line_error(flipcall("bench", "--calls", "0"), 2)
