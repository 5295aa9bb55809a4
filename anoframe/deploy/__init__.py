"""Use an exported model without torch; needs onnxruntime or openvino, numpy and pillow.

    import anoframe.deploy

    model = anoframe.deploy.load("exported")  # a folder with model.onnx or model.xml
    result = model.predict("part.png")  # Result(score, is_defect, anomaly_map, defect_pixels)

The command line `python -m anoframe.deploy exported parts/` writes the scores of a folder.
"""

from __future__ import annotations

from anoframe.deploy.description import Description
from anoframe.deploy.model import Model, Result, load

__all__ = ["Description", "Model", "Result", "load"]
