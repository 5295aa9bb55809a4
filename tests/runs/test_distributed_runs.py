"""Whole runs by two processes: the result of one process, each image once, and an end where one of them fails."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from processes import Ended, together
from rebuilder import CONFIG

import anoframe
from anoframe.config import load_config
from anoframe.errors import AnoframeError

pytestmark = pytest.mark.usefixtures("one_thread")

CATEGORIES = ["felt", "mesh"]
PARTS = ("metrics.json", "results/felt.json", "results/mesh.json")
RUN = "trained/separate/felt+mesh/0"
# One process and two add up the same float32 numbers in another order: 2^-24 of relative error a sum, of a few hundred
# terms in a gradient, and 12 steps of SGD, each of which carries the error on. Measured are 5e-7 of a score; Adam would
# need more, since it divides small gradients by their own size.
ROUNDING = 1e-5
# A metric changes by steps, where such an error puts one pixel of 28672 before another: measured are 1.5e-5.
STEPS = 1e-4


@pytest.fixture(scope="module")
def config(tmp_path_factory, tiny_root):
    path = tmp_path_factory.mktemp("configs") / "trained.py"
    path.write_text(CONFIG.format(root=str(tiny_root)), encoding="utf-8")
    return path


def train(group, config, output, start="new", categories=CATEGORIES, **overrides):
    """A run; gives its metrics back. Also what each of the processes does."""
    changes = {name.replace("__", "."): value for name, value in overrides.items()}
    return anoframe.train(load_config(config, changes), categories, output, start).metrics


def counting(group, *args, **options):
    """A run, and how many images this process has encoded, and predicted."""
    from rebuilder import Rebuilder

    from anoframe.models.base import Detector

    seen = {"encode": 0, "detect": 0}

    def counted(name, original):
        def call(self, given, *rest):
            seen[name] += len(given if name == "encode" else given[0])
            return original(self, given, *rest)

        return call

    Detector.encode = counted("encode", Detector.encode)
    Rebuilder.detect = counted("detect", Rebuilder.detect)
    return train(group, *args, **options), seen


@pytest.fixture(scope="module")
def one(config, tmp_path_factory):
    """The folder of a run by one process."""
    import torch

    torch.set_num_threads(1)
    output = tmp_path_factory.mktemp("one")
    train(None, config, output)
    return output / RUN


@pytest.fixture(scope="module")
def two(config, tmp_path_factory):
    """The folder of the same run by two, their metrics, and what each has seen."""
    output = tmp_path_factory.mktemp("two")
    done = together(counting, config, output, "new")
    return output / RUN, [metrics for metrics, _ in done], [seen for _, seen in done]


def read(folder, name):
    return json.loads((folder / name).read_text(encoding="utf-8"))


def same_files(folder, other):
    return [name for name in PARTS if (folder / name).read_bytes() != (other / name).read_bytes()] == []


# ------------------------------------------------------------------------------------------------ the same result


def test_two_processes_give_the_metrics_of_one(one, two):
    expected = read(one, "metrics.json")["categories"]
    for metrics in two[1]:
        for category in CATEGORIES:
            assert metrics[category] == pytest.approx(expected[category], abs=STEPS)


@pytest.mark.parametrize("category", CATEGORIES)
def test_every_test_image_is_scored_once_in_the_order_of_the_index(one, two, category):
    expected, found = (read(folder, f"results/{category}.json") for folder in (one, two[0]))
    assert [image["name"] for image in found["images"]] == [image["name"] for image in expected["images"]]
    scores = [image["score"] for image in expected["images"]]
    assert [image["score"] for image in found["images"]] == pytest.approx(scores, rel=ROUNDING)


def test_losses_and_looks_are_those_of_one_process(one, two):
    for category in CATEGORIES:
        expected, found = (read(folder, f"training/{category}.json") for folder in (one, two[0]))
        for phase, other in zip(expected["phases"], found["phases"], strict=True):
            losses, others = ([epoch["losses"]["distance"] for epoch in curve["epochs"]] for curve in (phase, other))
            assert others == pytest.approx(losses, rel=ROUNDING)
        for look, other in zip(expected["looks"], found["looks"], strict=True):
            assert other["metrics"][category] == pytest.approx(look["metrics"][category], abs=STEPS)


def test_test_images_are_split_and_none_is_predicted_twice(two):
    """Seven of each of two categories, five times: two looks in each of two phases, and the result."""
    counts = [seen["detect"] for seen in two[2]]
    assert sum(counts) == 7 * 2 * 5
    assert min(counts) >= 3 * 2 * 5


def test_the_result_says_how_many_processes_made_it(one, two):
    assert read(two[0], "metrics.json")["provenance"]["processes"] == 2
    assert "processes" not in read(one, "metrics.json")["provenance"]


def test_one_process_alone_writes(two):
    lines = [json.loads(line) for line in (two[0] / "log.jsonl").read_text().splitlines()]
    assert [line["event"] for line in lines].count("run") == 1
    assert [line["fit"] for line in lines if line["event"] == "checkpoint"] == CATEGORIES


def test_with_a_cache_no_image_is_encoded_twice(config, two, tmp_path):
    cache = {"cache__features": True, "cache__folder": str(tmp_path / "cache")}
    seen = [seen for _, seen in together(_cached, str(config), str(tmp_path), cache)]
    assert sum(one["encode"] for one in seen) == 2 * (6 + 7)
    assert min(one["encode"] for one in seen) >= 2 * (2 + 3)
    assert same_files(tmp_path / RUN, two[0])


def _cached(group, config, output, cache):
    return counting(group, config, output, "new", **cache)


def test_a_threshold_is_found_and_the_same(config, enough_root, tmp_path):
    changes = {"data__root": str(enough_root), "trainer__evaluate_every": 0}
    train(None, config, tmp_path / "one", categories=["felt"], **changes)
    together(_thresholded, str(config), str(tmp_path / "two"), changes)
    limits = [read(tmp_path / name / "trained/separate/felt/0", "results/felt.json") for name in ("one", "two")]
    assert limits[1]["threshold"] == pytest.approx(limits[0]["threshold"], rel=ROUNDING)


def _thresholded(group, config, output, changes):
    return train(group, config, output, "new", ["felt"], **changes)


def test_the_best_look_is_chosen_by_all_alike(config, tmp_path):
    changes = {"trainer__select": "best_on_test", "trainer__evaluate_every": 1}
    train(None, config, tmp_path / "one", categories=["felt"], **changes)
    together(_thresholded, str(config), str(tmp_path / "two"), changes)
    first, second = (read(tmp_path / name / "trained/separate/felt/0", "metrics.json") for name in ("one", "two"))
    assert second["categories"]["felt"] == pytest.approx(first["categories"]["felt"], abs=STEPS)


# ------------------------------------------------------------------------------------------------ going on


def test_what_is_learned_is_not_learned_again(config, two, tmp_path):
    shutil.copytree(two[0], tmp_path / RUN)
    for name in ("results/mesh.json", "metrics.json"):
        (tmp_path / RUN / name).unlink()
    together(_unable_to_learn, str(config), str(tmp_path))
    assert same_files(tmp_path / RUN, two[0])


def _unable_to_learn(group, config, output):
    import anoframe.runs.session

    anoframe.runs.session.learn = None
    return train(group, config, output, "resume")


def test_a_killed_process_ends_the_run_which_resumes_to_the_same_files(config, two, tmp_path):
    with pytest.raises(Ended) as ended:
        together(_killed, str(config), str(tmp_path))
    assert ended.value.args[0] == [2, -signal.SIGKILL]
    assert told(tmp_path) == ["error: another process of this run has gone: the same command with --resume goes on"]
    assert list((tmp_path / RUN / "training/mesh").iterdir())  # in the middle of the second fit
    together(_resumed, str(config), str(tmp_path))
    assert same_files(tmp_path / RUN, two[0])


def _killed(group, config, output):
    """The second process kills itself in the second fit, in a step of the second phase."""
    from anoframe.training.loop import PhaseTrainer

    original = PhaseTrainer._take_step

    def stepping(self, *args):
        if group.rank == 1 and (self._training.fit, self._step, self._done) == ("mesh", 1, 2):
            os.kill(os.getpid(), signal.SIGKILL)
        original(self, *args)

    PhaseTrainer._take_step = stepping
    command(group, config, output)


def _resumed(group, config, output):
    return train(group, config, output, "resume")


def test_another_number_of_processes_does_not_go_on(config, two, tmp_path):
    shutil.copytree(two[0], tmp_path / RUN)
    with pytest.raises(AnoframeError, match="processes was 2 and is None"):
        train(None, config, tmp_path, "resume")


# ------------------------------------------------------------------------------------------------ ending on an error


def command(group, config, output):
    """The command line, in this process; what it prints as errors goes to a file."""
    from anoframe.cli import main

    error = os.open(Path(output) / f"error-{group.rank}", os.O_CREAT | os.O_WRONLY)
    os.dup2(error, 2)
    os._exit(main(["--config", config, "--cls_names", *CATEGORIES, "--output", output]))


def told(folder):
    """The lines that tell the user of an error, by all processes together."""
    texts = [path.read_text() for path in sorted(folder.glob("error-*"))]
    assert len(texts) == 2
    return [line.removesuffix(" with what is done") for text in texts for line in text.splitlines()]


def _failing(group, config, output, rank, error):
    """Some of the processes fail where they evaluate."""
    import anoframe.runs.session

    original = anoframe.runs.session.collect_shared

    def failing(*args):
        if group.rank in rank:
            raise error
        return original(*args)

    anoframe.runs.session.collect_shared = failing
    command(group, config, output)


@pytest.mark.parametrize("rank", [(0,), (1,), (0, 1)])
def test_an_error_in_one_process_ends_all_with_one_message(config, tmp_path, rank):
    with pytest.raises(Ended) as ended:
        together(_failing, str(config), str(tmp_path), rank, AnoframeError("0.png: no good"))
    assert ended.value.args[0] == [2, 2]
    assert told(tmp_path) == ["error: 0.png: no good"]


def test_a_bug_in_one_process_ends_all_with_its_traceback(config, tmp_path):
    with pytest.raises(Ended) as ended:
        together(_failing, str(config), str(tmp_path), (1,), ZeroDivisionError("a bug"))
    assert ended.value.args[0] == [2, 1]
    lines = told(tmp_path)
    assert (lines[0], lines[-1]) == ("Traceback (most recent call last):", "ZeroDivisionError: a bug")


def test_a_failed_run_says_that_it_is(config, tmp_path):
    with pytest.raises(Ended):
        together(_failing, str(config), str(tmp_path), (1,), AnoframeError("0.png: no good"))
    assert read(tmp_path / RUN, "run.json")["status"] == "failed"


def test_a_method_that_only_observes_is_refused(tiny_config, tmp_path):
    with pytest.raises(AssertionError, match="2 processes: this method runs on one device"):
        together(train, tiny_config, tmp_path)


def test_python_by_itself_has_one_process_and_says_how_to_have_more(config, tmp_path):
    with pytest.raises(AnoframeError, match=r"--device cpu cpu: one process works on one device.*torchrun"):
        train(None, config, tmp_path, device="cpu cpu")


# ------------------------------------------------------------------------------------------------ the launcher


def start(config, output, *words):
    """The command line of a checkout, in a fresh Python."""
    door = Path(anoframe.__file__).parents[1] / "tools" / "main.py"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parent)}
    line = [
        sys.executable,
        str(door),
        "--config",
        str(config),
        "--output",
        str(output),
        "--device",
        "cpu",
        "cpu",
        *words,
    ]
    return subprocess.run(line, capture_output=True, text=True, env=environment, timeout=300)


@pytest.mark.slow
def test_the_command_line_starts_a_process_for_each_device(config, two, tmp_path):
    done = start(config, tmp_path, "--cls_names", *CATEGORIES)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("report: ") == 1
    assert done.stdout.count("fit felt: 6 normal images") == 1
    assert same_files(tmp_path / RUN, two[0])


@pytest.mark.slow
def test_the_command_line_ends_with_the_status_and_the_message_of_the_process_that_failed(config, tmp_path):
    done = start(config, tmp_path, "--cls_names", "felt", "--trainer.optimizer.lr", "1e30")
    assert done.returncode == 2
    errors = [line for line in done.stderr.splitlines() if not line.startswith("  ")]
    assert len(errors) == 1, done.stderr
    assert errors[0].startswith("error: phase first, step 2: the loss is not finite")


@pytest.mark.parametrize(
    ("device", "told"),
    [("0 1", "--device 0: this torch .* sees no GPU here"), ("cpu gpu", "--device takes auto, cpu, cuda")],
)
def test_devices_that_are_not_there_are_told_before_anything_starts(cli, config, tmp_path, monkeypatch, device, told):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    done = cli("--config", config, "--cls_names", "felt", "--output", tmp_path, "--device", *device.split())
    assert (done.status, list(tmp_path.iterdir())) == (2, [])
    assert re.match(f"error: {told}", done.err)
