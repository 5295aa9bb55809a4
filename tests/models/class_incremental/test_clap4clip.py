"""CLAP4CLIP as a learner: logits, phases, exemplars, options, interrupted training (C4, C5, C11, C20)."""

from itertools import pairwise

import pytest
import torch
from clap_stream import TRAINER, Stream, changed, classifier, images_of, state_of
from torch.nn import functional as F

from anoframe.errors import AnoframeError
from anoframe.models.learner import Observation, Phase, TrainingBatch

TASKS = [(0, 1), (2, 3), (4,)]
OPTIONS = {
    "default": {},
    "tokens": {"vga": {"task_tokens": True}},
    "hierarchical": {
        "posterior": {"samples": 3, "hierarchical": True, "global_samples": 2},
        "loss": {"distillation": 0.3, "orthogonality": 5.0},
        "vga": {"task_tokens": True},
    },
    "np": {"posterior": {"prior": "np"}, "vga": {"task_tokens": True}},
    "np_hierarchical": {"posterior": {"samples": 2, "prior": "np", "hierarchical": True, "global_samples": 2}},
    "frozen": {"posterior": {"prior": "frozen"}},
    "deterministic": {"posterior": {"variational": False}},
    "no_vga": {"vga": {"enabled": False}},
    "shared": {"posterior": {"expandable": False}},
    "no_memory": {"memory": {"per_class": 0}},
    "no_balance": {"balance": False},
}
each_option = pytest.mark.parametrize("option", OPTIONS)


@pytest.fixture(scope="module")
def trained():
    """Trains once for each option. Read only."""
    kept = {}

    def train(option):
        if option not in kept:
            kept[option] = Stream(classifier(**OPTIONS[option])).train(*TASKS)
        return kept[option]

    return train


def held_out(count=3):
    return images_of(range(5), count, seed=1, split="test")[1]


# ------------------------------------------------------------------------------------------------- logits


@each_option
def test_logits_have_one_slice_per_sample(trained, option):
    samples = {"hierarchical": 6, "np_hierarchical": 4, "deterministic": 1}.get(option, 5)
    logits = trained(option).logits(held_out())
    assert logits.shape == (samples, 15, 5)
    assert logits.isfinite().all()
    torch.testing.assert_close(logits.mean(0), sum(logits) / samples)


@each_option
def test_the_same_call_gives_the_same_logits_in_either_mode(trained, option):
    learner, features = trained(option), held_out()
    expected = learner.logits(features)
    assert torch.equal(learner.logits(features), expected)
    learner.train()
    assert torch.equal(learner.logits(features), expected)
    assert learner.training
    learner.eval()


@each_option
def test_an_image_by_itself_is_a_joint_batch_of_one(trained, option):
    learner, features = trained(option), held_out()
    expected = torch.cat([learner.logits(features[i : i + 1], jointly=True) for i in range(len(features))], 1)
    torch.testing.assert_close(learner.logits(features), expected, rtol=1e-4, atol=1e-3)


def test_a_joint_batch_differs_only_with_the_attention(trained):
    features = held_out()
    assert torch.equal(trained("no_vga").logits(features), trained("no_vga").logits(features, jointly=True))
    difference = trained("default").logits(features) - trained("default").logits(features, jointly=True)
    assert difference.abs().max() > 1e-3


def test_without_spread_logits_are_those_of_the_mean():
    learner = classifier(posterior={"samples": 1})
    stream = Stream(learner)
    stream.start((0, 1))
    with torch.no_grad():
        learner.network.adapters[0].sigma.linear.weight.zero_()
        learner.network.adapters[0].sigma.linear.bias.fill_(-50.0)
        images, text = F.normalize(held_out(), dim=1), learner.text_features()
        for image, logits in zip(images, learner.logits(held_out())[0], strict=True):
            h = learner.eval().network.guide(text, image[None], [2])[1]
            expected = 100 * image @ (h + learner.network.adapters[0](h).mean).T
            assert (logits - expected).abs().max() < 0.001 * 100 * 4


def test_logits_are_scaled_products_with_samples_of_the_posterior(trained):
    learner, features = trained("no_vga"), held_out()
    images, text = F.normalize(features, dim=1), learner.text_features()
    posterior = learner.network.adapters[2](text[4:])
    noise = learner._noise("task", range(4, 5), (5, 12), torch.device("cpu"))
    weights = text[4] + posterior.mean + posterior.std * noise
    torch.testing.assert_close(
        learner.logits(features)[..., 4], 100 * (images @ weights[:, 0].T).T, rtol=1e-5, atol=1e-4
    )


def test_noise_of_a_class_does_not_depend_on_later_classes(trained):
    noise = trained("default")._noise
    few, many = (noise("task", range(count), (5, 12), torch.device("cpu")) for count in (2, 5))
    assert torch.equal(few, many[:, :2])
    assert len(many.flatten(0, 1).unique(dim=0)) == 25


def test_before_the_first_task_there_are_no_classes():
    assert classifier().logits(torch.randn(3, 12)).shape == (1, 3, 0)


# ------------------------------------------------------------------------------------------------- training


def test_it_learns_the_classes_of_all_tasks(trained):
    learner, features = trained("default"), held_out(10)
    assert learner.classes == ("c0", "c1", "c2", "c3", "c4")
    assert learner.task_classes == (range(2), range(2, 4), range(4, 5))
    hits = learner.logits(features).mean(0).argmax(1) == torch.arange(5).repeat_interleave(10)
    assert hits.float().mean() > 0.5


def steps_of_the_third_task():
    """Changed parameters of each phase of the third task."""
    learner = classifier(vga={"task_tokens": True})
    stream = Stream(learner)
    stream.train(*TASKS[:2])
    stream.start(TASKS[2])
    states = [state_of(learner)]

    def stages():
        return [*learner.training_stages()]

    for number in range(1, 4):
        stream.fit(stages=lambda number=number: stages()[number - 1 : number] if number < 4 else [])
        states.append(state_of(learner))
    return learner, [changed(before, after) for before, after in pairwise(states)]


def test_each_phase_changes_the_parameters_that_it_names():
    _, (task, exemplars, balance) = steps_of_the_third_task()
    vga = {name for name in task if name.startswith("network.vga")}
    assert len(vga) >= 20
    newest = {"mu.linear.weight", "mu.linear.bias", "sigma.linear.weight", "sigma.linear.bias"}
    assert task - vga == {*(f"network.adapters.2.{name}" for name in newest), "network.tokens.2"}
    assert exemplars <= {"exemplar_rows"}
    adapters = {f"network.adapters.{number}.{name}" for number in range(3) for name in newest}
    assert balance == adapters | {f"network.tokens.{number}" for number in range(3)}


def test_the_phases_use_all_images_and_then_the_exemplars():
    learner = classifier()
    stream = Stream(learner)
    stream.train(TASKS[0])
    assert sorted(stream.data.samples[row].category for row in learner.exemplar_rows) == ["c0"] * 3 + ["c1"] * 3
    stream.start(TASKS[1])
    assert [stage.name for stage in learner.training_stages()] == ["task", "exemplars", "balance"]
    assert learner.training_stages()[0].rows is None
    stream.fit()
    stages = learner.training_stages()
    categories = [stream.data.samples[row].category for row in stages[2].rows]
    assert sorted(categories) == sorted(3 * ["c0", "c1", "c2", "c3"])
    assert {row for row in stages[2].rows if row >= 20} == set(stream.data.exemplar_rows)
    assert [phase["name"] for phase in stream.context.curves["phases"]] == ["task", "balance"]
    assert all(isinstance(stage, (Observation, Phase)) for stage in stages)


def test_a_first_task_or_no_memory_has_no_balance_phase():
    for option, tasks, expected in (
        ("default", 1, ["task", "exemplars"]),
        ("no_memory", 2, ["task"]),
        ("no_balance", 2, ["task", "exemplars"]),
    ):
        learner = classifier(**OPTIONS[option])
        Stream(learner).train(*TASKS[:tasks])
        assert [stage.name for stage in learner.training_stages()] == expected
        assert list(learner.phase_names()) == ["task", "balance"]


def losses_of(learner, is_balance=False, seed=0):
    """Losses of one batch of the current task."""
    data = learner._data
    rows = torch.arange(len(data.samples))
    features = images_of([int(sample.category[1:]) for sample in data.samples], 1, seed=3)[1]
    torch.manual_seed(seed)
    return learner._losses(is_balance, TrainingBatch(features, data.samples, rows))


def test_the_phase_task_has_losses_of_the_new_task_and_the_phase_balance_those_of_all(trained):
    learner = trained("default")
    assert set(losses_of(learner)) == {"cross_entropy", "lang_loss", "kl_loss", "accuracy"}
    single = classifier()
    stream = Stream(single)
    stream.start((0, 1))
    with torch.no_grad():
        for is_balance in (False, True):
            learner.train(), torch.manual_seed(0)
            draws = learner.network.train(not is_balance)(
                learner.text_features(),
                F.normalize(images_of([int(s.category[1:]) for s in learner._data.samples], 1, seed=3)[1], dim=1),
                learner.counts,
                lambda name, classes, shape, device: torch.randn(shape[0], len(classes), shape[1]),
            )
            means = [values.mean() for values in (learner._kl_loss(draws, range(2, 3), None, None, True),)]
            total = learner._kl_loss(draws, range(3), None, None, True)
            values = losses_of(learner, is_balance)
            expected = total if is_balance else means[0]
            torch.testing.assert_close(values["kl_loss"], 0.001 * expected)
    learner.eval()


def test_options_add_their_losses(trained):
    assert set(losses_of(trained("hierarchical"))) == {
        *("cross_entropy", "lang_loss", "kl_loss", "distillation", "orthogonality", "accuracy")
    }
    assert set(losses_of(trained("deterministic"))) == {"cross_entropy", "lang_loss", "accuracy"}
    for option in OPTIONS:
        assert all(value.isfinite() for value in losses_of(trained(option)).values())
        assert all(value.isfinite() for value in losses_of(trained(option), is_balance=True).values())
        trained(option).eval()


@torch.no_grad()
def test_the_prior_np_is_the_posterior_for_a_part_of_the_batch():
    learner, features = classifier(posterior={"prior": "np", "context": 0.3}), images_of((0, 1), 10)[1]
    Stream(learner).start((0, 1))
    images, text = learner.eval().unit_features(features), learner.text_features()
    draws = learner.network(text, images, [2], learner._noise)
    all_images = learner.network.prior_from_images(text, images, 0)
    torch.testing.assert_close(all_images.mean, draws.tasks[0].posterior.mean)
    assert learner._context(images).shape == (6, 12)
    torch.manual_seed(3)
    some = learner._prior(0, text, images, False)
    assert (some.mean - all_images.mean).abs().max() > 1e-5
    torch.manual_seed(3)
    rows = torch.randperm(20)[:6]
    torch.testing.assert_close(some.mean, learner.network.prior_from_images(text, images[rows], 0).mean)


def test_distillation_keeps_a_copy_of_the_last_network(trained):
    learner = trained("hierarchical")
    copy = {name: value for name, value in learner.learned_state().items() if name.startswith("previous.")}
    assert copy
    assert not any(".adapters." in name for name in copy)
    for name, value in copy.items():
        assert torch.equal(value, learner.learned_state()[name.replace("previous.", "network.")])
    assert learner.num_learned_values() == sum(value.numel() for value in learner.network.parameters())


def test_a_shared_adapter_is_initialised_once(trained):
    assert len(trained("shared").network.adapters) == 1
    learner = classifier(**OPTIONS["shared"])
    stream = Stream(learner)
    stream.train(TASKS[0])
    before = state_of(learner)
    stream.start(TASKS[1])
    assert not any(name.startswith("network.") for name in changed(before, state_of(learner)))


# ------------------------------------------------------------------------------------------------- states


@each_option
def test_a_loaded_state_gives_the_same_logits_and_trains_on_alike(trained, option):
    learner, fresh = trained(option), classifier(**OPTIONS[option])
    fresh.load_learned_state(state_of(learner))
    assert fresh.classes == learner.classes
    assert torch.equal(fresh.logits(held_out()), learner.logits(held_out()))


def resumed(option, tmp_path, monkeypatch, stop_after):
    """Train two tasks; the process ends after `stop_after` states of the second were written, and starts again."""
    from anoframe.training.state import TrainingState

    written = []
    original = TrainingState.save

    def save(self, folder):
        original(self, folder)
        written.append(self)
        if len(written) == stop_after:
            raise KeyboardInterrupt

    stream = Stream(classifier(**OPTIONS[option]), trainer={**TRAINER, "save_minutes": 0.0})
    stream.train(TASKS[0])
    before, kept = state_of(stream.learner), (stream.kept, stream.kept_features)
    monkeypatch.setattr(TrainingState, "save", save)
    stream.start(TASKS[1])
    with pytest.raises(KeyboardInterrupt):
        stream.fit(tmp_path)
    again = Stream(classifier(**OPTIONS[option]), trainer={**TRAINER, "save_minutes": 0.0})
    again.learner.load_learned_state(before)
    again.task, (again.kept, again.kept_features) = 1, kept
    again.start(TASKS[1])
    again.fit(tmp_path)
    again.finish()
    return again.learner, written[stop_after - 1]


@pytest.mark.parametrize(("option", "stop_after"), [("tokens", 1), ("tokens", 3), ("tokens", 5), ("hierarchical", 2)])
def test_a_killed_task_continues_to_the_same_bytes(option, stop_after, tmp_path, monkeypatch):
    expected = state_of(Stream(classifier(**OPTIONS[option])).train(*TASKS[:2]))
    learner, _ = resumed(option, tmp_path, monkeypatch, stop_after)
    assert changed(expected, learner.learned_state()) == set()


def test_states_are_written_inside_both_phases(tmp_path, monkeypatch):
    _, first = resumed("default", tmp_path / "a", monkeypatch, 2)
    monkeypatch.undo()
    _, last = resumed("default", tmp_path / "b", monkeypatch, 5)
    assert (first.stage, first.steps > 0) == (0, True)
    assert (last.stage, last.steps > 0) == (2, True)


@each_option
def test_the_summary_has_a_row_per_task(trained, option):
    summary = trained(option).summary()
    assert summary.scalars["growth/adapters"] == (1 if option == "shared" else 3)
    assert summary.scalars["growth/adapter_values"] % (12 * 13) == 0
    (table,) = summary.tables
    assert [row[:2] for row in table.rows] == [(0, "c0, c1"), (1, "c2, c3"), (2, "c4")]
    if option == "deterministic":
        assert [row[2] for row in table.rows] == [None] * 3
    else:
        assert all(0.001 <= row[2] < 1.5 for row in table.rows)


def test_the_summary_before_training_has_no_rows():
    assert classifier().summary().tables == ()
    learner = classifier(text="prototypes")
    Stream(learner).start((0, 1))
    assert learner.summary().tables == ()


# ------------------------------------------------------------------------------------------------- errors


def test_tasks_come_in_order():
    learner = classifier()
    stream = Stream(learner)
    stream.task = 1
    with pytest.raises(AnoframeError, match="task 1 cannot be trained now, 0 were begun"):
        stream.start((0,))


def test_a_class_belongs_to_one_task():
    stream = Stream(classifier())
    stream.train((0, 1))
    with pytest.raises(AnoframeError, match="class 'c1' was learned in an earlier task"):
        stream.start((1, 2))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"prompt_style": "maple"}, "'maple' is not implemented here"),
        ({"prompt_style": "attriclip"}, "'attriclip' is not implemented here"),
        ({"prompt_style": "hand"}, "unknown model.classifier.prompt_style 'hand'"),
        ({"scale": 0.0}, "scale.* must be above 0"),
        ({"vga": {"enabled": False, "task_tokens": True}}, "task_tokens are queries of the attention"),
        ({"vga": {"dropout": 1.0}}, "vga.dropout must be at least 0 and below 1"),
        ({"posterior": {"prior": "flat"}}, "unknown model.classifier.posterior.prior 'flat'"),
        ({"posterior": {"samples": 0}}, "posterior.samples must be 1 or more"),
        ({"posterior": {"context": 0.0}}, "posterior.context must be in"),
        ({"posterior": {"variational": False, "hierarchical": True}}, "hierarchical draws samples"),
        ({"loss": {"distillation": 0.3}}, "distillation compares global means"),
        ({"loss": {"kl": -1.0}}, "loss.kl must be 0 or more"),
        ({"memory": {"selector": "best"}}, "unknown memory.selector 'best'"),
        (
            {"posterior": {"sampels": 3}},
            "model.classifier.posterior takes no argument 'sampels': did you mean 'samples'",
        ),
        ({"balanced": True}, "model.classifier takes no argument 'balanced': did you mean 'balance'"),
    ],
)
def test_wrong_settings_are_errors(settings, message):
    with pytest.raises(AnoframeError, match=message):
        classifier(**settings)
