"""flipcall doctor: true statements about this machine, for people and for programs."""

from __future__ import annotations

import json
import os
import platform
import re

import pytest
from click.testing import CliRunner

from flipcall import kernel
from flipcall.cli import doctor
from tests.cli.conftest import Flipcall


def test_json_says_what_the_probes_say(flipcall: Flipcall) -> None:
    """Every probe is in the document, with its answer, its reason and what asks for it."""
    done = flipcall("doctor", "--json")
    assert done.stderr == ""
    found = json.loads(done.stdout)
    assert found["machine"]["kernel"] == platform.release()
    assert found["machine"]["cpus_allowed"] == sorted(os.sched_getaffinity(0))
    told = {f["name"]: (f["available"], f["value"], f["reason"]) for f in found["features"]}
    assert told == {f.name: (f.available, f.value, f.reason) for f in kernel.features()}
    assert all(f["needed_by"] for f in found["features"])
    assert found["wait"]["spins"] == kernel.spinning_allowed()[0]
    assert done.returncode == (0 if found["usable"] else 1)


def test_table_names_every_feature(flipcall: Flipcall) -> None:
    """The table has a line for every feature, not broken when it goes into a pipe."""
    done = flipcall("doctor")
    lines = done.stdout.splitlines()
    for feature in kernel.features():
        (line,) = (line for line in lines if line.startswith(f"{feature.name} "))
        assert feature.reason in line


def test_narrow_terminal_keeps_names(flipcall: Flipcall) -> None:
    """With few columns reasons are wrapped; names are not."""
    done = flipcall("doctor", env={"COLUMNS": "60"})
    assert all(len(line) <= 60 for line in done.stdout.splitlines())
    assert "seccomp_notify_sync_wake" in done.stdout


@pytest.mark.parametrize("as_json", [True, False])
def test_missing_requirement_is_status_1(monkeypatch: pytest.MonkeyPatch, as_json: bool) -> None:
    """Without something flipcall cannot do without, doctor says so by its exit status as well."""
    features = kernel.features()
    gone = [
        kernel.Feature(f.name, f.available and f.name != "memfd_sealing", f.reason, f.value) for f in features
    ]
    monkeypatch.setattr(kernel, "features", lambda: gone)
    result = CliRunner().invoke(doctor.command, ["--json"] if as_json else [], standalone_mode=False)
    assert result.exception is None
    assert result.return_value == 1
    if as_json:
        assert json.loads(result.output)["usable"] is False
    else:
        assert re.search(r"^memfd_sealing +NO ", result.output, re.MULTILINE)


def test_no_spinning_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    """On one CPU the ladder begins without spinning, and the reason is printed."""
    monkeypatch.setattr(kernel, "spinning_allowed", lambda: (False, "only one of them"))
    result = CliRunner().invoke(doctor.command, [])
    assert "no spinning → yield 2 times → sleep by futex" in result.output
    assert "spinning: no: only one of them" in result.output


def test_every_probe_is_explained() -> None:
    """No feature is probed without a use being named."""
    assert {f.name for f in kernel.features()} == set(doctor._NEEDED_BY)
