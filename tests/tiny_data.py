"""What every tiny config has in common: lines of a config file, after it has inherited."""

from __future__ import annotations

TINY_DATA = """
cfg.data.name = "folder"
cfg.data.root = {root!r}
cfg.data.resize = 64
cfg.data.crop = 64
cfg.data.workers = 0
cfg.device = "cpu"
cfg.cache.images = False  # what runs have in common is for tests to find, not for a cache to bring about
cfg.cache.features = False
"""
