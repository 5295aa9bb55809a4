"""One image at a time."""

from __future__ import annotations

import threading

import pytest
import torch

from anoframe.utils.parallel import map_images


def test_each_image_comes_alone_and_in_order():
    found = map_images(lambda one: (len(one), float(one.sum())), torch.arange(6.0)[:, None])

    assert found == [(1, float(i)) for i in range(6)]


def test_a_call_has_one_thread_and_the_caller_keeps_its_own():
    before = torch.get_num_threads()
    threads = map_images(lambda one: torch.get_num_threads(), torch.zeros(4, 1))

    assert (threads, torch.get_num_threads()) == ([1] * 4, before)


def test_no_call_records_a_graph():
    weight = torch.ones(1, requires_grad=True)

    assert not any(map_images(lambda one: (one * weight).requires_grad, torch.zeros(3, 1)))


def test_an_error_reaches_the_caller():
    def fail(one):
        raise KeyError("this one")

    with pytest.raises(KeyError, match="this one"):
        map_images(fail, torch.zeros(2, 1))


def test_threads_made_later_start_with_the_callers_number():
    before = torch.get_num_threads()
    map_images(len, torch.zeros(2, 1))
    seen: list[int] = []
    thread = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    thread.start()
    thread.join()

    assert seen == [before]
