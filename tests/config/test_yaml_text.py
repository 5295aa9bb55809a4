"""YAML text of configs: numbers by the type of their key, typed placeholders, and text that looks like a number."""

from __future__ import annotations

import pytest

from anoframe.config import flatten, format_config, load_config, to_plain
from anoframe.config.yaml_text import dump_yaml, parse_yaml, read_plain, with_types
from anoframe.errors import AnoframeError

CONFIG = "uniad/uniad_lite0.py"
SPELLINGS = {"5e-3": 0.005, "1e-2": 0.01, "4e0": 4.0, "1.5e3": 1500.0, "2E-1": 0.2, "+.5E1": 5.0, "-.5": -0.5}


@pytest.fixture
def saved(tmp_path):
    """Function that saves a config as YAML, with the lines of single keys replaced, and loads it with overrides."""

    def load(lines: dict[str, str], config: str = CONFIG, **overrides: object):
        tree = {key.rpartition(".")[2]: line for key, line in lines.items()}
        text = format_config(load_config(config)).splitlines()
        text = [f"{line.partition(':')[0]}: {tree[name]}" if (name := _key(line)) in tree else line for line in text]
        (tmp_path / "own.yaml").write_text("\n".join(text) + "\n")
        return load_config(tmp_path / "own.yaml", {name.replace("__", "."): value for name, value in overrides.items()})

    return load


def _key(line: str) -> str:
    return line.partition(":")[0].strip()


@pytest.mark.parametrize(("spelling", "number"), SPELLINGS.items())
def test_number_is_read_however_it_is_written(saved, spelling, number):
    values = dict(flatten(saved({"trainer.clip": spelling, "cache.max_gb": spelling})))
    assert (values["trainer.clip"], values["cache.max_gb"]) == (number, number)
    assert type(values["trainer.clip"]) is type(values["cache.max_gb"]) is float


def test_numbers_of_lists_and_of_the_model_section_are_read(saved):
    cfg = saved({"sigma": "4e0", "ratio": "1e-2", "pixel_thresholds": "[3e-1, 5E-1]"}, "patchcore/patchcore_224.py")
    assert (cfg.model.sigma, cfg.model.coreset.ratio, cfg.evaluation.pixel_thresholds) == (4.0, 0.01, (0.3, 0.5))


@pytest.mark.parametrize("text", ["1e5", "7e-1", "-.5", "08"])
def test_text_stays_text_where_the_key_takes_text(saved, text):
    cfg = saved({"categories": f"[{text}]", "data.root": text, "wandb.tags": f"[{text}]"})
    assert (cfg.categories, cfg.data.root, cfg.wandb.tags) == ((text,), text, (text,))


@pytest.mark.parametrize(("name", "text", "value"), [("note", "1e5", 100000.0), ("note", "'1e5'", "1e5")])
def test_unknown_key_takes_a_number_unless_it_is_in_quotes(tmp_path, name, text, value):
    path = tmp_path / "own.yaml"
    path.write_text(f"{format_config(load_config(CONFIG))}{name}: {text}\n")
    assert dict(flatten(load_config(path)))[name] == value


def test_text_that_looks_like_a_number_is_saved_in_quotes():
    tree = {"note": "1e5", "number": 1e-05, "list": ["5e-3", "-.5", 0.1]}
    assert with_types(parse_yaml(dump_yaml(tree)), None) == {**tree, "list": ("5e-3", "-.5", 0.1)}


def test_whole_number_of_a_float_key_can_be_overridden_with_a_fraction(saved):
    assert saved({"ratio": "1"}, "patchcore/patchcore_224.py", model__coreset__ratio="0.5").model.coreset.ratio == 0.5


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("protocol.order_seed", "3", 3),
        ("trainer.steps", "10", 10),
        ("model.memory.topk", "5", 5),
        ("data.root", "2024", "2024"),
        ("protocol.order_seed", "None", None),
        ("data.root", "None", None),
    ],
)
def test_placeholder_keeps_its_type_in_yaml(saved, name, text, value):
    assert dict(flatten(saved({}, **{name.replace(".", "__"): text})))[name] == value


def test_placeholder_of_a_list_keeps_its_type_in_yaml(tmp_path):
    tree = to_plain(load_config(CONFIG))
    tree["trainer"]["optimizer"]["betas"] = None
    (tmp_path / "own.yaml").write_text(dump_yaml(tree))
    cfg = load_config(tmp_path / "own.yaml", {"trainer.optimizer.betas": "(0.9, 0.99)"})
    assert cfg.trainer.optimizer.betas == (0.9, 0.99)


@pytest.mark.parametrize("source", ["python", "yaml"])
@pytest.mark.parametrize(
    ("name", "text", "values"),
    [
        ("categories", ["7", "no", "01"], ("7", "no", "01")),
        ("categories", "7,1e5", ("7", "1e5")),
        ("wandb.tags", "2024", ("2024",)),
        ("wandb.tags", "('wood', 'ablation')", ("wood", "ablation")),
    ],
)
def test_names_on_the_command_line_are_text(saved, source, name, text, values):
    overrides = {name.replace(".", "__"): text}
    cfg = saved({}, **overrides) if source == "yaml" else load_config(CONFIG, {name: text})
    assert dict(flatten(cfg))[name] == values


@pytest.mark.parametrize(
    ("key", "text", "message"),
    [
        ("categories", "[01]", "each value of categories is text, got 1: put it in quotes, as in '01' or 'no', which"),
        ("categories", "[felt, 7]", "each value of categories is text, got 7: put it in quotes"),
        ("categories", "[no]", "each value of categories is text, got False: put it in quotes"),
        ("categories", "[2024-01-31]", r"each value of categories is text, got .*date\(2024, 1, 31\): put it in"),
        ("wandb.tags", "[2024]", r"each value of wandb\.tags is text, got 2024: put it in quotes"),
        ("device", "0", "device takes text, got 0: put it in quotes"),
        ("protocol.tasks", "5", r"protocol\.tasks takes text, got 5: put it in quotes"),
        ("cache.max_gb", "'2e1'", r"cache\.max_gb takes a number, got '2e1': remove its quotes$"),
        ("cache.max_gb", "many", r"cache\.max_gb takes a number, got 'many'$"),
        ("follow_links", "'no'", r"data\.follow_links takes True or False, got 'no': remove its quotes$"),
        ("seed", "1e1", r"seed takes a whole number, got 10\.0$"),
    ],
)
def test_value_of_another_type_is_told_with_its_key_and_remedy(saved, key, text, message):
    with pytest.raises(AnoframeError, match=rf"own\.yaml: {message}") as caught:
        saved({key: text})
    assert "\n" not in str(caught.value)


def test_text_that_is_not_yaml_is_no_value():
    assert read_plain("a: [") is None
