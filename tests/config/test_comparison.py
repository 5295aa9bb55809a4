"""Which keys can change a result, and what a config changes."""

from __future__ import annotations

from anoframe.config import diff_config, load_config, result_keys


def test_changes_are_listed_parent_by_parent():
    last = diff_config("patchcore/patchcore_320.py").split("patchcore_320.py changes patchcore_224.py:\n")[1]
    assert last.splitlines() == [
        "  data.crop: 224 -> 320",
        "  data.resize: 256 -> 366",
        "  model.coreset.ratio: 0.1 -> 0.01",
    ]


def test_changes_of_the_command_line_are_last():
    text = diff_config("patchcore/patchcore_320.py", {"seed": "4"})
    assert text.endswith("command line changes patchcore_320.py:\n  seed: 0 -> 4")


def test_config_without_changes_is_described(tmp_path):
    (tmp_path / "same.py").write_text(
        'from anoframe.config import inherit\n\ncfg = inherit("patchcore/patchcore_320.py")\n'
    )
    assert diff_config(tmp_path / "same.py").endswith("same.py changes patchcore_320.py:\n  nothing")


def test_changes_of_the_command_line_to_a_config_without_a_name_are_listed(tmp_path):
    (tmp_path / "own.py").write_text("from anoframe.config import ConfigDict\ncfg = ConfigDict({'seed': 0})\n")
    assert diff_config(tmp_path / "own.py", {"seed": "4"}) == "command line changes own.py:\n  seed: 0 -> 4"


def test_saved_config_has_no_parent(finished):
    assert diff_config(finished.folder) == "config.yaml has no parent"


def test_result_keys_leave_out_keys_that_cannot_change_a_result():
    cfg = load_config("uniad/uniad_lite0.py")
    changed = load_config(
        "uniad/uniad_lite0.py",
        {
            "cache.images": False,
            "wandb.enable": True,
            "tensorboard.enable": True,
            "report.pictures": 1,
            "data.root": "elsewhere",
            "data.workers": 0,
            "trainer.save_minutes": 1.0,
        },
    )
    assert result_keys(cfg) == result_keys(changed)
    assert result_keys(cfg)["trainer.epochs"] == cfg.trainer.epochs


def test_result_keys_can_be_limited():
    cfg = load_config("uniad/uniad_lite0.py")
    assert all(key.startswith("trainer.") for key in result_keys(cfg, prefix="trainer."))
    assert "trainer.save_minutes" not in result_keys(cfg, prefix="trainer.")
    assert result_keys(cfg, ignored=("seed",)) == {k: v for k, v in result_keys(cfg).items() if k != "seed"}
