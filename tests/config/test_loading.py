"""Configs: the shipped ones, inheritance, overrides with their types, and the way there and back through YAML."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from torch import nn

from anoframe.backbones import FeaturePyramid
from anoframe.config import check_config, diff_config, flatten, format_config, inherit, load_config, save_config
from anoframe.config.discovery import config_of, configs_root, find_config, list_configs
from anoframe.errors import AnoframeError
from anoframe.models.factory import build_detector
from anoframe.registry import DATASETS, MODELS, check_arguments

SHIPPED = list_configs()
EPOCHS = """
from anoframe.config import ConfigDict, inherit
cfg = inherit("patchcore/patchcore_224.py")
with cfg.unlocked():
    cfg.epochs = 100
    cfg.optimizer = ConfigDict()
    cfg.optimizer.decay_epoch = (cfg.get_ref("epochs") * 0.8).to_int()
"""


class Levels(nn.Module):
    """Says of itself what a backbone of so many levels says, and has no weights."""

    def __init__(self, levels: int):
        super().__init__()
        self.levels = self.level_names(range(levels))
        self.channels, self.strides, self.signed = (8,) * levels, (4,) * levels, (True,) * levels

    def level_names(self, levels):
        return tuple(str(level) for level in levels)

    def with_levels(self, levels):
        return Levels(len(levels))


@pytest.fixture
def write(tmp_path):
    """Writes a config file: the lines after one that inherits."""

    def to(name: str, *lines: str, parent: str = "patchcore/patchcore_224.py") -> Path:
        path = tmp_path / name
        head = ("from anoframe.config import inherit", f"cfg = inherit({parent!r})")
        path.write_text("\n".join((*head, *lines)) + "\n", encoding="utf-8")
        return path

    return to


# ------------------------------------------------------------------------------------------------ shipped configs


def test_the_configs_of_the_issue_are_shipped():
    assert {
        "patchcore/patchcore_224.py",
        "patchcore/patchcore_256.py",
        "patchcore/patchcore_320.py",
        "patchcore/patchcore_lite0_224.py",
        "patchcore_noising/patchcore_noising_256_100e.py",
        "patchcore_noising/patchcore_noising_256_300e.py",
        "patchcore_noising/patchcore_noising_lite0_256.py",
    } <= set(SHIPPED)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_config_loads_with_its_own_name(name):
    assert load_config(name).config_name == Path(name).stem


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_config_is_locked(name):
    with pytest.raises(AttributeError, match="locked"):
        load_config(name).model.sigmma = 1.0


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_config_builds_what_it_describes(name):
    section = load_config(name).model
    check_arguments(FeaturePyramid, section.backbone, name)
    arguments = {key: value for key, value in section.items() if key not in ("name", "backbone")}
    MODELS.build(section.name, backbone=Levels(len(section.backbone.levels)), **arguments)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_config_names_a_dataset(name):
    assert load_config(name).data.name in DATASETS.names()


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_config_states_its_command(name):
    docstring = ast.get_docstring(ast.parse((configs_root() / name).read_text(encoding="utf-8")))
    assert docstring is not None
    stream = load_config(name).protocol.tasks  # says itself which categories it wants
    assert f"python tools/main.py --config configs/{name}{'' if stream else ' --cls_names'}" in docstring


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_config_comes_back_from_yaml(name, tmp_path):
    cfg = load_config(name)
    save_config(cfg, tmp_path / "config.yaml")
    back = load_config(tmp_path)
    assert list(flatten(back)) == list(flatten(cfg))
    assert [type(value) for _, value in flatten(back)] == [type(value) for _, value in flatten(cfg)]


def test_the_published_backbone_fits_the_published_config():
    cfg = load_config("patchcore/patchcore_224.py", {"model.backbone.weights": "random"})
    detector = build_detector(cfg.model)
    assert detector.backbone.channels == (512, 1024)


# ------------------------------------------------------------------------------------------------ finding


@pytest.mark.parametrize("prefix", ["", "configs/"])
def test_a_shipped_config_is_found_by_name(prefix, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert find_config(f"{prefix}patchcore/patchcore_320.py") == configs_root() / "patchcore" / "patchcore_320.py"


def test_a_path_on_disk_wins_over_a_shipped_name(monkeypatch, tmp_path, write):
    (tmp_path / "patchcore").mkdir()
    own = write("patchcore/patchcore_320.py", "cfg.seed = 5")
    monkeypatch.chdir(tmp_path)
    assert find_config("patchcore/patchcore_320.py") == own


def test_an_unknown_config_suggests_the_nearest():
    with pytest.raises(AnoframeError, match=r"did you mean 'patchcore/patchcore_320\.py'"):
        load_config("patchcore/patchcore_302.py")


def test_a_run_folder_is_a_config(finished):
    assert list(flatten(load_config(finished.folder))) == list(flatten(finished.config))


@pytest.mark.parametrize("text", ["- a\n- b\n", "a: [1\n", ""])
def test_a_yaml_that_is_no_config_is_named(tmp_path, text):
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(AnoframeError, match=r"config\.yaml(:2)?: not (a config\.|)(?i:yaml)"):
        load_config(tmp_path)


# ------------------------------------------------------------------------------------------------ inheritance


def test_a_child_changes_what_it_says_and_nothing_else(write):
    child = write("child.py", "cfg.model.coreset.ratio = 0.25")
    before = dict(flatten(load_config("patchcore/patchcore_224.py")))
    after = dict(flatten(load_config(child)))
    assert after == before | {"config_name": "child", "model.coreset.ratio": 0.25}


def test_a_parent_is_looked_for_beside_the_file(write):
    write("parent.py", "cfg.seed = 7")
    assert load_config(write("child.py", parent="parent.py")).seed == 7


def test_a_parent_is_looked_for_relative_to_the_file(write, tmp_path):
    write("parent.py", "cfg.seed = 7")
    (tmp_path / "below").mkdir()
    assert load_config(write("below/child.py", parent="../parent.py")).seed == 7


def test_loading_a_child_leaves_its_parent_as_it_was(write):
    load_config(write("child.py", "cfg.seed = 9"))
    assert load_config("patchcore/patchcore_224.py").seed == 0


def test_a_config_that_inherits_from_itself_is_told(write):
    write("one.py", parent="two.py")
    with pytest.raises(AnoframeError, match=r"one\.py: inherits from itself through .*two\.py"):
        load_config(write("two.py", parent="one.py"))


def test_inherit_belongs_into_a_config_file():
    with pytest.raises(AnoframeError, match=r"from Python use load_config\(\)"):
        inherit("patchcore/patchcore_224.py")


def test_a_missing_parent_is_told(write):
    with pytest.raises(AnoframeError, match=r"did you mean 'patchcore/patchcore_224\.py'"):
        load_config(write("child.py", parent="patchcore/patchcore_22.py"))


# ------------------------------------------------------------------------------------------------ errors in a file


@pytest.mark.parametrize(
    ("line", "suggested"),
    [
        ("cfg.model.coreset.ratoi = 0.5", "ratio"),
        ("cfg.modle = 1", "model"),
        ("cfg.sede = 1", "seed"),
        ("cfg.model.update({'sigmma': 1.0})", "sigma"),
        ("ratio = cfg.model.coreset.ratoi", "ratio"),
    ],
)
def test_an_unknown_key_in_a_file_has_its_line_and_a_suggestion(write, line, suggested):
    with pytest.raises(AnoframeError) as caught:
        load_config(write("child.py", line))
    assert "child.py:3: " in str(caught.value)
    assert f"did you mean '{suggested}'" in str(caught.value).replace('"', "'").lower()


def test_an_error_in_a_parent_names_the_parent(write):
    parent = write("parent.py", "cfg.seed = 'one'")
    with pytest.raises(AnoframeError, match=rf"^{parent}:3: "):
        load_config(write("child.py", parent="parent.py"))


@pytest.mark.parametrize("line", ["cfg.seed = 'one'", "cfg.data.crop = 64.5", "cfg.data.root = 3", "cfg.model = 1"])
def test_a_value_of_another_type_in_a_file_has_its_line(write, line):
    with pytest.raises(AnoframeError, match=r"child\.py:3: TypeError"):
        load_config(write("child.py", line))


def test_a_syntax_error_has_its_line(write):
    with pytest.raises(AnoframeError, match=r"child\.py:3: .*never closed"):
        load_config(write("child.py", "cfg.categories = ("))


@pytest.mark.parametrize("line", ["cfg = {'seed': 1}", "del cfg"])
def test_a_file_must_bind_cfg(write, line):
    with pytest.raises(AnoframeError, match=r"child\.py: a config file binds 'cfg' to a ConfigDict"):
        load_config(write("child.py", line))


# ------------------------------------------------------------------------------------------------ overrides


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("seed", "42", 42),
        ("seed", 42, 42),
        ("data.workers", "-1", -1),
        ("model.sigma", "2.5", 2.5),
        ("model.sigma", "3", 3.0),
        ("model.sigma", 3, 3.0),
        ("model.coreset.ratio", "1e-2", 0.01),
        ("data.keep_aspect", "False", False),
        ("data.keep_aspect", "true", True),
        ("data.keep_aspect", "0", False),
        ("wandb.enable", True, True),
        ("data.name", "visa", "visa"),
        ("device", "0", "0"),
        ("data.root", "2024", "2024"),
        ("data.root", None, None),
        ("model.backbone.levels", "(1, 2)", (1, 2)),
        ("model.backbone.levels", "1,2", (1, 2)),
        ("model.backbone.levels", ["layer2", "3"], ("layer2", 3)),
        ("model.backbone.levels", "2", (2,)),
        ("evaluation.pixel_thresholds", (0.5, 0.75), (0.5, 0.75)),
    ],
)
def test_an_override_is_read_as_the_type_of_what_it_replaces(name, value, expected):
    found = dict(flatten(load_config("patchcore/patchcore_224.py", {name: value})))[name]
    assert (found, type(found)) == (expected, type(expected))


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("seed", "one", "a whole number"),
        ("seed", "1.5", "a whole number"),
        ("seed", True, "a whole number"),
        ("seed", "", "a whole number"),
        ("model.sigma", "wide", "a number"),
        ("model.sigma", "True", "a number"),
        ("data.keep_aspect", "2", "True or False"),
        ("data.keep_aspect", "maybe", "True or False"),
        ("data.name", 3, "text"),
        ("data.root", 3, "text"),
        ("model.backbone.levels", 2, "a list of values"),
    ],
)
def test_an_override_of_another_type_is_refused(name, value, kind):
    with pytest.raises(AnoframeError) as caught:
        load_config("patchcore/patchcore_224.py", {name: value})
    assert str(caught.value) == f"{name} takes {kind}, got {value!r}"


@pytest.mark.parametrize(("name", "value"), [("seed", "None"), ("seed", None), ("model.sigma", "None")])
def test_none_is_no_number(name, value):
    with pytest.raises(AnoframeError, match=f"{name} takes"):
        load_config("patchcore/patchcore_224.py", {name: value})


def test_a_root_that_reads_as_a_number_stays_text_after_yaml(tmp_path):
    save_config(load_config("patchcore/patchcore_224.py"), tmp_path / "config.yaml")
    assert load_config(tmp_path, {"data.root": "2024"}).data.root == "2024"


@pytest.mark.parametrize(
    ("name", "suggested"),
    [
        ("model.coreset.ratoi", "model.coreset.ratio"),
        ("data.rooot", "data.root"),
        ("sede", "seed"),
        ("seed.x", "seed"),
        ("modle.sigma", "model.sigma"),
    ],
)
def test_an_unknown_key_suggests_the_nearest(name, suggested):
    with pytest.raises(AnoframeError, match=f"unknown config key '{name}': did you mean '{suggested}'"):
        load_config("patchcore/patchcore_224.py", {name: 1})


def test_a_section_is_no_value():
    with pytest.raises(AnoframeError, match=r"'model\.coreset' is a section, .*model\.coreset\.ratio"):
        load_config("patchcore/patchcore_224.py", {"model.coreset": "exact"})


@pytest.mark.parametrize("name", ["parent.py", "child.py"])
def test_derived_values_follow_an_override(tmp_path, write, name):
    (tmp_path / "parent.py").write_text(EPOCHS)
    write("child.py", "cfg.epochs = 10", parent="parent.py")
    cfg = load_config(tmp_path / name, {"epochs": "50"})
    assert (cfg.epochs, cfg.optimizer.decay_epoch) == (50, 40)


def test_derived_values_follow_a_child(tmp_path, write):
    (tmp_path / "parent.py").write_text(EPOCHS)
    assert load_config(write("child.py", "cfg.epochs = 10", parent="parent.py")).optimizer.decay_epoch == 8


def test_a_derived_value_can_be_set(tmp_path):
    (tmp_path / "parent.py").write_text(EPOCHS)
    cfg = load_config(tmp_path / "parent.py", {"optimizer.decay_epoch": "7", "epochs": "20"})
    assert (cfg.epochs, cfg.optimizer.decay_epoch) == (20, 7)


# ------------------------------------------------------------------------------------------------ showing


def test_the_printed_config_is_one(tmp_path):
    cfg = load_config("patchcore_noising/patchcore_noising_256_100e.py", {"evaluation.aupro_limits": "0.3,0.05"})
    (tmp_path / "printed.yaml").write_text(format_config(cfg), encoding="utf-8")
    assert list(flatten(load_config(tmp_path / "printed.yaml"))) == list(flatten(cfg))


def test_a_derived_value_is_printed_as_its_value(tmp_path):
    (tmp_path / "parent.py").write_text(EPOCHS)
    assert "decay_epoch: 80" in format_config(load_config(tmp_path / "parent.py"))


def test_what_a_config_changes_is_told_parent_by_parent():
    last = diff_config("patchcore/patchcore_320.py").split("patchcore_320.py changes patchcore_224.py:\n")[1]
    assert last.splitlines() == [
        "  data.crop: 224 -> 320",
        "  data.resize: 256 -> 366",
        "  model.coreset.ratio: 0.1 -> 0.01",
    ]


def test_what_the_command_line_changes_is_told_last():
    text = diff_config("patchcore/patchcore_320.py", {"seed": "4"})
    assert text.endswith("command line changes patchcore_320.py:\n  seed: 0 -> 4")


def test_a_config_that_changes_nothing_says_so(tmp_path):
    (tmp_path / "same.py").write_text(
        'from anoframe.config import inherit\n\ncfg = inherit("patchcore/patchcore_320.py")\n'
    )
    assert diff_config(tmp_path / "same.py").endswith("same.py changes patchcore_320.py:\n  nothing")


def test_what_the_command_line_changes_is_told_of_a_config_without_a_name(tmp_path):
    (tmp_path / "own.py").write_text("from anoframe.config import ConfigDict\ncfg = ConfigDict({'seed': 0})\n")
    assert diff_config(tmp_path / "own.py", {"seed": "4"}) == "command line changes own.py:\n  seed: 0 -> 4"


def test_a_saved_config_has_no_parent(finished):
    assert diff_config(finished.folder) == "config.yaml has no parent"


# ------------------------------------------------------------------------------------------------ complete and typed


@pytest.fixture
def saved(finished, tmp_path):
    """A run's config.yaml with one text replaced by another."""

    def change(old, new):
        text = (finished.folder / "config.yaml").read_text()
        assert old in text
        (tmp_path / "config.yaml").write_text(text.replace(old, new))
        return tmp_path / "config.yaml"

    return change


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("crop: 64", "crop: wide", r"config\.yaml: data\.crop takes a whole number, got 'wide'"),
        ("crop: 64", "crop: true", r"config\.yaml: data\.crop takes a whole number, got True"),
        ("max_gb: 20.0", "max_gb: .nan", r"config\.yaml: cache\.max_gb takes a number, got nan"),
        ("pixel_thresholds: []", "pixel_thresholds: 3", r"config\.yaml: evaluation\.pixel_thresholds takes a list"),
        ("crop: 64", "corp: 64", r"config\.yaml: unknown config key 'data\.corp': did you mean 'crop'"),
        ("seed: 0", "seed: 2020-13-45", r"config\.yaml: not a config\.yaml: month must be in 1\.\.12"),
    ],
)
def test_a_spoilt_config_of_a_run_is_told(saved, old, new, message):
    with pytest.raises(AnoframeError, match=message):
        load_config(saved(old, new))


def test_a_whole_number_will_do_for_a_number(saved):
    assert load_config(saved("max_gb: 20.0", "max_gb: 20")).cache.max_gb == 20


def test_a_key_of_ones_own_is_kept(saved):
    assert load_config(saved("seed: 0", "seed: 0\nnote: on felt")).note == "on felt"


def test_a_config_that_lacks_a_key_is_told():
    cfg = load_config("patchcore/patchcore_224.py")
    with cfg.unlocked():
        del cfg.data["crop"]
    with pytest.raises(AnoframeError, match=r"config patchcore_224 lacks the key data\.crop: inherit"):
        check_config(cfg)


def test_every_shipped_config_is_complete():
    for name in list_configs():
        check_config(load_config(name))


@pytest.mark.parametrize("asked", [{"protocol.tasks": "a;b"}, {"protocol.strategy": "ewc"}])
@pytest.mark.parametrize(("more", "protocol"), [({}, "continual"), ({"protocol.name": "separate"}, "separate")])
def test_tasks_and_strategies_ask_for_a_stream_unless_another_protocol_is_named(asked, more, protocol):
    assert load_config("uniad/uniad_lite0.py", {**asked, **more}).protocol.name == protocol


def test_a_file_of_another_kind_is_no_config(tmp_path):
    path = tmp_path / "metrics.json"
    path.write_text('{"aupro": false}')
    with pytest.raises(AnoframeError, match=r"metrics\.json is no config: give a \.py file"):
        load_config(path)


def test_a_folder_of_runs_is_no_checkpoint_and_one_of_them_is_named(finished):
    with pytest.raises(AnoframeError, match=r"holds 1 run\(s\): give one of them, as .*"):
        config_of(finished.folder.parents[2])
