"""A method of its own, in its own file, that grows over a stream: its table, series and scalars reach all outputs."""

from __future__ import annotations

import importlib
import sys

import pytest
from wandb_files import offline_runs

import anoframe

pytestmark = pytest.mark.slow

GROWING = '''
"""A method that stores one mean feature per task."""

import torch

from anoframe.models.base import ContinualDetector, Observation
from anoframe.models.components.anomaly_map import upsample
from anoframe.models.summary import MethodSummary, Series, Table
from anoframe.types import Prediction


class Growing(ContinualDetector):
    """Distance to the nearest of one mean feature per task."""

    def __init__(self, backbone):
        super().__init__(backbone)
        self.register_buffer("means", torch.empty(0, 0))

    def start_task(self, task, images):
        self._earlier = self.means if task else torch.empty(0, 0)

    def finish_task(self):
        pass

    def training_stages(self):
        return [Observation("mean", self._begin, self._observe, self._finish)]

    def _begin(self, images):
        self._total, self._images = 0, images

    def _observe(self, features, samples):
        self._total = self._total + features[0].mean((2, 3)).sum(0)

    def _finish(self):
        mean = (self._total / self._images)[None]
        self.means = torch.cat([self._earlier, mean]) if len(self._earlier) else mean

    def messages(self):
        return [f"stored mean number {number}" for number in range(len(self.means))]

    def summary(self):
        count = len(self.means)
        return MethodSummary(
            scalars={"growing/means": count},
            tables=[Table("means", "Stored <means>", ("mean",), [[str(number)] for number in range(count)])],
            series=[Series("means <stored>", [(task, task + 1) for task in range(count)])],
            message=f"{count} means are stored",
            config_records={"growing_config": {"kind": "mean"}},
            task_records={"growing_stats": {"means": count}},
            stream_records={"growing_events": list(range(count))},
        )

    def compute_prediction(self, features, size):
        level = features[0]
        distances = (level[:, None] - self.means[None, :, :, None, None]).norm(dim=2).amin(1)
        maps = upsample(distances, size)
        return Prediction(maps.flatten(1).amax(1), maps)
'''


@pytest.fixture(scope="module")
def stream_run(tiny_config, tmp_path_factory):
    """A finished run of that method on a stream of two tasks, with its report and its offline W&B files."""
    folder = tmp_path_factory.mktemp("growing")
    (folder / "growing_method.py").write_text(GROWING, encoding="utf-8")
    config = folder / "growing.py"
    config.write_text(
        "from anoframe.config import ConfigDict, inherit\n"
        f"cfg = inherit({str(tiny_config)!r})\n"
        "backbone = cfg.model.backbone\n"
        "with cfg.unlocked():\n"
        "    cfg.model = ConfigDict({'name': 'growing_method:Growing'})\n"
        "    cfg.model.backbone = backbone\n"
        "cfg.protocol.name = 'continual'\n"
        "cfg.protocol.strategy = 'native'\n"
        "cfg.wandb.enable = True\n",
        encoding="utf-8",
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        patch.setenv("WANDB_MODE", "offline")
        patch.delitem(sys.modules, "growing_method", raising=False)
        importlib.invalidate_caches()
        run = anoframe.train(anoframe.load_config(config), ["felt", "mesh"], folder / "runs")
    return run


def test_continual_json_holds_the_records_of_the_method(stream_run):
    results = stream_run.stream
    assert results["growing_stats"] == [{"means": 1}, {"means": 2}]
    assert results["growing_events"] == [0, 1]
    assert results["config"]["growing_config"] == {"kind": "mean"}
    assert [summary["scalars"] for summary in results["method_summaries"]] == [
        {"growing/means": 1},
        {"growing/means": 2},
    ]
    assert [len(summary["tables"]) for summary in results["method_summaries"]] == [0, 1]
    # keys that scripts read exist for every method
    assert (results["adapter_stats"], results["expansions"]) == ([{}, {}], [])
    assert results["config"]["sema_config"] == {}


def test_report_shows_table_series_and_scalars(stream_run):
    page = (stream_run.folder / "report.html").read_text(encoding="utf-8")
    assert "Stored &lt;means&gt;" in page
    assert "Stored <means>" not in page
    assert "means &lt;stored&gt;" in page
    assert "means <stored>" not in page


def test_wandb_receives_scalars_and_the_table(stream_run):
    (tracked,) = offline_runs(stream_run.folder)
    assert [row["growing/means"] for row in tracked.history if "growing/means" in row] == [1, 2]
    assert [row["growing/task"] for row in tracked.history if "growing/means" in row] == [0, 1]
    assert any("continual/means" in row for row in tracked.history)
