"""Compare RAML with its public code: the same weights and the same random features in both, and the differences.

    git clone https://github.com/voveed/RAML_INDUSTRIAL_ANOMALY_DETECTION
    python benchmarks/raml_reference.py RAML_INDUSTRIAL_ANOMALY_DETECTION/train_raml_model.py

Weights are copied from the public model into ours. Compared are the crops of the mode `reference`, the pyramid, the
text fusion, both heads and the score in eval mode, and three updates of the loss: its value, its gradient, centre,
sigma and the difficulty of the categories. The encoder is a random linear map. Prints the largest absolute difference
of each; exits with status 1 if one is above 1e-5 times the largest value. Cost: seconds.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anoframe.models.raml.model import RAML

TOLERANCE = 1e-5
CATEGORIES = ("bottle", "metal_nut", "screw")
MODULES = {  # ours -> theirs
    "pyramid.projections.0": "pyramid.s1_proj",
    "pyramid.projections.1": "pyramid.s2_proj",
    "pyramid.projections.2": "pyramid.s3_proj",
    "pyramid.attentions.0": "pyramid.attn12",
    "pyramid.attentions.1": "pyramid.attn23",
    "pyramid.attentions.2": "pyramid.attn31",
    "pyramid.mlp": "pyramid.fusion",
    "pyramid.norm": "pyramid.norm",
    "fusion.projection": "fusion.text_proj",
    "fusion.attention": "fusion.cross_attn",
    "fusion.scale": "fusion.fusion_scale",
    "fusion.norm": "fusion.norm",
    "feature_head": "feature_head",
    "classifier": "classifier",
}
LAYERS = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "output": "out_proj"}  # of an attention

Differences = Iterator[tuple[str, float, float]]  # name, largest difference, largest value


class RandomEncoder(nn.Module):
    """A frozen linear map of the pixels, with the interfaces of both codes. The public code gets normalised images."""

    has_text, embed_dim, image_size = True, 512, 224

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(1, 3, 1, 1))
        self.matrix = nn.Parameter(torch.randn(3 * 56 * 56, 512) / 100)
        self.text = {name: F.normalize(torch.randn(2, 512), dim=-1) for name in CATEGORIES}

    def normalise(self, images: Tensor) -> Tensor:
        return (images - self.mean) / self.std

    def encode_image(self, normalised: Tensor) -> Tensor:
        return normalised[..., ::4, ::4].flatten(1) @ self.matrix

    def forward(self, images: Tensor) -> Tensor:
        return self.encode_image(self.normalise(images)).detach()

    def encode_text(self, prompts: tuple[str, str]) -> Tensor:
        return self.text[prompts[0].split()[-1]]


def load_public_code(path: Path) -> Any:
    """Import the public script; its import of OpenAI's package `clip` finds an empty module."""
    sys.modules.setdefault("clip", types.ModuleType("clip"))
    spec = importlib.util.spec_from_file_location("public_raml", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def copy_weights(public: nn.Module, network: nn.Module) -> None:
    """Copy all weights of the public model except the encoder's."""
    theirs = public.state_dict()
    state = {}
    for name in network.state_dict():
        prefix = next(ours for ours in MODULES if name == ours or name.startswith(f"{ours}."))
        rest = name[len(prefix) :]
        if "attentions" in prefix:
            layer, _, kind = rest[1:].rpartition(".")
            rest = f".{LAYERS.get(layer, layer)}.{kind}"
        state[name] = theirs[MODULES[prefix] + rest]
    network.load_state_dict(state)
    copied, existing = (sum(v.numel() for v in s.values()) for s in (state, theirs))
    assert copied == existing - sum(v.numel() for k, v in theirs.items() if k.startswith("clip."))


def difference(ours: Tensor, theirs: Tensor) -> tuple[float, float]:
    """Return the largest absolute difference, and the largest absolute value."""
    return float((ours - theirs).abs().max()), float(theirs.abs().max())


@torch.no_grad()
def compare_network(public: nn.Module, detector: RAML, encoder: RandomEncoder) -> Differences:
    """Compare all parts on the same images."""
    images = torch.rand(8, 3, 224, 224)
    names = [CATEGORIES[i % len(CATEGORIES)] for i in range(8)]
    scales = public.extract_multiscale(encoder.normalise(images))  # type: ignore[operator]
    features: Mapping[str, Tensor] = detector.encode(images)
    for name, theirs in zip(("scale1", "scale2", "scale3"), scales, strict=True):
        yield f"features, {name}", *difference(features[name], theirs)
    text = torch.stack([encoder.text[name] for name in names])
    network: Any = detector.network
    theirs = public.pyramid(*scales)  # type: ignore[operator]
    yield "pyramid", *difference(network.pyramid([scales[0][:, None], *scales[1:]]), theirs)
    fused = public.fusion(theirs, text)  # type: ignore[operator]
    yield "fusion", *difference(network.fusion(theirs, text), fused)
    refined = public.feature_head(fused)  # type: ignore[operator]
    yield "feature head", *difference(network.feature_head(fused), refined)
    yield "classifier", *difference(network.classifier(refined), public.classifier(refined))  # type: ignore[operator]
    output = public(encoder.normalise(images), names)
    z, logits = network(detector.add_category(features, names))
    yield "whole, features", *difference(z, output["features"])
    yield "whole, logits", *difference(logits, output["logits"])
    yield "whole, scores", *difference(detector.detect(features, (224, 224), names).score, output["scores"])


def compare_loss(public_loss: Any, detector: RAML, updates: int = 3) -> Differences:
    """Compare the loss and its state over several batches; the second has no normal image, and lies near the centre."""
    assert detector.maccl is not None
    for update in range(updates):
        z, is_defect = torch.randn(16, 256) * (0.05 if update else 1), torch.arange(16) % 3 == 0
        if update == 1:
            is_defect[:], z = True, detector.maccl.centre + 0.03 * torch.randn(16, 256)
        names = [CATEGORIES[(i + update) % len(CATEGORIES)] for i in range(16)]
        ours, theirs = z.clone().requires_grad_(), z.clone().requires_grad_()
        loss = torch.stack(list(detector.maccl(ours, is_defect, names).values())).sum()
        expected, _ = public_loss(theirs, is_defect.float(), names)
        loss.backward()
        expected.backward()
        assert ours.grad is not None
        assert theirs.grad is not None
        label = f"update {update + 1}"
        yield f"{label}, loss", *difference(loss.detach(), expected.detach())
        yield f"{label}, gradient", *difference(ours.grad, theirs.grad)
        yield f"{label}, centre", *difference(detector.maccl.centre, public_loss.normal_center)
        yield f"{label}, sigma", *difference(detector.maccl.sigma, public_loss.running_sigma)
        state, tracker = detector.maccl.difficulty.state(), public_loss.difficulty_tracker
        assert list(state) == list(tracker.running_loss)
        pairs = (torch.tensor(list(values.values())) for values in (state, tracker.running_loss))
        yield f"{label}, difficulty", *difference(*pairs)
        weights = torch.tensor([tracker.get_weight(name) for name in CATEGORIES])
        yield f"{label}, weights", *difference(torch.tensor(detector.maccl.difficulty.weights(CATEGORIES)), weights)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("script", type=Path, help="train_raml_model.py of the public code")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    code = load_public_code(arguments.script)
    torch.manual_seed(arguments.seed)
    encoder = RandomEncoder()
    public = code.RAMLUltimateModel(encoder).eval()
    public._text_cache = encoder.text
    detector = RAML(encoder, pyramid={"mode": "reference"}).eval()
    copy_weights(public, detector.network)
    is_equal = True
    print("| compared | largest difference | largest value |\n|---|---|---|")
    for name, gap, size in [*compare_network(public, detector, encoder), *compare_loss(code.MACCLLoss(), detector)]:
        print(f"| {name} | {gap:.1e} | {size:.4g} |")
        is_equal &= gap <= TOLERANCE * max(1.0, size)
    print("equal" if is_equal else f"NOT EQUAL: a difference is above {TOLERANCE} times the largest value")
    return 0 if is_equal else 1


if __name__ == "__main__":
    sys.exit(main())
