"""Tiny CLIP models for tests, as settings of open_clip."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

VISION = {"image_size": 32, "layers": 3, "width": 48, "patch_size": 8, "head_width": 16, "mlp_ratio": 2.0}
TEXT = {"context_length": 24, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
SETTINGS: dict[str, dict[str, Any]] = {
    "tiny": {"embed_dim": 20, "vision_cfg": VISION, "text_cfg": TEXT},
    "tiny-quickgelu": {"embed_dim": 20, "quick_gelu": True, "vision_cfg": VISION, "text_cfg": TEXT},
    "tiny-other": {
        "embed_dim": 20,
        "vision_cfg": {**VISION, "no_ln_pre": True, "ls_init_value": 0.3},
        "text_cfg": TEXT,
        "custom_text": True,
    },
    "tiny-one-block": {"embed_dim": 20, "vision_cfg": {**VISION, "layers": 1}, "text_cfg": TEXT},
    "tiny-average": {"embed_dim": 20, "vision_cfg": {**VISION, "pool_type": "avg"}, "text_cfg": TEXT},
    "tiny-resnet": {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 16},
        "text_cfg": TEXT,
    },
    "tiny-hub-tokenizer": {
        "embed_dim": 20,
        "vision_cfg": VISION,
        "text_cfg": {**TEXT, "hf_tokenizer_name": "no/such-tokenizer"},
    },
}


def register_tiny_models(folder: Path) -> None:
    """Add the models to those that open_clip knows, by files in `folder`."""
    import open_clip

    for name, settings in SETTINGS.items():
        (folder / f"{name}.json").write_text(json.dumps(settings), encoding="utf-8")
    open_clip.add_model_config(folder)
