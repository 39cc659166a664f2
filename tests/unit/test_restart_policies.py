"""What follows the end of a container, decided by value; the words and the record of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from pycontain.engine import supervision
from pycontain.errors import InvalidInput, StoreError
from pycontain.model.container import ExitRecord, RestartPolicy, RestartRecord
from pycontain.model.restart import NAMES, parse_restart
from pycontain.store.layout import Layout
from pycontain.supervisor.restarts import Leave, Restart, after_failure, delay, next_step

if TYPE_CHECKING:
    from pathlib import Path

    from pycontain.store.layout import ContainerPaths

SECOND = 1_000_000_000
NOW = 1_800_000_000 * SECOND
ALWAYS = RestartPolicy(name="always")
UNLESS = RestartPolicy(name="unless-stopped")
FAILED = RestartPolicy(name="on-failure")


def ended(run: str = "a", code: int = 1, ran: int = SECOND, **more: object) -> ExitRecord:
    return ExitRecord(run=run, code=code, started=NOW - ran, finished=NOW, **more)  # type: ignore[arg-type]


def follow(
    policy: RestartPolicy | None, codes: list[int], ran: int = SECOND
) -> tuple[list[int], RestartRecord]:
    """The waits in milliseconds after ends with these codes, until it is left."""
    record, waits = RestartRecord(), []
    for at, code in enumerate(codes):
        step = next_step(policy, record, ended(str(at), code, ran), NOW)
        record = step.record
        if isinstance(step, Leave):
            break
        waits.append(step.after // 1_000_000)
    return waits, record


def test_the_first_restart_is_immediate_and_the_others_wait_longer_and_longer() -> None:
    waits, record = follow(ALWAYS, [0] * 14)
    assert waits[:6] == [0, 100, 200, 400, 800, 1600]
    assert waits[10:] == [51200, 60000, 60000, 60000]
    assert record.count == 14


def test_a_long_run_ends_the_series_but_not_the_count() -> None:
    _, record = follow(ALWAYS, [0] * 5)
    step = next_step(ALWAYS, record, ended("later", 0, 10 * SECOND), NOW)
    assert isinstance(step, Restart)
    assert (step.after, step.record.count, step.record.series) == (0, 6, 1)
    step = next_step(ALWAYS, record, ended("later", 0, 10 * SECOND - 1), NOW)
    assert isinstance(step, Restart)
    assert step.after > 0


@pytest.mark.parametrize(
    ("policy", "code", "wanted"),
    [
        (None, 1, False), (ALWAYS, 0, True), (ALWAYS, 1, True), (UNLESS, 0, True),
        (UNLESS, 1, True), (FAILED, 0, False), (FAILED, 1, True), (FAILED, 137, True),
    ],
)  # fmt: skip
def test_policies(policy: RestartPolicy | None, code: int, wanted: bool) -> None:
    waits, record = follow(policy, [code])
    assert bool(waits) == wanted
    assert supervision.is_due(record, "0") == wanted
    # What a user stopped is left, whatever the policy.
    record = RestartRecord(stopped=True, count=3)
    assert next_step(policy, record, ended(), NOW) == Leave(record)


def test_on_failure_gives_up() -> None:
    policy = RestartPolicy(name="on-failure", most=3)
    waits, record = follow(policy, [1] * 9)
    assert waits == [0, 100, 200]
    assert record.count == 3
    assert record.due == 0


def test_a_decision_is_taken_once() -> None:
    """A supervisor that was killed before it acted is followed by one that does what it wanted."""
    policy = RestartPolicy(name="on-failure", most=1)
    first = next_step(policy, RestartRecord(), ended(), NOW)
    assert isinstance(first, Restart)
    again = next_step(policy, first.record, ended(), NOW + SECOND)
    assert isinstance(again, Restart)
    assert again == Restart(first.record, 0)


def test_a_clock_that_was_set_back_makes_nobody_wait_longer() -> None:
    record = RestartRecord(count=4, series=4, run="a", due=NOW + 10_000 * SECOND)
    step = next_step(ALWAYS, record, ended(), NOW)
    assert isinstance(step, Restart)
    assert step.after == delay(3)


def test_another_policy_is_for_what_is_due_too() -> None:
    record = RestartRecord(count=1, series=1, run="a", due=NOW)
    assert next_step(None, record, ended(), NOW) == Leave(replace(record, due=0))
    assert isinstance(next_step(ALWAYS, record, ended(), NOW), Restart)


def test_what_was_left_stays_left() -> None:
    left = next_step(FAILED, RestartRecord(), ended(code=0), NOW).record
    assert next_step(ALWAYS, left, ended(code=0), NOW) == Leave(left)


def test_a_users_failed_start_is_not_tried_again_the_supervisors_is() -> None:
    failed = ended(code=127, reason="not started")
    assert isinstance(next_step(ALWAYS, RestartRecord(), failed, NOW), Leave)
    step = next_step(ALWAYS, RestartRecord(count=1, series=1, run="before"), failed, NOW)
    assert isinstance(step, Restart)
    assert step.after == delay(1)


def test_an_attempt_without_a_run_waits_too() -> None:
    policy = RestartPolicy(name="on-failure", most=2)
    record = RestartRecord(count=1, series=1, run="a", due=NOW)
    step = after_failure(policy, record, NOW)
    assert isinstance(step, Restart)
    assert (step.after, step.record.count, step.record.run) == (delay(1), 2, "a")
    assert isinstance(after_failure(policy, step.record, NOW), Leave)
    assert isinstance(after_failure(None, record, NOW), Leave)


runs = st.builds(
    ended,
    run=st.sampled_from("abc"),
    code=st.integers(0, 255),
    ran=st.integers(0, 60 * SECOND),
    reason=st.sampled_from((None, "not started", "reboot")),
)
policies = st.sampled_from((None, ALWAYS, UNLESS, FAILED, RestartPolicy(name="on-failure", most=2)))
stored = st.builds(
    RestartRecord,
    count=st.integers(0, 9),
    stopped=st.booleans(),
    held=st.booleans(),
    series=st.integers(0, 2000),
    run=st.sampled_from(("", "a", "b")),
    due=st.sampled_from((0, NOW - SECOND, NOW + SECOND, NOW * 2)),
)


@given(policies, stored, runs)
def test_any_decision_is_one_for_good(
    policy: RestartPolicy | None, record: RestartRecord, end: ExitRecord
) -> None:
    """Asked again, the answer is the same; and what a user stopped stays as it is."""
    first = next_step(policy, record, end, NOW)
    second = next_step(policy, first.record, end, NOW)
    assert type(second) is type(first)
    assert second.record == first.record
    if record.stopped or record.held or policy is None:
        assert isinstance(first, Leave)
    if isinstance(first, Restart):
        assert 0 <= first.after <= 60 * SECOND
        assert first.record.due > 0
        assert supervision.is_due(first.record, end.run)
        if policy is not None and policy.most and first.record != record:
            assert first.record.count <= policy.most


# ---- after a reboot ----


@pytest.mark.parametrize(
    ("policy", "stopped", "code", "wanted"),
    [
        (ALWAYS, False, 0, True), (ALWAYS, True, 0, True),
        (UNLESS, False, 0, True), (UNLESS, True, 255, False),
        (FAILED, False, 255, True), (FAILED, False, 0, False), (FAILED, True, 255, False),
    ],
)  # fmt: skip
def test_after_a_reboot(policy: RestartPolicy, stopped: bool, code: int, wanted: bool) -> None:
    record = RestartRecord(stopped=stopped)
    assert supervision.is_wanted_after_boot(policy, record, ended(code=code)) == wanted


@pytest.mark.parametrize("policy", [ALWAYS, UNLESS, FAILED])
def test_what_was_ended_with_all_others_waits_for_the_next_boot(policy: RestartPolicy) -> None:
    record = RestartRecord(held=True, count=3, due=NOW, run="a")
    for run in ("a", "b"):
        assert next_step(policy, record, ended(run), NOW) == Leave(record)
    # However it ended, it would have gone on.
    for code in (0, 1, 137):
        assert supervision.is_wanted_after_boot(policy, record, ended(code=code))


def test_what_a_user_had_stopped_is_not_held(paths: ContainerPaths) -> None:
    supervision.note_stopped(paths)
    supervision.note_held(paths)
    assert supervision.load(paths) == RestartRecord(stopped=True)
    supervision.begin(paths)
    supervision.save(paths, RestartRecord(count=2, due=NOW))
    supervision.note_held(paths)
    assert supervision.load(paths) == RestartRecord(count=2, held=True)
    supervision.note_kept(paths)
    assert supervision.load(paths) == RestartRecord(count=2)
    supervision.note_held(paths)
    supervision.note_stopped(paths)
    assert supervision.load(paths) == RestartRecord(count=2, stopped=True)


def test_after_a_reboot_what_gave_up_stays_so() -> None:
    policy = RestartPolicy(name="on-failure", most=3)
    assert not supervision.is_wanted_after_boot(policy, RestartRecord(count=3), ended())
    assert supervision.is_wanted_after_boot(policy, RestartRecord(count=2), ended())


# ---- words ----


@pytest.mark.parametrize(
    ("word", "policy"),
    [
        ("", None), ("no", None), ("no:0", None), ("always", ALWAYS), ("always:0", ALWAYS),
        ("unless-stopped", UNLESS), ("on-failure", FAILED), ("on-failure:0", FAILED),
        ("on-failure:", FAILED), ("on-failure:5", RestartPolicy(name="on-failure", most=5)),
    ],
)  # fmt: skip
def test_words(word: str, policy: RestartPolicy | None) -> None:
    assert parse_restart(word) == policy


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("never", "invalid restart policy 'never'"), (":3", "invalid restart policy ''"),
        ("on-failure:x", "must be an integer"),
        ("on-failure:1:2", "invalid restart policy format"),
        ("on-failure:-1", "cannot be negative"), ("always:1", "cannot be used with"),
        ("unless-stopped:2", "cannot be used with"), ("no:1", "cannot be used with"),
        ("ALWAYS", "invalid restart policy"), ("on-failure:1e3", "must be an integer"),
    ],
)  # fmt: skip
def test_words_that_are_none(word: str, reason: str) -> None:
    with pytest.raises(InvalidInput, match=reason):
        parse_restart(word)


@given(st.text(max_size=12) | st.sampled_from(NAMES).map(lambda name: f"{name}:7"))
def test_any_word_is_read_or_refused(word: str) -> None:
    try:
        policy = parse_restart(word)
    except InvalidInput:
        return
    assert policy is None or policy.name in NAMES


# ---- the record ----


@pytest.fixture
def paths(tmp_path: Path) -> ContainerPaths:
    layout = Layout(f"{tmp_path}/root", f"{tmp_path}/state")
    layout.prepare()
    found = layout.container("0" * 64)
    (tmp_path / "root/containers" / ("0" * 64)).mkdir()
    return found


@pytest.mark.parametrize(
    "record",
    [
        RestartRecord(),
        RestartRecord(count=4, held=True, series=2, run="0123456789abcdef"),
        RestartRecord(count=3, stopped=True, series=2, run="0123456789abcdef", due=NOW),
    ],
)
def test_the_record_is_read_as_it_was_written(paths: ContainerPaths, record: RestartRecord) -> None:
    assert supervision.load(paths) == RestartRecord()
    supervision.save(paths, record)
    assert supervision.load(paths) == record
    supervision.note_stopped(paths)
    assert supervision.load(paths) == replace(record, stopped=True, held=False, due=0)
    supervision.begin(paths)
    assert supervision.load(paths) == RestartRecord()


def test_a_damaged_record_is_told(paths: ContainerPaths) -> None:
    with open(f"{paths.folder}/restart", "w") as file:
        file.write("what")
    with pytest.raises(StoreError, match="damaged"):
        supervision.load(paths)


def test_nobody_is_the_supervisor_of_an_empty_store(tmp_path: Path) -> None:
    layout = Layout(f"{tmp_path}/root", f"{tmp_path}/state")
    layout.prepare()
    assert supervision.recorded(layout) is None
    assert not supervision.lives(layout)
    with open(f"{layout.state}/supervisor", "w") as file:
        file.write("what")
    assert not supervision.lives(layout)
