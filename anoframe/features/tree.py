"""Features as a flat dict of tensors: one place that knows that they are a tensor, a list or a dict of tensors.

The flat form is what the cache writes and the store keeps. A tensor has the name "all", items of a list have their
index, and items of a dict have their key after a dot, so that the structure can be read back from the names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from anoframe.errors import AnoframeError
from anoframe.models.base import Features

FlatFeatures = dict[str, Tensor]


def flatten(features: Features) -> FlatFeatures:
    """Name the tensors of features. Items of a dict are sorted by key.

    Raises:
        AnoframeError: features are not a tensor, nor a list or dict of tensors.
    """
    flat = features
    if isinstance(features, Tensor):
        flat = {"all": features}
    elif isinstance(features, Mapping):
        flat = {f".{key}": features[key] for key in sorted(features)}
    elif isinstance(features, Sequence):
        flat = {str(i): item for i, item in enumerate(features)}
    if not isinstance(flat, dict) or not flat or not all(isinstance(item, Tensor) for item in flat.values()):
        raise AnoframeError(
            f"features must be a tensor, or a list or dict of tensors, got {type(features).__name__}: change "
            "extract_features of the detector"
        )
    return flat


def unflatten(flat: Mapping[str, Tensor]) -> Features:
    """Restore the structure that `flatten` removed; the order of `flat` does not matter."""
    if "all" in flat:
        return flat["all"]
    if all(name.startswith(".") for name in flat):
        return {name[1:]: flat[name] for name in sorted(flat)}
    return [flat[str(i)] for i in range(len(flat))]


def map_features(function: Callable[[Tensor], Tensor], features: Features) -> Features:
    """Apply a function to each tensor of features."""
    return unflatten({name: function(tensor) for name, tensor in flatten(features).items()})


def split_images(features: Features) -> list[FlatFeatures]:
    """Split features of a batch into those of each image, on the CPU and without the batch axis."""
    flat = {name: tensor.cpu() for name, tensor in flatten(features).items()}
    count = len(next(iter(flat.values())))
    return [{name: tensor[i] for name, tensor in flat.items()} for i in range(count)]


def join_images(images: Sequence[FlatFeatures], device: torch.device) -> Features:
    """Join features of single images into those of a batch on a device; the inverse of `split_images`."""
    return unflatten({name: torch.stack([image[name] for image in images]).to(device) for name in images[0]})


def first_infinite(features: Features) -> int | None:
    """Index in the batch of the first image whose features are not all finite; None if all are."""
    for tensor in flatten(features).values():
        # A sum shows infinite values and NaN, and costs a third; large finite values may overflow in it
        if tensor.is_floating_point() and not bool(tensor.sum().isfinite()):
            infinite = (~tensor.flatten(1).isfinite().all(1)).nonzero()
            if len(infinite):
                return int(infinite[0])
    return None
