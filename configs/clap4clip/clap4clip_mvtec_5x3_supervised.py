"""CLAP4CLIP on MVTec AD with real defects (P-STATE-SUP), an upper bound.

    python tools/main.py --config configs/clap4clip/clap4clip_mvtec_5x3_supervised.py --data.root MVTec

It learns from 80 % of the test images with their defects, and is tested on the others; exemplars are real defects too.
Never in a table with the other configs. Cost: as clap4clip_mvtec_5x3. Expected: above clap4clip_mvtec_5x3.
"""

from anoframe.config import inherit

cfg = inherit("clap4clip_mvtec_5x3.py")
cfg.model.defects = "real"
cfg.data.split = "raml"
cfg.data.split_seed = 42
