"""Functions that are called with one image at a time."""

from __future__ import annotations

import threading

import pytest
import torch

from anoframe.utils.parallel import map_images, map_images_on_cpu

each_map = pytest.mark.parametrize("map_function", [map_images, map_images_on_cpu])


@each_map
def test_each_image_is_passed_alone_and_in_order(map_function):
    results = map_function(lambda image: (len(image), float(image.sum())), torch.arange(6.0)[:, None])

    assert results == [(1, float(i)) for i in range(6)]


@each_map
def test_a_call_has_one_thread_and_the_caller_keeps_its_own(map_function):
    before = torch.get_num_threads()
    threads = map_function(lambda image: torch.get_num_threads(), torch.zeros(4, 1))

    assert (threads, torch.get_num_threads()) == ([1] * 4, before)


@each_map
def test_no_call_records_a_graph(map_function):
    weight = torch.ones(1, requires_grad=True)

    assert not any(map_function(lambda image: (image * weight).requires_grad, torch.zeros(3, 1)))


def test_lists_tuples_and_dicts_of_tensors_are_split_alike():
    batch = {"levels": [torch.arange(3.0), 10 + torch.arange(3.0)], "pair": (torch.arange(3), torch.arange(3))}
    results = map_images(lambda image: image, batch)

    assert [float(image["levels"][1]) for image in results] == [10, 11, 12]
    assert [tuple(map(int, image["pair"])) for image in results] == [(0, 0), (1, 1), (2, 2)]


def test_a_batch_on_another_device_is_one_call_or_one_call_per_image():
    batch = torch.zeros(4, 1, device="meta")

    assert map_images_on_cpu(len, batch) == [4]
    assert map_images(len, batch) == [1] * 4


def test_an_error_reaches_the_caller():
    def fail(image):
        raise KeyError("this image")

    with pytest.raises(KeyError, match="this image"):
        map_images(fail, torch.zeros(2, 1))


def test_threads_started_later_begin_with_the_callers_number_of_threads():
    before = torch.get_num_threads()
    map_images(len, torch.zeros(2, 1))
    observed: list[int] = []
    thread = threading.Thread(target=lambda: observed.append(torch.get_num_threads()))
    thread.start()
    thread.join()

    assert observed == [before]
