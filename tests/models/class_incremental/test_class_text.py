"""Text features of classes: prompts, states, prototypes."""

import pytest
import torch
from clap_stream import FakeTower, Stream, classifier, images_of
from torch.nn import functional as F

from anoframe.errors import AnoframeError
from anoframe.models.class_incremental.factory import build_classifier
from anoframe.models.class_incremental.text import (
    PROTOTYPE_NOTE,
    Prompts,
    Prototypes,
    TextSettings,
    build_text,
    read_templates,
)
from anoframe.models.components.prompts import read_prompts


def prompts(**settings):
    return Prompts(FakeTower(), TextSettings(**settings))


@pytest.mark.parametrize(
    ("name", "count", "first"),
    [
        ("cifar", 18, "a photo of a {}."),
        ("imagenet", 80, "a bad photo of a {}."),
        ("imagenet_short", 7, "itap of a {}."),
        ("industrial", 22, "a photo of a {}."),
    ],
)
def test_templates_have_the_published_number(name, count, first):
    templates = read_templates(name)
    assert (len(templates), len(set(templates)), templates[0]) == (count, count, first)
    assert all(template.count("{}") == 1 for template in templates)


def test_underscores_in_names_become_spaces():
    assert prompts(templates="cifar").texts("aquarium_fish")[0] == "a photo of a aquarium fish."


def test_each_state_has_equally_many_prompts_with_its_words():
    source, states = prompts(), read_prompts()
    normal, defective = source.texts("metal_nut/normal"), source.texts("metal_nut/defective")
    assert len(normal) == len(defective) == 88
    assert set(normal) < set(states.prompts("metal_nut")[0])
    assert defective == states.prompts("metal_nut")[1]
    assert prompts().texts("metal_nut/normal") == normal
    assert Prompts(FakeTower(), TextSettings(), seed=1).texts("metal_nut/normal") != normal


def test_features_of_prompts_are_those_of_the_tower():
    source = prompts(templates="cifar")
    features = source.encode(["cat", "dog"])
    assert features.shape == (2, 18, 12)
    torch.testing.assert_close(features[1], FakeTower().encode_text(source.texts("dog")))


def test_a_file_of_templates(tmp_path):
    path = tmp_path / "templates.yaml"
    path.write_text('- "one {}"\n- "two {}"\n')
    assert prompts(templates=str(path)).texts("cat") == ["one cat", "two cat"]
    path.write_text("- no place\n")
    with pytest.raises(AnoframeError, match="must be a list of texts that contain"):
        prompts(templates=str(path))
    with pytest.raises(AnoframeError, match="'cifer' is no file, and no name of templates: did you mean 'cifar'"):
        prompts(templates="cifer")


def test_the_source_is_that_of_the_encoder_unless_it_is_given():
    assert isinstance(build_text(TextSettings(), FakeTower(), 0), Prompts)
    assert isinstance(build_text(TextSettings(), None, 0), Prototypes)
    assert isinstance(build_text(TextSettings(source="prototypes"), FakeTower(), 0), Prototypes)
    with pytest.raises(AnoframeError, match=r"model\.text\.source prompts needs a text tower"):
        build_text(TextSettings(source="prompts"), None, 0)
    with pytest.raises(AnoframeError, match=r"unknown model\.text\.source 'images'"):
        TextSettings(source="images")


def test_prototypes_are_drawn_from_the_images_of_each_class():
    source = Prototypes(images=4, seed=1)
    rows = {"a": range(10), "b": range(10, 20), "c": range(20, 22)}
    chosen = source.support_rows(rows, task=0)
    assert [len(set(group)) for group in chosen] == [4, 4, 2]
    assert all(set(group) <= set(rows[name]) for name, group in zip(rows, chosen, strict=True))
    assert len(chosen[2]) == 4  # a class with fewer images repeats them
    assert source.support_rows(rows, task=0) == chosen
    assert source.support_rows(rows, task=1) != chosen
    assert source.notes == (PROTOTYPE_NOTE,)


def test_prototypes_are_observed_before_the_first_phase():
    learner = classifier(text="prototypes")
    stream = Stream(learner)
    stream.start((0, 1))
    assert [stage.name for stage in learner.training_stages()] == ["text", "task", "exemplars"]
    rows = learner.training_stages()[0].rows
    stream.fit()
    features = F.normalize(stream.features[rows], dim=1).view(2, 4, 12)
    torch.testing.assert_close(learner.text_means, features.mean(1))
    torch.testing.assert_close(learner.text_variances, features.var(1))
    torch.testing.assert_close(learner.text_features(), F.normalize(features.mean(1), dim=1))
    stream.finish()
    first = learner.text_means.clone()
    stream.train((2,))
    assert torch.equal(learner.text_means[:2], first)
    assert learner.text_means.shape == (3, 12)
    parameters = sum(value.numel() for value in learner.parameters())
    assert learner.num_learned_values() == parameters + 2 * 3 * 12


def test_the_newest_adapter_starts_from_the_texts_of_all_classes():
    learner = classifier()
    stream = Stream(learner)
    stream.train((0, 1))
    stream.start((2,))
    means = learner.text_means
    torch.testing.assert_close(learner.network.adapters[1].mu.linear.weight.detach(), means.T @ means / 12)


@pytest.mark.parametrize("text", ["prompts", "prototypes"])
def test_zero_shot_compares_with_the_text_features_and_trains_nothing(text):
    section = {"name": "zero_shot", "scale": 50.0, "text": {"source": text, "templates": "cifar", "images": 4}}
    learner = build_classifier(section, 12, FakeTower())
    stream = Stream(learner)
    stream.train((0, 1), (2,))
    features = images_of(range(3), 2, split="test")[1]
    logits = learner.logits(features)
    assert logits.shape == (1, 6, 3)
    torch.testing.assert_close(logits[0], 50 * F.cosine_similarity(features[:, None], learner.text_means, dim=-1))
    assert list(learner.parameters()) == []
    assert learner.num_learned_values() == (36 if text == "prototypes" else 0)


def test_an_unknown_classifier_is_an_error():
    with pytest.raises(AnoframeError, match="unknown class-incremental classifier 'clap': did you mean 'clap4clip'"):
        build_classifier({"name": "clap"}, 12)
    with pytest.raises(AnoframeError, match=r"model\.classifier\.name is missing"):
        build_classifier({}, 12)
    with pytest.raises(AnoframeError, match="is no classifier"):
        build_classifier({"name": "anoframe.types:Sample"}, 12)


def test_initial_weights_depend_on_the_seed_alone():
    first, second, other = classifier(seed=3), classifier(seed=3), classifier(seed=4)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert not torch.equal(first.network.vga.expand.weight, other.network.vga.expand.weight)
    Stream(first).train((0, 1), (2,))
    stream = Stream(second)
    stream.train((0, 1))
    torch.rand(3)
    stream.start((2,))
    torch.manual_seed(0)
    third = Stream(classifier(seed=3)).train((0, 1))
    third.start_task(1, stream.data)
    assert torch.equal(third.network.adapters[1].mu.linear.bias, second.network.adapters[1].mu.linear.bias)
