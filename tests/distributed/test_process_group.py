"""Processes that work together: what each gets, and how they end."""

from __future__ import annotations

import os
import signal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some
from processes import Ended, together

from anoframe.distributed import process_group as distributed
from anoframe.distributed.process_group import Group
from anoframe.errors import AnoframeError

ALONE = Group(torch.device("cpu"))


@pytest.fixture
def started(monkeypatch):
    """Sets what torchrun tells a process."""

    def start(rank=0, size=2, local_rank=0, local_size=2):
        values = {"RANK": rank, "WORLD_SIZE": size, "LOCAL_RANK": local_rank, "LOCAL_WORLD_SIZE": local_size}
        for name, value in values.items():
            monkeypatch.setenv(name, str(value))

    return start


# ------------------------------------------------------------------------------------------------ who is who


def test_a_process_that_nobody_started_is_alone():
    group = distributed.join("cpu")
    assert (group.rank, group.size, group.is_main, group.is_single) == (0, 1, True, True)


def test_a_process_that_torchrun_started_by_itself_is_alone(started):
    started(size=1, local_size=1)
    try:
        assert distributed.join("cpu").is_single
    finally:
        distributed.leave()


def test_the_environment_says_who_leads(started):
    started(rank=2, size=4, local_rank=0)
    assert (distributed.is_main_process(), distributed.is_local_main()) == (False, True)


def test_a_number_that_is_none_is_named(started):
    started(rank="first")
    with pytest.raises(AnoframeError, match="RANK='first'"):
        distributed.join("cpu")


def test_a_process_stays_on_its_device(started, monkeypatch):
    started(size=1, local_size=1)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    try:
        distributed.join("cpu")
        with pytest.raises(AnoframeError, match="works on cpu already"):
            distributed.join("0")
    finally:
        distributed.leave()


# ------------------------------------------------------------------------------------------------ what is shared


def _exchange(group):
    tensor = torch.full((2, 3), float(group.rank)).t()  # not contiguous
    group.broadcast_tensors([tensor, torch.empty(0), torch.tensor(group.rank)])
    rows = group.shard(5, 2)
    everything = np.arange(20, dtype=np.float32).reshape(5, 4)
    return {
        "who": (group.rank, group.size, group.is_main),
        "broadcast": group.broadcast({"from": group.rank}),
        "collected": group.all_gather(group.rank),
        "total": group.all_reduce_values([1.5, group.rank]),
        "copied": tensor.tolist(),
        "gathered": group.gather_rows(everything[rows[group.rank]], rows),
        "flags": group.gather_rows(np.array([row % 2 == 0 for row in rows[group.rank]]), rows),
        "none": group.gather_rows(np.ones((1 - group.rank, 2)), [[0], []]),
    }


@pytest.fixture(scope="module")
def exchanged():
    return together(_exchange)


def test_each_process_has_its_rank(exchanged):
    assert [one["who"] for one in exchanged] == [(0, 2, True), (1, 2, False)]


@pytest.mark.parametrize(
    ("name", "expected"),
    [("broadcast", {"from": 0}), ("collected", [0, 1]), ("total", [3.0, 1.0]), ("copied", [[0.0, 0.0]] * 3)],
)
def test_all_get_the_same(exchanged, name, expected):
    assert [one[name] for one in exchanged] == [expected, expected]


def test_rows_are_whole_and_in_order_where_they_are_gathered(exchanged):
    np.testing.assert_array_equal(exchanged[0]["gathered"], np.arange(20).reshape(5, 4))


def test_bits_are_gathered_too(exchanged):
    assert exchanged[0]["flags"].tolist() == [True, False, True, False, True]


def test_a_process_without_rows_sends_none(exchanged):
    assert exchanged[0]["none"].tolist() == [[1.0, 1.0]]


def test_others_get_nothing_of_what_is_gathered(exchanged):
    assert (exchanged[1]["gathered"], exchanged[1]["none"]) == (None, None)


def test_alone_everything_is_one_s_own():
    item, array = {"a": 1}, np.ones((3, 2))
    ALONE.barrier()
    assert ALONE.broadcast(item) is item
    assert (ALONE.all_gather(item), ALONE.all_reduce_values([2.0])) == ([item], [2.0])
    np.testing.assert_array_equal(ALONE.gather_rows(array, [[0, 1, 2]]), array)


@given(count=some.integers(1, 60), size=some.integers(1, 20), processes=some.integers(1, 9))
def test_each_row_is_dealt_once_and_batches_stay_together(count, size, processes):
    rows = Group(torch.device("cpu"), 0, processes).shard(count, size)
    assert len(rows) == processes
    assert sorted(row for own in rows for row in own) == list(range(count))
    whole = {tuple(range(start, min(start + size, count))) for start in range(0, count, size)}
    assert {tuple(own[i : i + size]) for own in rows for i in range(0, len(own), size)} == whole


# ------------------------------------------------------------------------------------------------ how they end


def _first_to_fail(group):
    group.barrier()
    return distributed.speaks()


def test_of_several_that_fail_one_speaks():
    assert sorted(together(_first_to_fail)) == [False, True]


def _left_by_rank_1(group, how):
    if group.rank == 1:
        os.kill(os.getpid(), signal.SIGKILL) if how == "killed" else distributed.quit_at_once(2)
    try:
        group.barrier()
    except RuntimeError as error:
        os._exit(7 if distributed.is_lost_peer(error) else 8)


@pytest.mark.parametrize(("how", "status"), [("killed", -9), ("quit", 2)])
def test_who_is_left_notices_at_once(how, status):
    with pytest.raises(Ended) as ended:
        together(_left_by_rank_1, how)
    assert ended.value.args[0] == [7, status]


def test_another_error_is_no_lost_peer():
    assert not distributed.is_lost_peer(RuntimeError("gloo"))  # alone: there is none to lose


def test_alone_an_error_is_told_and_ends_nothing():
    assert distributed.speaks()
    distributed.quit_at_once(3)
