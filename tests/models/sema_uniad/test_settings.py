"""Settings of SEMA: defaults, checks, names in results, and how UniAD's arguments are passed on."""

from __future__ import annotations

from dataclasses import asdict

import pytest
from sema_stream import SMALL_UNIAD, make_small

from anoframe.config import load_config, to_plain
from anoframe.errors import AnoframeError
from anoframe.models.factory import build_detector
from anoframe.models.sema_uniad.model import SemaUniAD
from anoframe.models.sema_uniad.settings import RECORD_NAMES, SemaSettings

# the defaults of the reconciliation table in docs/sema_uniad.md
DEFAULTS = {
    "adapter_bottleneck": 64,
    "adapter_dropout": 0.0,
    "adapter_scalar": 1.0,
    "position": "ffn",
    "mode": "parallel",
    "descriptor_dim": 64,
    "descriptor_relu": False,
    "descriptor_buffer_size": 500,
    "descriptor_loss_weight": 0.1,
    "joint_loss": False,
    "expansion_threshold": 3.0,
    "one_sided": False,
    "scan_order": "sequential",
    "start_layer": 0,
    "end_layer": 7,
    "expand_start": None,
    "expand_end": None,
    "routing": "learned",
    "new_router_bias": None,
    "reuse_finetune": False,
}
# keys of `config.sema_config` in results/continual.json, which external scripts read
RECORDED = (
    "adapter_bottleneck", "adapter_dropout", "adapter_scalar", "sema_position", "sema_mode", "rd_dim", "rd_relu",
    "rd_buffer_size", "rd_loss_weight", "joint_loss", "expansion_threshold", "one_sided", "scan_order",
    "sema_start_layer", "sema_end_layer", "expand_start", "expand_end", "routing", "new_router_bias", "reuse_finetune",
)  # fmt: skip


def test_defaults_of_the_class_and_of_the_config_are_those_of_the_docs():
    assert asdict(SemaSettings()) == DEFAULTS
    assert to_plain(load_config("__base__/sema_uniad.py").model.sema) == DEFAULTS


def test_records_keep_their_key_names():
    assert tuple(SemaSettings().record()) == RECORDED
    assert RECORD_NAMES.keys() <= DEFAULTS.keys()


def test_records_have_the_layers_that_may_expand():
    record = SemaSettings(start_layer=2, end_layer=5, expand_end=4).record()
    assert (record["expand_start"], record["expand_end"]) == (2, 4)


@pytest.mark.parametrize(("arguments", "message"), [
    ({"position": "mlp"}, r"model\.sema\.position must be one of ffn, attn, both, got 'mlp'"),
    ({"mode": "beside"}, r"model\.sema\.mode must be one of parallel, sequential, got 'beside'"),
    ({"routing": "z"}, r"model\.sema\.routing must be one of learned, rd, reconstruction, got 'z'"),
    ({"scan_order": "random"}, r"model\.sema\.scan_order must be one of sequential, joint, got 'random'"),
    ({"descriptor_buffer_size": 2}, r"model\.sema\.descriptor_buffer_size must be at least 3, got 2"),
    ({"adapter_dropout": 1.0}, r"model\.sema\.adapter_dropout must be at least 0 and below 1, got 1\.0"),
    ({"start_layer": 9}, r"no adapters: .* in the range 9 to 7 of model\.sema\.start_layer"),
    ({"expand_start": 5, "expand_end": 4}, r"no layer can expand: .* in the range 5 to 4 of model\.sema\.expand_start"),
    ({"routing": "rd", "new_router_bias": -4.0}, r"model\.sema\.new_router_bias needs the learned router"),
    (
        {"routing": "reconstruction", "reuse_finetune": True},
        r"model\.sema\.reuse_finetune trains a mixture of slots",
    ),
    ({"positoin": "ffn"}, r"model\.sema takes no argument 'positoin': did you mean 'position'"),
    ({"one_sided": 1}, r"model\.sema: one_sided takes True or False, got 1"),
])  # fmt: skip
def test_an_invalid_setting_raises_an_error_with_its_key(backbone, arguments, message):
    with pytest.raises(AnoframeError, match=message):
        make_small(backbone, **arguments)


@pytest.mark.parametrize(("arguments", "message"), [
    ({"widht": 8}, r"takes no argument 'widht': did you mean 'width'"),
    ({"semaa": {}}, r"takes no argument 'semaa': did you mean 'sema'"),
    ({"width": "8"}, r"width takes a whole number, got '8'"),
])  # fmt: skip
def test_an_invalid_argument_raises_an_error_that_names_it(arguments, message):
    section = {"name": "sema_uniad", "backbone": {"name": "test_resnet", "levels": (1, 2), "weights": "random"}}
    with pytest.raises(AnoframeError, match=f"model 'sema_uniad'.*{message}"):
        build_detector({**section, **SMALL_UNIAD, **arguments})


def test_a_misspelt_argument_raises_an_error_without_the_factory_too(backbone):
    with pytest.raises(AnoframeError, match=r"takes no argument 'widht': did you mean 'width'"):
        SemaUniAD(backbone, widht=8)


@pytest.mark.parametrize("key", ["sema_position", "sema_mode", "sema_start_layer", "expansion_threshold", "routing"])
def test_a_key_outside_of_the_section_suggests_the_key_in_it(key):
    suggestion = rf"'model\.{key}': did you mean 'model\.sema\.{key.removeprefix('sema_')}'"
    with pytest.raises(AnoframeError, match=f"unknown config key {suggestion}"):
        load_config("sema_uniad/sema_uniad_lite0.py", {f"model.{key}": "1"})
