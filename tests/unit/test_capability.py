"""Capabilities: the table, the masks and the rules of --cap-add and --cap-drop."""

import os
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycontain.errors import InvalidInput, NotPermitted, NotSupported
from pycontain.kernel import capability

ALL = (1 << len(capability.NAMES)) - 1

names = st.sets(st.sampled_from(capability.NAMES))


def resolve(
    add: Iterable[str] = (),
    drop: Iterable[str] = (),
    privileged: bool = False,
    bounding: int = ALL,
) -> tuple[str, ...]:
    return capability.resolve(add, drop, privileged, bounding=bounding)


@pytest.mark.parametrize(
    ("number", "name"),
    [
        (0, "CAP_CHOWN"),
        (12, "CAP_NET_ADMIN"),
        (21, "CAP_SYS_ADMIN"),
        (27, "CAP_MKNOD"),
        (31, "CAP_SETFCAP"),
        (37, "CAP_AUDIT_READ"),
        (40, "CAP_CHECKPOINT_RESTORE"),
    ],
)
def test_numbers_are_the_kernels(number: int, name: str) -> None:
    assert capability.NUMBERS[name] == number
    assert capability.mask([name]) == 1 << number


def test_table_agrees_with_the_kernel_header() -> None:
    path = "/usr/include/linux/capability.h"
    if not os.path.exists(path):
        pytest.skip("linux-libc-dev is not installed")
    with open(path) as file:
        lines = [line.split() for line in file if line.startswith("#define CAP_")]
    found = {line[1]: int(line[2]) for line in lines if line[2:] and line[2].isdecimal()}
    assert found["CAP_SYS_ADMIN"] == 21
    assert found.items() <= capability.NUMBERS.items()


def test_default_is_dockers() -> None:
    # The mask that `docker run busybox grep CapBnd /proc/self/status` shows.
    assert capability.mask(capability.DEFAULT) == 0xA80425FB


@given(names)
def test_names_and_mask_are_inverse(some: set[str]) -> None:
    assert set(capability.names(capability.mask(some))) == some


def test_bits_of_a_newer_kernel_have_no_name() -> None:
    assert capability.names(1 << 63 | 1) == ("CAP_CHOWN",)


def test_unknown_name_in_a_mask() -> None:
    with pytest.raises(InvalidInput, match='invalid capability: "CHOWN"'):
        capability.mask(["CHOWN"])


@pytest.mark.parametrize("word", ["net_admin", "NET_ADMIN", "cap_net_admin", "Cap_Net_Admin"])
def test_words_of_the_user(word: str) -> None:
    assert "CAP_NET_ADMIN" in resolve(add=[word])


@pytest.mark.parametrize("word", ["foo", "", "cap_", "CAP_ALL", "CAP_CAP_CHOWN"])
@pytest.mark.parametrize("flag", ["add", "drop"])
@pytest.mark.parametrize("privileged", [False, True])
def test_unknown_word(word: str, flag: str, privileged: bool) -> None:
    words = {"add": [], "drop": [], flag: [word]}
    with pytest.raises(InvalidInput) as caught:
        resolve(words["add"], words["drop"], privileged)
    assert str(caught.value) == f'invalid capability: "{word}"'


@pytest.mark.parametrize(
    ("add", "drop", "expected"),
    [
        ([], [], set(capability.DEFAULT)),
        (["SYS_TIME"], [], {*capability.DEFAULT, "CAP_SYS_TIME"}),
        ([], ["CHOWN"], set(capability.DEFAULT) - {"CAP_CHOWN"}),
        ([], ["ALL"], set()),
        (["CHOWN"], ["all"], {"CAP_CHOWN"}),
        (["all"], [], set(capability.NAMES)),
        (["ALL"], ["CHOWN", "BPF"], set(capability.NAMES) - {"CAP_CHOWN", "CAP_BPF"}),
        (["ALL"], ["ALL"], set(capability.NAMES)),
        (["CHOWN"], ["CHOWN"], set(capability.DEFAULT)),  # dropped, then added
        (["SYS_TIME"], ["SYS_TIME"], {*capability.DEFAULT, "CAP_SYS_TIME"}),
        (["ALL", "CHOWN"], ["CHOWN"], set(capability.NAMES) - {"CAP_CHOWN"}),
        (["CHOWN", "CHOWN"], ["ALL", "KILL"], {"CAP_CHOWN"}),
    ],
)
def test_add_and_drop(add: list[str], drop: list[str], expected: set[str]) -> None:
    result = resolve(add, drop)
    assert set(result) == expected
    assert list(result) == sorted(expected, key=capability.NUMBERS.__getitem__)


def test_privileged_is_all_whatever_is_dropped() -> None:
    assert resolve(drop=["ALL"], privileged=True) == capability.NAMES


def test_defaults_outside_of_the_bounding_set_are_left_out() -> None:
    limit = ALL & ~capability.mask(["CAP_MKNOD", "CAP_BPF"])
    assert resolve(bounding=limit) == tuple(c for c in capability.DEFAULT if c != "CAP_MKNOD")
    assert "CAP_BPF" not in resolve(add=["ALL"], bounding=limit)
    assert "CAP_BPF" not in resolve(privileged=True, bounding=limit)


@pytest.mark.parametrize(("add", "drop"), [(["BPF"], []), (["bpf"], ["ALL"]), (["ALL", "BPF"], [])])
def test_a_named_one_outside_of_the_bounding_set_is_refused(
    add: list[str], drop: list[str]
) -> None:
    with pytest.raises(NotPermitted, match="CAP_BPF"):
        resolve(add, drop, bounding=ALL & ~capability.mask(["CAP_BPF"]))


def test_a_named_one_that_the_kernel_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capability, "last_cap", lambda: 38)
    with pytest.raises(NotSupported, match="CAP_BPF"):
        resolve(["BPF"], bounding=(1 << 39) - 1)


@given(names, names, names)
def test_result_stays_within_the_bounding_set(
    add: set[str], drop: set[str], bounded: set[str]
) -> None:
    limit = capability.mask(bounded)
    result = set(resolve(add & bounded, drop, bounding=limit))
    assert result <= bounded
    assert add & bounded <= result
    assert not (drop - add) & result


def test_bounding_set_is_this_threads() -> None:
    with open("/proc/thread-self/status") as file:
        line = next(line for line in file if line.startswith("CapBnd:"))
    assert capability.bounding_set() == int(line.split()[1], 16)
    assert capability.bounding_set() >> (capability.last_cap() + 1) == 0
