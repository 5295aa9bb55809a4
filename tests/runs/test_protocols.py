"""Fits, categories and strategy of a run, planned without torch."""

from __future__ import annotations

import pytest

from anoframe.config import load_config
from anoframe.errors import AnoframeError
from anoframe.runs.protocols import Fit, config_for_run, plan_fits


def test_separate_has_one_fit_per_category_in_the_given_order():
    assert plan_fits("separate", ["mesh", "felt"]) == [Fit("mesh", ("mesh",)), Fit("felt", ("felt",))]


@pytest.mark.parametrize("protocol", ["unified", "continual"])
def test_other_protocols_have_one_fit_for_all_categories(protocol):
    assert plan_fits(protocol, ["mesh", "felt"]) == [Fit(protocol, ("mesh", "felt"))]


def test_a_fit_trains_on_all_its_categories_unless_some_are_new():
    assert Fit("unified", ("felt", "mesh")).training_categories == ("felt", "mesh")
    assert Fit("task_01", ("felt", "mesh"), ("mesh",)).training_categories == ("mesh",)


def test_an_unknown_protocol_suggests_the_nearest():
    with pytest.raises(AnoframeError, match="unknown protocol 'seperate': did you mean 'separate'"):
        plan_fits("seperate", ["mesh"])


@pytest.mark.parametrize("name", ["..", "../x", "a/b", ""])
def test_a_fit_whose_folder_would_leave_the_output_is_refused(name):
    with pytest.raises(AnoframeError, match="names a folder of the output"):
        plan_fits("separate", ["felt", name])


@pytest.mark.parametrize(("given", "expected"), [("expand", "native"), ("native", "native"), ("ewc", "ewc")])
def test_a_renamed_strategy_gets_its_present_name(given, expected):
    cfg = load_config("uniad/uniad_lite0.py", {"protocol.strategy": given})
    assert config_for_run(cfg, ["felt"]).protocol.strategy == expected
    assert cfg.protocol.strategy == given
