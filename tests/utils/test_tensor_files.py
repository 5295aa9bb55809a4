"""Files of tensors from untrusted sources, and fingerprints of tensors."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from anoframe.backbones.weights import load_state
from anoframe.errors import AnoframeError
from anoframe.utils.tensor_files import fingerprint, read_tensors

TENSORS = {"a": torch.tensor([0.0, 1.0, 2.0, 3.0]), "b": torch.arange(6.0).reshape(2, 3)}


class Payload:
    """A pickle that creates a file when Python's pickle loads it."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def load_weights(path):
    return load_state("test_resnet", str(path))


def save_pickle(content, path):
    path.write_bytes(pickle.dumps(content, protocol=2))


# ------------------------------------------------------------------------------------------------ pickles


def test_pickle_runs_the_payload_of_these_tests(tmp_path):
    pickle.loads(pickle.dumps(Payload(tmp_path / "payload_was_run")))
    assert (tmp_path / "payload_was_run").exists()


@pytest.mark.parametrize("read", [read_tensors, load_weights])
@pytest.mark.parametrize("write", [torch.save, save_pickle])
def test_a_pickle_with_more_than_tensors_is_an_error_and_is_not_run(write, read, tmp_path):
    write({"layer1.weight": Payload(tmp_path / "payload_was_run")}, tmp_path / "evil.pth")
    with pytest.raises(AnoframeError, match=r"evil\.pth: holds more than tensors and was not loaded"):
        read(tmp_path / "evil.pth")
    assert not (tmp_path / "payload_was_run").exists()


@pytest.mark.parametrize("write", [torch.save, lambda state, path: path.write_bytes(pickle.dumps(state))])
def test_error_of_a_pickle_called_safetensors_tells_how_to_convert_it(write, tmp_path):
    write({"a": torch.zeros(1)}, tmp_path / "weights.safetensors")
    with pytest.raises(
        AnoframeError, match=r"weights\.safetensors: a pickle, not safetensors.* safetensors\.torch\.save_file"
    ):
        read_tensors(tmp_path / "weights.safetensors")


# ------------------------------------------------------------------------------------------------ content


def test_safetensors_with_another_extension_are_read(tmp_path):
    save_file(TENSORS, tmp_path / "weights.pth")
    tensors = read_tensors(tmp_path / "weights.pth")
    assert tensors.keys() == TENSORS.keys()
    assert all(torch.equal(tensors[name], TENSORS[name]) for name in TENSORS)


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
@pytest.mark.parametrize("content", [b"", b"no weights at all"])
def test_error_names_a_damaged_file(name, content, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(AnoframeError, match=name):
        read_tensors(tmp_path / name)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_values_that_are_not_finite_are_an_error(value, tmp_path):
    save_file({"fine": torch.zeros(2), "bad": torch.tensor([0.0, value])}, tmp_path / "weights.safetensors")
    with pytest.raises(AnoframeError, match=r"its tensor bad holds values that are not finite"):
        read_tensors(tmp_path / "weights.safetensors")


# ------------------------------------------------------------------------------------------------ fingerprint


def test_the_fingerprint_does_not_depend_on_the_order_of_the_tensors():
    assert fingerprint(dict(reversed(TENSORS.items()))) == fingerprint(TENSORS)


@pytest.mark.parametrize(
    "changed",
    [
        {"a": torch.tensor([0.0, 1.0, 2.0, 4.0])},
        {"b": torch.tensor([0.0, 1.0, 2.0, 3.0])},
        {"a": torch.tensor([[0.0, 1.0], [2.0, 3.0]])},
        {"a": torch.tensor([0.0, 1.0, 2.0, 3.0]).view(torch.int32)},
        {"a": torch.tensor([0.0, 1.0, 2.0, 3.0]), "b": torch.tensor(0)},
    ],
    ids=["value", "name", "shape", "type", "one more"],
)
def test_the_fingerprint_depends_on(changed):
    assert fingerprint(changed) != fingerprint({"a": torch.tensor([0.0, 1.0, 2.0, 3.0])})


def test_the_fingerprint_does_not_depend_on_the_memory_layout():
    matrix = torch.arange(6.0).reshape(2, 3)
    assert fingerprint({"a": matrix.T.contiguous().T}) == fingerprint({"a": matrix})
