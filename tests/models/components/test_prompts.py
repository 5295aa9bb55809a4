"""Prompts: the published set, a user's file, its errors, and class prototypes."""

from itertools import chain

import pytest
import torch
import yaml
from fake_clip import FakeCLIP
from torch.nn import functional as F

from anoframe.errors import AnoframeError
from anoframe.models.components.prompts import DEFAULT_PROMPTS, TextPrototypes, read_prompts

SMALL = {"templates": ["a photo of a {}"], "normal": ["{}", "good {}"], "defect": ["{} with flaw"]}


@pytest.fixture
def prompts_file(tmp_path):
    """Writes a prompts file: `SMALL` with changes; None removes a key."""

    def write(text=None, **changes):
        content = {key: value for key, value in {**SMALL, **changes}.items() if value is not None}
        path = tmp_path / "my_prompts.yaml"
        path.write_text(yaml.safe_dump(content) if text is None else text, encoding="utf-8")
        return path

    return write


# ------------------------------------------------------------------------------------------------ the published set


def test_there_are_154_normal_and_88_defect_prompts_all_distinct():  # W5
    normal, defect = read_prompts().prompts("bottle")
    assert (len(normal), len(defect)) == (154, 88)
    assert len({*normal, *defect}) == 242


def test_every_prompt_contains_the_name_once_and_another_name_changes_every_prompt():  # W5
    bottle, cable = ([*chain(*read_prompts().prompts(name))] for name in ("bottle", "cable"))
    assert {prompt.count("bottle") for prompt in bottle} == {1}
    assert [prompt.replace("bottle", "cable") for prompt in bottle] == cable
    assert not {*bottle} & {*cable}


def test_known_prompts():
    normal, defect = read_prompts().prompts("metal_nut")
    assert normal[0] == "a photo of a metal nut."
    assert "a bright photo of the flawless metal nut." in normal
    assert "a photo of a metal nut without damage for visual inspection." in normal
    assert "a jpeg corrupted photo of a damaged metal nut." in defect
    assert "a photo of the small metal nut with flaw." in defect


def test_the_full_stop_can_be_left_out():
    with_stop, without = ([*chain(*read_prompts(full_stop=stop).prompts("bottle"))] for stop in (True, False))
    assert [prompt + "." for prompt in without] == with_stop


def test_each_template_has_a_form_with_a_and_one_with_the():
    templates = read_prompts().templates
    assert {t.replace(" the ", " a ") for t in templates if " the " in t} == {t for t in templates if " the " not in t}
    assert len(templates) == 22


def test_the_shipped_prompts_need_no_remark():
    assert read_prompts().remarks() == []
    assert read_prompts(DEFAULT_PROMPTS, full_stop=False).remarks() == []


# ------------------------------------------------------------------------------------------------ a user's file


def test_a_file_replaces_the_prompts_and_the_result_says_so(prompts_file):
    path = prompts_file()
    prompts = read_prompts(path)
    assert prompts.prompts("pcb1") == (
        ["a photo of a pcb1.", "a photo of a good pcb1."],
        ["a photo of a pcb1 with flaw."],
    )
    (remark,) = prompts.remarks()
    assert str(path) in remark
    assert prompts.sha256[:12] in remark
    assert "1 templates, 2 normal and 1 defect states" in remark


def test_a_category_can_be_renamed_and_the_result_says_so(prompts_file):
    prompts = read_prompts(prompts_file(names={"grid": "metal mesh"}))
    assert prompts.prompts("grid")[1] == ["a photo of a metal mesh with flaw."]
    assert prompts.prompts("metal_nut")[1] == ["a photo of a metal nut with flaw."]
    assert "categories are renamed in prompts: 'grid' is 'metal mesh'" in prompts.remarks()


def test_a_repeated_template_counts_twice_and_the_result_says_so(prompts_file):
    prompts = read_prompts(prompts_file(templates=["a {}", "the {}", "the {}"]))
    assert len(prompts.prompts("bottle")[1]) == 3
    assert "the prompts list 'the {}' 2 times under templates, and it counts so" in prompts.remarks()


def test_the_hash_depends_on_the_content_alone(prompts_file):
    first = read_prompts(prompts_file())
    text = "# a comment\n" + yaml.safe_dump(SMALL, default_flow_style=True)
    assert read_prompts(prompts_file(text)).sha256 == first.sha256
    assert read_prompts(prompts_file(names={"grid": "mesh"})).sha256 != first.sha256
    assert read_prompts(prompts_file(), full_stop=False).sha256 != first.sha256


def test_a_home_folder_is_expanded(prompts_file, monkeypatch):
    monkeypatch.setenv("HOME", str(prompts_file().parent))
    assert len(read_prompts("~/my_prompts.yaml").templates) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"templates": None}, "the key templates is missing: copy it from"),
        ({"normal": []}, "normal must be a list of texts with at least one entry, got []"),
        ({"defect": "damaged {}"}, "defect must be a list of texts with at least one entry, got 'damaged {}'"),
        ({"defect": ["damaged {}", 3]}, "entry 2 of defect must be text in quotes, got 3"),
        ({"defect": ["damaged"]}, "entry 1 of defect must contain {} once and no other brace, got 'damaged'"),
        ({"templates": ["{} of {}"]}, "entry 1 of templates must contain {} once and no other brace, got '{} of {}'"),
        ({"templates": ["a {} {x}"]}, "entry 1 of templates must contain {} once and no other brace, got 'a {} {x}'"),
        ({"templates": ["a  {}"]}, "entry 1 of templates has extra spaces or line breaks: 'a  {}'"),
        ({"templats": ["a {}"]}, "unknown key 'templats': did you mean 'templates'"),
        ({"names": ["grid"]}, "names must be a table of category: name, got ['grid']"),
        ({"names": {"grid": 3}}, "names must map text to text, both in quotes, got 'grid': 3"),
        ({"names": {"grid": " "}}, "names must map text to text, both in quotes, got 'grid': ' '"),
        ({"names": {"grid": "a {}"}}, "names: the name of 'grid' must have no braces, got 'a {}'"),
    ],
)
def test_a_wrong_file_is_an_error_that_names_file_and_key(prompts_file, changes, message):
    path = prompts_file(**changes)
    with pytest.raises(AnoframeError) as error:
        read_prompts(path)
    assert str(error.value).startswith(f"model.prompts {path}: ")
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a list", "must have the keys templates, normal, defect, got ['a list']"),
        ("", "must have the keys templates, normal, defect, got None"),
        ("templates: [", "is not YAML"),
        ("normal: ['{}']\nnormal: ['good {}']\n", "the key 'normal' is given twice"),
        ("templates: !!python/object/apply:os.getcwd []", "is not YAML"),
    ],
)
def test_a_file_of_another_form_is_an_error(prompts_file, text, message):
    path = prompts_file(text)
    with pytest.raises(AnoframeError) as error:
        read_prompts(path)
    assert message in str(error.value)
    assert str(path) in str(error.value)


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(AnoframeError, match=r"no\.yaml: cannot be read \(No such file"):
        read_prompts(tmp_path / "no.yaml")


# ------------------------------------------------------------------------------------------------ prototypes


def test_prototypes_average_the_raw_embeddings_of_all_prompts():
    clip, prompts = FakeCLIP(), read_prompts()
    text = TextPrototypes(clip, prompts).of(["bottle", "metal_nut"])
    assert text.shape == (2, 2, clip.embed_dim)
    for row, category in enumerate(("bottle", "metal_nut")):
        for column, texts in enumerate(prompts.prompts(category)):
            total = torch.zeros(clip.embed_dim)
            for one in texts:
                total += clip.encode_text_raw([one])[0]
            torch.testing.assert_close(text[row, column], total / total.norm())


def test_prototypes_can_average_normalised_embeddings():
    clip, prompts = FakeCLIP(), read_prompts()
    raw, normalised = (TextPrototypes(clip, prompts, kind).of(["bottle"]) for kind in ("raw", "normalised"))
    units = torch.stack([clip.encode_text_raw([one])[0] for one in prompts.prompts("bottle")[0]])
    units = units / units.norm(dim=1, keepdim=True)
    torch.testing.assert_close(normalised[0, 0], F.normalize(units.mean(0), dim=0))
    assert not torch.allclose(raw, normalised)


def test_each_category_is_encoded_once():
    clip = FakeCLIP()
    prototypes = TextPrototypes(clip, read_prompts())
    prototypes.of(["bottle", "cable", "bottle"])
    prototypes.of(["cable"])
    assert len(clip.prompts_seen) == 2 * 242


def test_an_unknown_convention_is_an_error():
    with pytest.raises(AnoframeError, match=r"model.prototypes is one of raw, normalised, got 'mean'"):
        TextPrototypes(FakeCLIP(), read_prompts(), "mean")
