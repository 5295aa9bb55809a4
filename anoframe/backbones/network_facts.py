"""What is known of a frozen network that was built before: levels, fingerprint and normalisation, kept in the cache.

A run whose features are all in the cache, or whose encoder runs in another engine, needs no more than this: it neither
imports timm nor builds the network. Facts are valid for one file of weights, by its path, size and time of change; if
the network is built later and has another fingerprint, that is an error.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import torch

from anoframe.utils.tensor_cache import NETWORK_CACHE, TensorCache, cache_key, cache_root

_FORMAT = 1
_MAX_BYTES = 10**7  # of all facts; those of one network have 2 KB


class NetworkFacts(NamedTuple):
    """Facts of a network.

    Attributes:
        levels: of the whole network: `module`, `num_chs` (channels) and `reduction` (stride).
        sha256: fingerprint of the weights up to the deepest used level.
        mean: of the normalisation, per channel.
        std: of the normalisation, per channel.
    """

    levels: Sequence[Mapping[str, Any]]
    sha256: str
    mean: Sequence[float]
    std: Sequence[float]


def read_facts(name: str, levels: Sequence[int | str], weights: str, file: Path | None) -> NetworkFacts | None:
    """Return the facts of a network; None if they are not known, or its file of weights has changed.

    Args:
        name: timm name.
        levels: as in the config.
        weights: their source.
        file: of the weights; None for random weights.
    """
    kept = _cache().read(_key(name, levels, weights, file))
    return NetworkFacts(**json.loads(kept["facts"].numpy().tobytes())) if kept else None


def write_facts(facts: NetworkFacts, name: str, levels: Sequence[int | str], weights: str, file: Path | None) -> None:
    """Keep the facts of a network; arguments as for `read_facts`."""
    content = {**facts._asdict(), "levels": [dict(level) for level in facts.levels]}
    data = torch.frombuffer(bytearray(json.dumps(content).encode()), dtype=torch.uint8)
    _cache().write(_key(name, levels, weights, file), {"facts": data})


def _cache() -> TensorCache:
    return TensorCache(cache_root() / NETWORK_CACHE, _MAX_BYTES)


def _key(name: str, levels: Sequence[int | str], weights: str, file: Path | None) -> str:
    status = file.stat() if file else None
    source = [str(file), status.st_size, status.st_mtime_ns] if status else None
    return cache_key("network", _FORMAT, name, list(levels), weights, source, version("timm"), torch.__version__)
