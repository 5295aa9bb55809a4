"""Whole runs of two processes: the result of one process, each image once, and an end for all if one of them fails."""

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
from processes import ProcessExited, run_in_processes
from reconstructor import CONFIG

import anoframe
from anoframe.config import load_config
from anoframe.errors import AnoframeError

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]

CATEGORIES = ["felt", "mesh"]
COMPARED = ("metrics.json", "results/felt.json", "results/mesh.json")
RUN = "trained/separate/felt+mesh/0"
FELT = "trained/separate/felt/0"
# One process and two add the same float32 numbers in another order: a relative error of 2^-24 per sum of a few hundred
# terms in a gradient, carried on by 12 steps of SGD. Scores differ by 5e-7 (measured). Adam would need more, because it
# divides small gradients by their own size.
ROUNDING = 1e-5
# A metric is a step function: it changes when such an error swaps the order of two of 28672 pixels; measured is 1.5e-5.
METRIC_STEP = 1e-4


@pytest.fixture(scope="module")
def config(tmp_path_factory, tiny_root):
    path = tmp_path_factory.mktemp("configs") / "trained.py"
    small = 'cfg.model.backbone.name = "test_resnet"\n'
    path.write_text(CONFIG.format(root=str(tiny_root)) + small, encoding="utf-8")
    return path


def train(group, config, output, start="new", categories=CATEGORIES, **overrides):
    """Train in each of the processes, or in one alone, and return the metrics."""
    changes = {name.replace("__", "."): value for name, value in overrides.items()}
    return anoframe.train(load_config(config, changes), categories, output, start).metrics


def train_and_count(group, *args, **options):
    """Train, and return the metrics with the numbers of images that this process encodes and predicts."""
    from reconstructor import Reconstructor

    from anoframe.models.base import Detector

    counts = {"encode": 0, "detect": 0}

    def counted(name, original):
        def call(self, given, *rest):
            counts[name] += len(given if name == "encode" else given[0])
            return original(self, given, *rest)

        return call

    Detector.encode = counted("encode", Detector.encode)
    Reconstructor.detect = counted("detect", Reconstructor.detect)
    return train(group, *args, **options), counts


def train_with(group, config, output, changes, categories):
    """Train with changes of the config, as a mapping, which `together` can pass on."""
    return train_and_count(group, config, output, "new", categories, **changes)


@pytest.fixture(scope="module")
def one(config, tmp_path_factory):
    """The folder of a run of one process."""
    import torch

    torch.set_num_threads(1)
    output = tmp_path_factory.mktemp("one")
    train(None, config, output)
    return output / RUN


@pytest.fixture(scope="module")
def two(config, tmp_path_factory):
    """The folder of the same run of two processes, and the metrics and image counts of each process."""
    output = tmp_path_factory.mktemp("two")
    results = run_in_processes(train_and_count, config, output, "new")
    return output / RUN, [metrics for metrics, _ in results], [counts for _, counts in results]


@pytest.fixture(scope="module")
def enough(config, enough_root, tmp_path_factory):
    """Folders of runs of one and of two processes, with images enough for a threshold and a selection on the test."""
    import torch

    torch.set_num_threads(1)
    output = tmp_path_factory.mktemp("enough")
    selecting = {"trainer__select": "best_on_test", "trainer__evaluate_every": 1}
    changes = {"data__root": str(enough_root), **selecting}
    train(None, config, output / "one", categories=["felt"], **changes)
    run_in_processes(train_with, str(config), str(output / "two"), changes, ["felt"])
    return output / "one" / FELT, output / "two" / FELT


def read(folder, name):
    return json.loads((folder / name).read_text(encoding="utf-8"))


def has_same_files(folder, other):
    return [name for name in COMPARED if (folder / name).read_bytes() != (other / name).read_bytes()] == []


# ------------------------------------------------------------------------------------------------ the same result


def test_two_processes_give_the_metrics_of_one(one, two):
    expected = read(one, "metrics.json")["categories"]
    for metrics in two[1]:
        for category in CATEGORIES:
            assert metrics[category] == pytest.approx(expected[category], abs=METRIC_STEP)


@pytest.mark.parametrize("category", CATEGORIES)
def test_every_test_image_is_scored_once_in_the_order_of_the_index(one, two, category):
    expected, results = (read(folder, f"results/{category}.json") for folder in (one, two[0]))
    assert [image["name"] for image in results["images"]] == [image["name"] for image in expected["images"]]
    scores = [image["score"] for image in expected["images"]]
    assert [image["score"] for image in results["images"]] == pytest.approx(scores, rel=ROUNDING)


def test_losses_and_evaluations_in_training_are_those_of_one_process(one, two):
    for category in CATEGORIES:
        expected, results = (read(folder, f"training/{category}.json") for folder in (one, two[0]))
        for phase, other in zip(expected["phases"], results["phases"], strict=True):
            losses, others = ([epoch["losses"]["distance"] for epoch in curve["epochs"]] for curve in (phase, other))
            assert others == pytest.approx(losses, rel=ROUNDING)
        for evaluation, other in zip(expected["looks"], results["looks"], strict=True):
            assert other["metrics"][category] == pytest.approx(evaluation["metrics"][category], abs=METRIC_STEP)


def test_test_images_are_split_and_none_is_predicted_twice(two):
    """Seven of each of two categories, five times: two evaluations in each of two phases, and the result."""
    counts = [counts["detect"] for counts in two[2]]
    assert sum(counts) == 7 * 2 * 5
    assert min(counts) >= 3 * 2 * 5


def test_the_provenance_has_the_number_of_processes(one, two):
    assert read(two[0], "metrics.json")["provenance"]["processes"] == 2
    assert "processes" not in read(one, "metrics.json")["provenance"]


def test_only_the_main_process_writes(two):
    lines = [json.loads(line) for line in (two[0] / "log.jsonl").read_text().splitlines()]
    assert [line["event"] for line in lines].count("run") == 1
    assert [line["fit"] for line in lines if line["event"] == "checkpoint"] == CATEGORIES


def test_with_a_cache_no_image_is_encoded_twice(config, two, tmp_path):
    cache = {"cache__features": True, "cache__folder": str(tmp_path / "cache")}
    results = run_in_processes(train_with, str(config), str(tmp_path), cache, CATEGORIES)
    counts = [counts["encode"] for _, counts in results]
    assert sum(counts) == 2 * (6 + 7)
    assert min(counts) >= 2 * (2 + 3)
    assert has_same_files(tmp_path / RUN, two[0])


def test_the_threshold_is_that_of_one_process(enough):
    expected, threshold = (read(folder, "results/felt.json")["threshold"] for folder in enough)
    assert expected is not None
    assert threshold == pytest.approx(expected, rel=ROUNDING)


def test_all_processes_select_the_same_epoch(enough):
    expected, metrics = (read(folder, "metrics.json")["categories"]["felt"] for folder in enough)
    assert metrics == pytest.approx(expected, abs=METRIC_STEP)


# ------------------------------------------------------------------------------------------------ resuming


def test_a_trained_detector_is_not_trained_again(config, two, tmp_path):
    shutil.copytree(two[0], tmp_path / RUN)
    for name in ("results/mesh.json", "metrics.json"):
        (tmp_path / RUN / name).unlink()
    run_in_processes(_resume_without_training, str(config), str(tmp_path))
    assert has_same_files(tmp_path / RUN, two[0])


def test_the_main_process_draws_the_pictures_that_a_kill_has_cost(config, two, tmp_path):
    shutil.copytree(two[0], tmp_path / RUN)
    shutil.rmtree(tmp_path / RUN / "pictures/felt")
    (tmp_path / RUN / "results/mesh.json").unlink()  # so that all processes go on to work together
    run_in_processes(_resume_without_training, str(config), str(tmp_path))
    drawn, expected = (sorted(path.name for path in (f / "pictures/felt").iterdir()) for f in (tmp_path / RUN, two[0]))
    assert drawn == expected


def _resume_without_training(group, config, output):
    import anoframe.runs.fitting

    anoframe.runs.fitting.fit_learner = None
    return train(group, config, output, "resume")


@pytest.mark.slow
def test_a_killed_process_ends_the_run_which_resumes_to_the_same_files(config, two, tmp_path):
    with pytest.raises(ProcessExited) as ended:
        run_in_processes(_killed, str(config), str(tmp_path))
    assert ended.value.args[0] == [2, -signal.SIGKILL]
    assert printed_errors(tmp_path) == [
        "error: another process of this run has ended: the same command with --resume continues this run"
    ]
    assert list((tmp_path / RUN / "training/mesh").iterdir())  # in the middle of the second fit
    run_in_processes(_resumed, str(config), str(tmp_path))
    assert has_same_files(tmp_path / RUN, two[0])


def _killed(group, config, output):
    """The second process kills itself in the second fit, in a step of the second phase."""
    from anoframe.training.loop import PhaseTrainer

    original = PhaseTrainer._take_step

    def take_step(self, *args):
        if group.rank == 1 and (self._context.fit, self._stage, self._done) == ("mesh", 1, 2):
            os.kill(os.getpid(), signal.SIGKILL)
        original(self, *args)

    PhaseTrainer._take_step = take_step
    run_command(group, config, output)


def _resumed(group, config, output):
    return train(group, config, output, "resume")


def test_another_number_of_processes_cannot_resume(config, two, tmp_path):
    shutil.copytree(two[0], tmp_path / RUN)
    with pytest.raises(AnoframeError, match="processes was 2 and is None"):
        train(None, config, tmp_path, "resume")


# ------------------------------------------------------------------------------------------------ errors


def run_command(group, config, output):
    """Run the command line in this process, with its standard error in a file, and end the process."""
    from anoframe.cli import main

    error = os.open(Path(output) / f"error-{group.rank}", os.O_CREAT | os.O_WRONLY)
    os.dup2(error, 2)
    os._exit(main(["--config", config, "--cls_names", *CATEGORIES, "--output", output]))


def printed_errors(folder):
    """Return the lines that the processes together printed as errors."""
    texts = [path.read_text() for path in sorted(folder.glob("error-*"))]
    assert len(texts) == 2
    return [line for text in texts for line in text.splitlines()]


def _fail(group, config, output, ranks, error):
    """Run the command line; processes of some ranks fail in the evaluation."""
    import anoframe.runs.evaluating

    original = anoframe.runs.evaluating.collect_distributed

    def failing(*args):
        if group.rank in ranks:
            raise error
        return original(*args)

    anoframe.runs.evaluating.collect_distributed = failing
    run_command(group, config, output)


@pytest.mark.parametrize("ranks", [(0,), (1,), (0, 1)])
def test_an_error_in_one_process_ends_all_with_one_message(config, tmp_path, ranks):
    with pytest.raises(ProcessExited) as ended:
        run_in_processes(_fail, str(config), str(tmp_path), ranks, AnoframeError("0.png: no good"))
    assert ended.value.args[0] == [2, 2]
    assert printed_errors(tmp_path) == ["error: 0.png: no good"]
    assert read(tmp_path / RUN, "run.json")["status"] == "failed"


def test_a_bug_in_one_process_ends_all_with_its_traceback(config, tmp_path):
    with pytest.raises(ProcessExited) as ended:
        run_in_processes(_fail, str(config), str(tmp_path), (1,), ZeroDivisionError("a bug"))
    assert ended.value.args[0] == [2, 1]
    lines = printed_errors(tmp_path)
    assert (lines[0], lines[-1]) == ("Traceback (most recent call last):", "ZeroDivisionError: a bug")


def test_a_method_without_gradient_training_is_refused(tiny_config, tmp_path):
    with pytest.raises(AssertionError, match="2 processes: this method trains on one device"):
        run_in_processes(train, tiny_config, tmp_path)


def test_python_alone_has_one_process_and_names_the_ways_to_more(config, tmp_path):
    with pytest.raises(AnoframeError, match=r"--device cpu cpu: one process uses one device.*torchrun"):
        train(None, config, tmp_path, device="cpu cpu")


# ------------------------------------------------------------------------------------------------ the launcher


def start_command(config, output, *words):
    """Run the command line of the checkout on two devices, in a fresh Python."""
    script = Path(anoframe.__file__).parents[1] / "tools" / "main.py"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[1])}
    options = ["--config", str(config), "--output", str(output), "--device", "cpu", "cpu", *words]
    line = [sys.executable, str(script), *options]
    return subprocess.run(line, capture_output=True, text=True, env=environment, timeout=300)


@pytest.mark.slow
def test_the_command_line_starts_one_process_per_device(config, two, tmp_path):
    done = start_command(config, tmp_path, "--cls_names", *CATEGORIES)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("report: ") == 1
    assert done.stdout.count("fit felt: 6 normal images") == 1
    assert has_same_files(tmp_path / RUN, two[0])


@pytest.mark.slow
def test_the_command_line_ends_with_status_and_message_of_the_process_that_failed(config, tmp_path):
    done = start_command(config, tmp_path, "--cls_names", "felt", "--trainer.optimizer.lr", "1e30")
    assert done.returncode == 2
    errors = [line for line in done.stderr.splitlines() if not line.startswith("  ")]
    assert len(errors) == 1, done.stderr
    assert errors[0].startswith("error: phase first, step 2: the loss is not finite")


@pytest.mark.parametrize(
    ("device", "error"),
    [("0 1", "--device 0: torch .* finds no GPU on this machine"), ("cpu gpu", "--device takes auto, cpu, cuda")],
)
def test_missing_devices_are_refused_before_a_process_is_started(cli, config, tmp_path, monkeypatch, device, error):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    done = cli("--config", config, "--cls_names", "felt", "--output", tmp_path, "--device", *device.split())
    assert (done.status, list(tmp_path.iterdir())) == (2, [])
    assert re.match(f"error: {error}", done.err)
