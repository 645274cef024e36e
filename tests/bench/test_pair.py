"""Pairs of Python endpoints in processes of their own: every placement, load and switch this machine has."""

from __future__ import annotations

import psutil
import pytest

from bench.client import ClientProcess
from bench.loads import Load, around
from bench.measure import QUICK
from bench.peer import ClientConfig
from bench.placement import Placement, UnavailableError
from bench.policies import FUTEX, PRESETS, policy_named, require_switch
from bench.process import PeerError
from flipcall.switch import SWITCHES
from tests.leaks import children

SWITCH_NAMES = [switch.name for switch in SWITCHES]


@pytest.mark.parametrize("placement", [Placement.FREE, Placement.ONE_CPU, Placement.TWO_CPUS])
@pytest.mark.parametrize("switch", SWITCH_NAMES)
def test_a_pair_is_measured_under_one_load_after_another(switch: str, placement: Placement) -> None:
    """Opened once, it has figures of both sides under each load; its processes go with it."""
    config = ClientConfig(policy="frugal", switch=switch, placement=placement.value)
    try:
        require_switch(switch)
        client = ClientProcess(config)
    except UnavailableError as reason:
        pytest.skip(str(reason))
    with client:
        for load in Load:
            with around(load):
                sample = client.run(load, QUICK)
            assert sample.p50
            assert sample.server_cpu is not None
            assert len(sample.stamps) == (QUICK.paced_calls(load.pause_us) if load.pause_us else 0)
        everyone = children(recursive=True)
        assert len(everyone) == 2
    _, alive = psutil.wait_procs(everyone, timeout=10)
    assert not alive


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_has_its_pair(preset: str) -> None:
    """Both sides follow the same policy; same_cpu goes by itself where both ask for it."""
    placement = Placement.SAME_CPU if preset == "same_cpu" else Placement.FREE
    try:
        policy_named(preset)
    except UnavailableError as reason:
        pytest.skip(str(reason))
    with ClientProcess(ClientConfig(policy=preset, switch=FUTEX, placement=placement.value)) as client:
        assert client.run(Load.BACK_TO_BACK, QUICK).p50


def test_what_cannot_be_had_is_told_by_the_child() -> None:
    """The reason crosses from the process that found it out, as what it is."""
    missing = [switch for switch in SWITCHES if not switch.probe()[0]]
    if not missing:
        pytest.skip("this machine has every switch")
    with pytest.raises(UnavailableError, match=r"\S"):
        ClientProcess(ClientConfig(policy="frugal", switch=missing[0].name, placement="free"))
    assert not children(recursive=True)


def test_a_client_that_fails_is_an_error_and_not_a_hang() -> None:
    """Nonsense in, PeerError out, nobody left."""
    with pytest.raises(PeerError):
        ClientProcess(ClientConfig(policy="frugal", switch=FUTEX, placement="nowhere"))
    assert not children(recursive=True)
