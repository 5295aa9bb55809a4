"""S9: after 100 training steps, weights and BatchNorm statistics of the frozen encoder are as they were."""

from __future__ import annotations

import pytest
import torch
from memory_images import MemoryImages
from torch import nn

from anoframe.backbones.encoder import Encoder
from anoframe.backbones.exported import write_export
from anoframe.config import load_config, to_plain
from anoframe.features.extraction import FeatureBatch
from anoframe.models.factory import build_detector
from anoframe.tracking.timing import StageTimer
from anoframe.tracking.tracker import Trackers
from anoframe.training.context import FitContext
from anoframe.training.stages import fit_learner

pytestmark = pytest.mark.slow

STEPS = 100
IMAGES = MemoryImages(4, 64, categories=("felt",))


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    """An encoder whose statistics are not those of a new network."""
    torch.manual_seed(0)
    encoder = Encoder("test_resnet")
    for layer in encoder.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_()
            layer.running_var.uniform_(0.5, 2)
    path = tmp_path_factory.mktemp("export") / "encoder.safetensors"
    write_export(path, encoder, 64, {"method": "simclr", "epochs": "1", "data": "0"})
    return path


def features(detector):
    pixels = torch.stack([IMAGES.pixels(row) for row in range(4)])
    return [FeatureBatch(detector.encode(pixels), torch.zeros(0), IMAGES.samples)]


def state_of(detector):
    return {name: value.clone() for name, value in detector.backbone.state_dict().items()}


@pytest.mark.parametrize("method", ["cdo", "rd4ad"])  # the teacher sees an image in each step, or once
def test_training_leaves_the_teacher_as_it_was(method, export):
    detector = build_detector({"name": method, "backbone": {"name": f"exported:{export}", "levels": (1, 2, 3)}})
    before, learned = state_of(detector), [value.clone() for value in detector.parameters()]
    modes = []  # of the teacher, whenever a trained part computes
    for name, part in detector.named_children():
        if name != "backbone":
            part.register_forward_pre_hook(
                lambda *_: modes.append(any(m.training for m in detector.backbone.modules()))
            )
    keys = {"trainer.steps": STEPS, "trainer.batch_size": 4, "trainer.optimizer.lr": 0.01}
    context = FitContext("felt", 0, to_plain(load_config("__base__/gradient.py", keys).trainer), Trackers())
    fit_learner(detector, features(detector), 4, StageTimer(Trackers()), context, images=IMAGES)

    assert sum(len(phase["epochs"]) for phase in context.curves["phases"]) == STEPS
    assert len(modes) >= STEPS
    assert not any(modes)
    after = state_of(detector)
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert any(not torch.equal(*pair) for pair in zip(learned, detector.parameters(), strict=True))  # it has trained


def test_in_train_mode_the_same_images_would_change_the_teacher(export):
    """The test above can fail: one forward pass in train mode changes the statistics."""
    detector = build_detector({"name": "cdo", "backbone": {"name": f"exported:{export}", "levels": (1, 2, 3)}})
    before = state_of(detector)
    nn.Module.train(detector.backbone.network, True)
    detector.backbone(torch.stack([IMAGES.pixels(row) for row in range(4)]))
    assert any(not torch.equal(value, before[name]) for name, value in state_of(detector).items())
