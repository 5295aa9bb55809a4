"""The single-prompt baseline: two prompts, the whole image, no map."""

import pytest
import torch
from fake_clip import FakeCLIP
from torch.nn import functional as F

from anoframe.errors import AnoframeError
from anoframe.models.clip_single_prompt import CLIPSinglePrompt


def test_it_encodes_exactly_two_prompts_and_has_no_map(images_of):  # W14
    clip = FakeCLIP()
    prediction = CLIPSinglePrompt(clip).predict(images_of(1, 3), ["metal_nut"] * 3)
    assert clip.prompts_seen == ["a photo of a flawless metal nut", "a photo of a damaged metal nut"]
    assert prediction.anomaly_map is None
    assert prediction.extra_maps == {}


def test_the_score_is_the_softmax_of_the_two_cosines(images_of):
    clip, images = FakeCLIP(), images_of(1, 3)
    score = CLIPSinglePrompt(clip).predict(images, ["bottle"] * 3).score
    image = F.normalize(torch.cat([clip(one) for one in images.split(1)]), dim=1)
    text = clip.encode_text(["a photo of a flawless bottle", "a photo of a damaged bottle"])
    torch.testing.assert_close(score, (image @ text.T / 0.07).softmax(1)[:, 1])


def test_names_can_be_kept_as_they_are(images_of):
    clip = FakeCLIP()
    CLIPSinglePrompt(clip, raw_names=True).predict(images_of(1, 1), ["metal_nut"])
    assert clip.prompts_seen == ["a photo of a flawless metal_nut", "a photo of a damaged metal_nut"]


def test_both_prompts_can_be_replaced(images_of):
    clip = FakeCLIP()
    CLIPSinglePrompt(clip, normal_prompt="a good {}", defect_prompt="a bad {}").predict(images_of(1, 1), ["bottle"])
    assert clip.prompts_seen == ["a good bottle", "a bad bottle"]


@pytest.mark.parametrize("prompt", ["a bad part", "{} and {}"])
def test_a_prompt_without_one_place_for_the_name_is_an_error(prompt):
    with pytest.raises(AnoframeError, match=r"model.defect_prompt must contain \{\} once"):
        CLIPSinglePrompt(FakeCLIP(), defect_prompt=prompt)


def test_a_temperature_of_zero_is_an_error():
    with pytest.raises(AnoframeError, match=r"model.tau, the temperature of the softmax, is above 0"):
        CLIPSinglePrompt(FakeCLIP(), tau=0.0)


def test_images_of_another_size_are_an_error():
    with pytest.raises(AnoframeError, match=r"data.crop is 224"):
        CLIPSinglePrompt(FakeCLIP()).check_image_size(224, 224)


def test_it_is_zero_shot_and_says_that_it_is_not_winclip():
    detector = CLIPSinglePrompt(FakeCLIP())
    assert list(detector.training_stages()) == []
    assert detector.accepts_new_categories
    assert detector.learned_state() == {}
    assert detector.notes()[0].startswith("clip_single_prompt is not WinCLIP")
