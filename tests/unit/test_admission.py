"""Pods are admitted while the machine has what they request."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycontain.errors import Conflict, InvalidState, PycontainError
from pycontain.pod.admission import Capacity, admit, capacity, parse_quota
from pycontain.pod.plan import Requests

GIB = 1 << 30
MACHINE = Capacity(Decimal(2), 4 * GIB)


def asks(cpu: str = "0", memory: int = 0) -> Requests:
    return Requests(Decimal(cpu), memory)


def test_all_of_a_machine_can_be_had() -> None:
    admit("web", asks("2", 4 * GIB), {}, MACHINE)
    admit("web", asks("1.5", GIB), {"db": asks("0.5", 3 * GIB)}, MACHINE)


def test_who_has_the_rest_is_named() -> None:
    others = {"db": asks("0.5"), "cache": asks("0", GIB)}
    with pytest.raises(Conflict) as caught:
        admit("web", asks("2"), others, MACHINE)
    assert caught.value.message == "pod web: requests 2 cpu: 1.5 of 2 are free"
    assert caught.value.hint == "the rest is requested by pod db"


def test_more_than_the_machine_has_is_nobodys_fault() -> None:
    with pytest.raises(InvalidState) as caught:
        admit("web", asks("3"), {"db": asks("0.5")}, MACHINE)
    assert caught.value.message == "pod web: requests 3 cpu: 1.5 of 2 are free"
    assert caught.value.hint is not None
    assert "this machine has not more" in caught.value.hint


def test_all_that_is_short_is_told() -> None:
    others = {"db": asks("2", GIB), "cache": asks("0", 2560 << 20)}
    with pytest.raises(Conflict) as caught:
        admit("web", asks("100e-3", GIB), others, MACHINE)
    assert caught.value.message == (
        "pod web: requests 0.1 cpu: 0 of 2 are free; requests 1Gi memory: 512Mi of 4Gi are free"
    )
    assert caught.value.hint == "the rest is requested by pod cache, pod db"


def test_what_is_not_requested_need_not_be_there() -> None:
    """As in a cluster: a pod that asks for nothing is always admitted."""
    full = {"db": asks("2", 4 * GIB)}
    admit("web", asks(), full, MACHINE)
    with pytest.raises(Conflict, match="requests 1 memory: 0 of 4Gi"):
        admit("web", asks("0", 1), full, MACHINE)


def test_a_pod_is_not_counted_against_itself() -> None:
    admit("web", asks("2"), {"web": asks("2")}, MACHINE)


def test_many_holders_are_not_all_named() -> None:
    others = {f"p{number}": asks("0.2") for number in range(10)}
    with pytest.raises(Conflict) as caught:
        admit("web", asks("1"), others, MACHINE)
    assert caught.value.hint == (
        "the rest is requested by pod p0, pod p1, pod p2, pod p3, pod p4 and 5 more"
    )


requests = st.builds(
    Requests,
    st.decimals("0", "3", places=3, allow_nan=False),
    st.integers(0, 5 * GIB),
)


@given(st.lists(requests, max_size=12))
def test_those_that_are_admitted_never_have_more_than_there_is(asked: list[Requests]) -> None:
    admitted: dict[str, Requests] = {}
    for number, wanted in enumerate(asked):
        name = f"p{number}"
        try:
            admit(name, wanted, admitted, MACHINE)
        except PycontainError:
            cpu = sum((one.cpu for one in admitted.values()), wanted.cpu)
            memory = sum(one.memory for one in admitted.values()) + wanted.memory
            over = [wanted.cpu and cpu > MACHINE.cpu, wanted.memory and memory > MACHINE.memory]
            assert any(over)
        else:
            admitted[name] = wanted
    assert sum((one.cpu for one in admitted.values()), Decimal()) <= MACHINE.cpu
    assert sum(one.memory for one in admitted.values()) <= MACHINE.memory


@pytest.mark.parametrize(
    ("text", "cpu"),
    [("", "4"), ("max 100000\n", "4"), ("150000 100000\n", "1.5"), ("1000 0", "4")],
)
def test_a_quota(text: str, cpu: str) -> None:
    assert parse_quota(text, Decimal(4)) == Decimal(cpu)


@pytest.mark.parametrize("rootless", [False, True])
def test_this_machine(rootless: bool) -> None:
    found = capacity(rootless=rootless)
    assert 0 < found.cpu <= 4096
    assert 1 << 20 < found.memory < 1 << 50
