"""Which config keys can change a result, for comparing and resuming runs."""

from __future__ import annotations

# Prefixes of config keys that cannot change a result: data location, display, logging, caching, and speed.
RESULT_NEUTRAL_KEYS = (
    "cache.",
    "wandb.",
    "tensorboard.",
    "report.",
    "data.root",
    "data.workers",
    "trainer.save_minutes",
)
