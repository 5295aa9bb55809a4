"""Process group: collective operations of two processes, and how processes end."""

from __future__ import annotations

import os
import signal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from processes import ProcessExited, run_in_processes

from anoframe.distributed import process_group
from anoframe.distributed.process_group import Group
from anoframe.errors import AnoframeError

pytestmark = pytest.mark.slow

SINGLE = Group(torch.device("cpu"))


@pytest.fixture
def torchrun_environment(monkeypatch):
    """Function that sets the environment variables that torchrun gives to a process."""

    def set_variables(rank=0, size=2, local_rank=0, local_size=2):
        values = {"RANK": rank, "WORLD_SIZE": size, "LOCAL_RANK": local_rank, "LOCAL_WORLD_SIZE": local_size}
        for name, value in values.items():
            monkeypatch.setenv(name, str(value))

    return set_variables


# ------------------------------------------------------------------------------------------------ joining


def test_process_without_torchrun_is_single():
    group = process_group.join("cpu")
    assert (group.rank, group.size, group.is_main, group.is_single) == (0, 1, True, True)


def test_only_process_of_torchrun_is_single(torchrun_environment):
    torchrun_environment(size=1, local_size=1)
    try:
        assert process_group.join("cpu").is_single
    finally:
        process_group.leave()


def test_environment_tells_the_main_process_before_joining(torchrun_environment):
    torchrun_environment(rank=2, size=4, local_rank=0)
    assert (process_group.is_main_process(), process_group.is_local_main()) == (False, True)


def test_variable_that_is_not_a_number_raises_an_error(torchrun_environment):
    torchrun_environment(rank="first")
    with pytest.raises(AnoframeError, match="RANK='first'"):
        process_group.join("cpu")


def test_joining_again_with_another_device_raises_an_error(torchrun_environment, monkeypatch):
    torchrun_environment(size=1, local_size=1)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    try:
        process_group.join("cpu")
        with pytest.raises(AnoframeError, match="this process already uses cpu"):
            process_group.join("0")
    finally:
        process_group.leave()


# ------------------------------------------------------------------------------------------------ collective operations


def _collective_operations(group):
    tensor = torch.full((2, 3), float(group.rank)).t()  # not contiguous
    group.broadcast_tensors([tensor, torch.empty(0), torch.tensor(group.rank)])
    rows = group.shard(5, 2)
    array = np.arange(20, dtype=np.float32).reshape(5, 4)
    return {
        "ranks": (group.rank, group.size, group.is_main),
        "broadcast": group.broadcast({"from": group.rank}),
        "flag": group.broadcast_flag(group.rank == 0),
        "flag of another process": group.broadcast_flag(group.rank == 1),
        "gathered": group.all_gather(group.rank),
        "sums": group.all_reduce_values([1.5, group.rank]),
        "copied": tensor.tolist(),
        "rows": group.gather_rows(array[rows[group.rank]], rows),
        "flag rows": group.gather_rows(np.array([row % 2 == 0 for row in rows[group.rank]]), rows),
        "rows of one": group.gather_rows(np.ones((1 - group.rank, 2)), [[0], []]),
    }


@pytest.fixture(scope="module")
def results(process_pool):
    return process_pool.run(_collective_operations)


def test_each_process_has_its_rank(results):
    assert [result["ranks"] for result in results] == [(0, 2, True), (1, 2, False)]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("broadcast", {"from": 0}),
        ("flag", True),
        ("flag of another process", False),
        ("gathered", [0, 1]),
        ("sums", [3.0, 1.0]),
        ("copied", [[0.0, 0.0]] * 3),
    ],
)
def test_all_processes_get_the_same(results, name, expected):
    assert [result[name] for result in results] == [expected, expected]


def test_rows_are_gathered_in_order_on_rank_0(results):
    np.testing.assert_array_equal(results[0]["rows"], np.arange(20).reshape(5, 4))


def test_booleans_are_gathered(results):
    assert results[0]["flag rows"].tolist() == [True, False, True, False, True]


def test_process_without_rows_sends_nothing(results):
    assert results[0]["rows of one"].tolist() == [[1.0, 1.0]]


def test_other_processes_get_no_gathered_rows(results):
    assert (results[1]["rows"], results[1]["rows of one"]) == (None, None)


def test_operations_of_a_single_process_return_its_own_values():
    item, array = {"a": 1}, np.ones((3, 2))
    SINGLE.barrier()
    assert SINGLE.broadcast(item) is item
    assert (SINGLE.all_gather(item), SINGLE.all_reduce_values([2.0])) == ([item], [2.0])
    np.testing.assert_array_equal(SINGLE.gather_rows(array, [[0, 1, 2]]), array)


@given(count=st.integers(1, 60), size=st.integers(1, 20), processes=st.integers(1, 9))
def test_shards_have_each_row_once_and_whole_batches(count, size, processes):
    rows = Group(torch.device("cpu"), 0, processes).shard(count, size)
    assert len(rows) == processes
    assert sorted(row for own in rows for row in own) == list(range(count))
    batches = {tuple(range(start, min(start + size, count))) for start in range(0, count, size)}
    assert {tuple(own[i : i + size]) for own in rows for i in range(0, len(own), size)} == batches


# ------------------------------------------------------------------------------------------------ ending


def _fail_together(group):
    group.barrier()
    return process_group.should_report_error()


def test_one_of_several_failing_processes_reports_its_error(process_pool):
    assert sorted(process_pool.run(_fail_together)) == [False, True]


def _exit_of_rank_1(group, method):
    if group.rank == 1:
        os.kill(os.getpid(), signal.SIGKILL) if method == "killed" else process_group.exit_immediately(2)
    try:
        group.barrier()
    except RuntimeError as error:
        os._exit(7 if process_group.is_lost_peer(error) else 8)


@pytest.mark.parametrize(("method", "status"), [("killed", -9), ("exited", 2)])
def test_process_notices_at_once_that_another_has_ended(method, status):
    with pytest.raises(ProcessExited) as error:
        run_in_processes(_exit_of_rank_1, method)
    assert error.value.args[0] == [7, status]


def test_single_process_has_no_lost_peer():
    assert not process_group.is_lost_peer(RuntimeError("gloo"))


def test_single_process_reports_its_error_and_does_not_exit():
    assert process_group.should_report_error()
    process_group.exit_immediately(3)
