"""CLAP4CLIP with CoOp's context vectors on MVTec AD in five tasks of three.

    python tools/main.py --config configs/clap4clip/clap4clip_mvtec_5x3_coop.py --data.root MVTec

Twelve learned vectors stand before the words of a class. Cost: each step encodes the prompts of all classes with the
text tower, so a GPU is needed. Expected: nothing was published for anomalies.
"""

from anoframe.config import inherit

cfg = inherit("clap4clip_mvtec_5x3.py")
cfg.model.classifier.prompt_style = "coop"
