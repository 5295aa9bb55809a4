"""How the categories of a run are cut into fits."""

from __future__ import annotations

import pytest

from anoframe.errors import AnoframeError
from anoframe.runs.protocols import Fit, plan_fits


def test_separate_is_a_fit_a_category_in_the_order_given():
    assert plan_fits("separate", ["mesh", "felt"]) == [Fit("mesh", ("mesh",)), Fit("felt", ("felt",))]


@pytest.mark.parametrize("protocol", ["unified", "continual"])
def test_one_for_all_is_one_fit(protocol):
    assert plan_fits(protocol, ["mesh", "felt"]) == [Fit(protocol, ("mesh", "felt"))]


def test_an_unknown_protocol_suggests_the_nearest():
    with pytest.raises(AnoframeError, match="unknown protocol 'seperate': did you mean 'separate'"):
        plan_fits("seperate", ["mesh"])


@pytest.mark.parametrize("name", ["..", "../x", "a/b", ""])
def test_a_fit_whose_folder_would_lie_elsewhere_is_refused(name):
    with pytest.raises(AnoframeError, match="names a folder of the output"):
        plan_fits("separate", ["felt", name])
