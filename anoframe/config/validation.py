"""Checks of config values."""

from __future__ import annotations

from ml_collections import ConfigDict

from anoframe.errors import AnoframeError


def check_ranges(cfg: ConfigDict) -> None:
    """Raise AnoframeError for a value of its kind that nothing can be done with."""
    if not 0 <= cfg.seed < 2**32:
        raise AnoframeError(f"seed is a whole number from 0 to 2**32 - 1, got {cfg.seed}")
    for limit in cfg.evaluation.aupro_limits:
        if not isinstance(limit, float) or not 0 < limit <= 1:
            raise AnoframeError(f"each limit of evaluation.aupro_limits lies in (0, 1], got {limit!r}")
    for threshold in cfg.evaluation.pixel_thresholds:
        if type(threshold) not in (int, float):
            raise AnoframeError(f"evaluation.pixel_thresholds takes numbers, got {threshold!r}")
    if cfg.data.batch_size < 1:
        raise AnoframeError(f"data.batch_size is 1 or more, got batch size {cfg.data.batch_size}")
    if not -1 <= cfg.data.workers <= 256:
        raise AnoframeError(f"data.workers lies from -1 to 256, got {cfg.data.workers}")
    if not cfg.cache.max_gb > 0:
        raise AnoframeError(f"cache.max_gb is above 0, got {cfg.cache.max_gb}: --cache off uses none")
    if not 0 <= cfg.threshold.held_back < 1:
        raise AnoframeError(
            f"threshold.held_back is a share in [0, 1), 0 for no threshold, got {cfg.threshold.held_back}"
        )
    if not 0 < cfg.threshold.false_positive_rate < 1:
        raise AnoframeError(f"threshold.false_positive_rate lies in (0, 1), got {cfg.threshold.false_positive_rate}")
