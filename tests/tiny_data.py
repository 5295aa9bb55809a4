"""Lines that all tiny config files share, after their `inherit` line."""

from __future__ import annotations

TINY_DATA = """
cfg.data.name = "folder"
cfg.data.root = {root!r}
cfg.data.resize = 64
cfg.data.crop = 64
cfg.data.workers = 0
cfg.device = "cpu"
cfg.cache.images = False  # so that equal results of two runs do not come from the cache
cfg.cache.features = False
"""
