"""CoOp: context vectors through the text tower of a small CLIP model."""

import pytest
import torch
from clap_stream import SMALL, Stream, changed, classifier, images_of, state_of
from tiny_clip import register_tiny_models

from anoframe.backbones import build_backbone
from anoframe.errors import AnoframeError
from anoframe.models.class_incremental.coop import ContextPrompts
from anoframe.models.class_incremental.factory import build_classifier
from anoframe.models.class_incremental.settings import ContextSettings

NAMES = ["cat", "red car"]


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    pytest.importorskip("open_clip")
    register_tiny_models(tmp_path_factory.mktemp("models"))
    return build_backbone({"name": "open_clip:tiny", "weights": "random:0"})


def coop(clip, **context):
    section = {"name": "clap4clip", **SMALL, "prompt_style": "coop", "context": context, "text": {"templates": "cifar"}}
    return build_classifier(section, 20, clip)


@torch.no_grad()
def test_vectors_of_a_word_give_the_features_of_that_word(clip):
    prompts = ContextPrompts(clip, ContextSettings(length=3))
    word = clip.text_features._tokenize(["x"])[0, 1]
    prompts.vectors[0].copy_(clip.network.token_embedding(word).expand(3, -1))
    expected = clip.encode_text([f"x x x {name}." for name in NAMES])
    torch.testing.assert_close(prompts(NAMES), expected, rtol=1e-4, atol=1e-5)


def test_gradients_reach_the_vectors_and_nothing_of_the_tower(clip):
    prompts = ContextPrompts(clip, ContextSettings())
    prompts(NAMES)[0, 0].backward()
    assert prompts.vectors[0].shape == (12, 32)
    assert prompts.vectors[0].grad.abs().max() > 0
    assert all(parameter.grad is None for parameter in clip.parameters())
    assert [name for name, _ in prompts.named_parameters()] == ["vectors.0"]


@torch.no_grad()
def test_features_are_computed_again_when_the_vectors_change(clip):
    prompts = ContextPrompts(clip, ContextSettings(length=2))
    first = prompts(NAMES)
    assert prompts(NAMES) is first
    prompts.vectors[0].normal_()
    assert (prompts(NAMES) - first).abs().max() > 1e-4


def test_vectors_of_several_tasks_are_averaged(clip):
    prompts = ContextPrompts(clip, ContextSettings(expandable=True))
    prompts.resize(3)
    assert [tuple(vectors.shape) for vectors in prompts.vectors] == [(2, 32)] * 3
    mean = ContextPrompts(clip, ContextSettings(length=2))
    with torch.no_grad():
        mean.vectors[0].copy_(sum(prompts.vectors) / 3)
        torch.testing.assert_close(prompts(NAMES), mean(NAMES))
    prompts.resize(1)
    assert len(prompts.vectors) == 1


def test_adapters_have_a_layer_norm_and_text_features_unit_length(clip):
    learner = coop(clip)
    Stream(learner, width=20).start((0, 1))
    torch.testing.assert_close(learner.text_features().norm(dim=1), torch.ones(2))
    assert isinstance(learner.network.adapters[0].mu.norm, torch.nn.LayerNorm)


@pytest.mark.parametrize("expandable", [False, True])
def test_phases_train_the_vectors(clip, expandable):
    learner = coop(clip, expandable=expandable)
    stream = Stream(learner, width=20, count=6)
    stream.train((0, 1))
    stream.start((2,))
    before = state_of(learner)
    stream.fit(stages=lambda: learner.training_stages()[:1])
    of_task = {name for name in changed(before, state_of(learner)) if name.startswith("context")}
    assert of_task == {"context.vectors.1" if expandable else "context.vectors.0"}
    learner.exemplar_rows = torch.arange(7)
    before = state_of(learner)
    stream.fit(stages=lambda: learner.training_stages()[2:])
    of_balance = {name for name in changed(before, state_of(learner)) if name.startswith("context")}
    assert of_balance == {f"context.vectors.{number}" for number in range(2 if expandable else 1)}


def test_a_loaded_state_gives_the_same_logits(clip):
    learner, fresh = coop(clip, expandable=True), coop(clip, expandable=True)
    Stream(learner, width=20, count=6).train((0, 1), (2,))
    fresh.load_learned_state(state_of(learner))
    features = images_of(range(3), 2, width=20)[1]
    assert torch.equal(fresh.logits(features), learner.logits(features))


def test_states_have_words(clip):
    text = coop(clip).text
    assert text.words("metal_nut/normal") == "flawless metal nut"
    assert text.words("metal_nut/defective") == "damaged metal nut"
    assert text.words("aquarium_fish") == "aquarium fish"


def test_coop_needs_prompts_and_a_plain_text_tower(clip):
    with pytest.raises(
        AnoframeError, match="coop has prompts, and model.text.source is prototypes".replace(".", r"\.")
    ):
        classifier(text="prototypes", prompt_style="coop")
    with pytest.raises(AnoframeError, match="coop learns inputs of CLIP's text tower, and the encoder FakeTower"):
        classifier(prompt_style="coop")
    with pytest.raises(AnoframeError, match=r"context\.length must be 1 or more, got 0"):
        ContextSettings(length=0)
