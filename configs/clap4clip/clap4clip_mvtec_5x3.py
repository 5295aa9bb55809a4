"""CLAP4CLIP on MVTec AD in five tasks of three categories, alphabetically.

    python tools/main.py --config configs/clap4clip/clap4clip_mvtec_5x3.py --data.root MVTec

Stream M1; classes are categories and states, defects of training are synthetic (P-STATE-SYN). Cost: features of
512 numbers per image once, on a GPU; then 4.2 million values of the attention and 0.5 million per task train in minutes
on a CPU. Expected: nothing was published for CLAP4CLIP on anomalies. Not measured here: the weights of CLIP are not
available where this was written; docs/clap4clip.md has figures of another encoder.
"""

from anoframe.config import inherit

cfg = inherit("../__base__/clap4clip_stream.py")
cfg.protocol.tasks = "3x5"
