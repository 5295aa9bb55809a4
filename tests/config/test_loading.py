"""Finding, inheriting, overriding and reading back configs."""

from __future__ import annotations

import pytest

from anoframe.config import flatten, inherit, load_config, save_config
from anoframe.config.discovery import configs_root, find_config, find_run_config
from anoframe.errors import AnoframeError

EPOCHS = """
from anoframe.config import ConfigDict, inherit
cfg = inherit("patchcore/patchcore_224.py")
with cfg.unlocked():
    cfg.epochs = 100
    cfg.optimizer = ConfigDict()
    cfg.optimizer.decay_epoch = (cfg.get_ref("epochs") * 0.8).to_int()
"""


# ------------------------------------------------------------------------------------------------ finding


@pytest.mark.parametrize("prefix", ["", "configs/"])
def test_shipped_config_is_found_by_name(prefix, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert find_config(f"{prefix}patchcore/patchcore_320.py") == configs_root() / "patchcore" / "patchcore_320.py"


def test_path_on_disk_has_priority_over_a_shipped_name(monkeypatch, tmp_path, write):
    (tmp_path / "patchcore").mkdir()
    own = write("patchcore/patchcore_320.py", "cfg.seed = 5")
    monkeypatch.chdir(tmp_path)
    assert find_config("patchcore/patchcore_320.py") == own


def test_unknown_config_suggests_the_nearest():
    with pytest.raises(AnoframeError, match=r"did you mean 'patchcore/patchcore_320\.py'"):
        load_config("patchcore/patchcore_302.py")


def test_run_folder_is_a_config(finished):
    assert list(flatten(load_config(finished.folder))) == list(flatten(finished.config))


@pytest.mark.parametrize("text", ["- a\n- b\n", "a: [1\n", ""])
def test_yaml_file_that_is_not_a_config_is_named(tmp_path, text):
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(AnoframeError, match=r"config\.yaml(:2)?: not (a config\.|)(?i:yaml)"):
        load_config(tmp_path)


def test_file_of_another_type_is_not_a_config(tmp_path):
    path = tmp_path / "metrics.json"
    path.write_text('{"aupro": false}')
    with pytest.raises(AnoframeError, match=r"metrics\.json is not a config: give a \.py file"):
        load_config(path)


def test_folder_of_several_runs_is_not_a_checkpoint_and_one_run_is_named(finished):
    with pytest.raises(AnoframeError, match=r"contains 1 run\(s\): give one of them, for example .*"):
        find_run_config(finished.folder.parents[2])


# ------------------------------------------------------------------------------------------------ inheritance


def test_child_changes_only_the_values_it_sets(write):
    child = write("child.py", "cfg.model.coreset.ratio = 0.25")
    before = dict(flatten(load_config("patchcore/patchcore_224.py")))
    after = dict(flatten(load_config(child)))
    assert after == before | {"config_name": "child", "model.coreset.ratio": 0.25}


def test_parent_may_be_in_the_same_folder(write):
    write("parent.py", "cfg.seed = 7")
    assert load_config(write("child.py", parent="parent.py")).seed == 7


def test_parent_path_is_relative_to_the_child(write, tmp_path):
    write("parent.py", "cfg.seed = 7")
    (tmp_path / "below").mkdir()
    assert load_config(write("below/child.py", parent="../parent.py")).seed == 7


def test_loading_a_child_does_not_change_its_parent(write):
    load_config(write("child.py", "cfg.seed = 9"))
    assert load_config("patchcore/patchcore_224.py").seed == 0


def test_config_that_inherits_from_itself_is_an_error(write):
    write("one.py", parent="two.py")
    with pytest.raises(AnoframeError, match=r"one\.py: inherits from itself through .*two\.py"):
        load_config(write("two.py", parent="one.py"))


def test_inherit_outside_a_config_file_is_an_error():
    with pytest.raises(AnoframeError, match=r"from Python use load_config\(\)"):
        inherit("patchcore/patchcore_224.py")


def test_missing_parent_suggests_the_nearest(write):
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
        ("cfg.model.coreset_ratio = 0.5", "model.coreset.ratio"),
    ],
)
def test_unknown_key_in_a_file_is_reported_with_line_and_suggestion(write, line, suggested):
    with pytest.raises(AnoframeError) as caught:
        load_config(write("child.py", line))
    assert "child.py:3: " in str(caught.value)
    assert f"did you mean '{suggested}'" in str(caught.value).replace('"', "'").lower()


def test_error_in_a_parent_names_the_parent(write):
    parent = write("parent.py", "cfg.seed = 'one'")
    with pytest.raises(AnoframeError, match=rf"^{parent}:3: "):
        load_config(write("child.py", parent="parent.py"))


@pytest.mark.parametrize("line", ["cfg.seed = 'one'", "cfg.data.crop = 64.5", "cfg.data.root = 3", "cfg.model = 1"])
def test_value_of_another_type_in_a_file_is_reported_with_line(write, line):
    with pytest.raises(AnoframeError, match=r"child\.py:3: TypeError"):
        load_config(write("child.py", line))


def test_syntax_error_is_reported_with_line(write):
    with pytest.raises(AnoframeError, match=r"child\.py:3: .*never closed"):
        load_config(write("child.py", "cfg.categories = ("))


@pytest.mark.parametrize("line", ["cfg = {'seed': 1}", "del cfg"])
def test_file_must_bind_cfg(write, line):
    with pytest.raises(AnoframeError, match=r"child\.py: a config file must bind 'cfg' to a ConfigDict"):
        load_config(write("child.py", line))


# ------------------------------------------------------------------------------------------------ values


@pytest.mark.parametrize("name", ["parent.py", "child.py"])
def test_derived_values_follow_an_override(tmp_path, write, name):
    (tmp_path / "parent.py").write_text(EPOCHS)
    write("child.py", "cfg.epochs = 10", parent="parent.py")
    cfg = load_config(tmp_path / name, {"epochs": "50"})
    assert (cfg.epochs, cfg.optimizer.decay_epoch) == (50, 40)


def test_derived_values_follow_a_child(tmp_path, write):
    (tmp_path / "parent.py").write_text(EPOCHS)
    assert load_config(write("child.py", "cfg.epochs = 10", parent="parent.py")).optimizer.decay_epoch == 8


def test_derived_value_can_be_overridden(tmp_path):
    (tmp_path / "parent.py").write_text(EPOCHS)
    cfg = load_config(tmp_path / "parent.py", {"optimizer.decay_epoch": "7", "epochs": "20"})
    assert (cfg.epochs, cfg.optimizer.decay_epoch) == (20, 7)


@pytest.mark.parametrize("changes", [{"protocol.tasks": "a;b"}, {"protocol.strategy": "ewc"}])
@pytest.mark.parametrize(("more", "protocol"), [({}, "continual"), ({"protocol.name": "separate"}, "separate")])
def test_tasks_and_strategy_select_the_continual_protocol_unless_it_is_overridden(changes, more, protocol):
    assert load_config("uniad/uniad_lite0.py", {**changes, **more}).protocol.name == protocol


def test_placeholder_for_text_stays_text_after_yaml(tmp_path):
    save_config(load_config("patchcore/patchcore_224.py"), tmp_path / "config.yaml")
    assert load_config(tmp_path, {"data.root": "2024"}).data.root == "2024"


def test_integer_is_accepted_for_a_number(edit_saved):
    assert load_config(edit_saved("max_gb: 20.0", "max_gb: 20")).cache.max_gb == 20


def test_additional_key_of_the_user_is_kept(edit_saved):
    assert load_config(edit_saved("\nseed: 0", "\nseed: 0\nnote: on felt")).note == "on felt"


def test_missing_key_in_a_saved_config_gets_its_default(edit_saved):
    assert load_config(edit_saved("  max_gb: 20.0\n", "")).cache.max_gb == 20.0
