"""Anomaly maps at the size of the original photographs, which sPRO is defined on."""

from __future__ import annotations

from anoframe.data.geometry import Frame, Map
from anoframe.data.preprocessing import Preprocessing


def restore_size(anomaly_map: Map, size: tuple[int, int], preprocessing: Preprocessing) -> Map:
    """Resize an anomaly map to its upright photograph, see `anoframe.data.geometry.Frame.restore`.

    Pixels of the photograph that the crop has cut off have no score: they get -inf, the rank of the most normal ones.

    Args:
        anomaly_map: [H, W].
        size: height and width of the photograph.
        preprocessing: with which the map was computed.
    """
    return Frame(preprocessing, size[1], size[0]).restore(anomaly_map)
