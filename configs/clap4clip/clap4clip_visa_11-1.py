"""CLAP4CLIP on VisA: eleven categories first, then one.

    python tools/main.py --config configs/clap4clip/clap4clip_visa_11-1.py --data.root VisA

Stream V4; classes are categories and states, defects of training are synthetic (P-STATE-SYN). Cost: features of
512 numbers per image once, on a GPU; then 4.2 million values of the attention and 0.5 million per task train in minutes
on a CPU. Expected: nothing was published for CLAP4CLIP on anomalies. Not measured here: the weights of CLIP are not
available where this was written; docs/clap4clip.md has figures of another encoder.
"""

from anoframe.config import inherit

cfg = inherit("../__base__/clap4clip_stream.py")
cfg.data.name = "visa"
cfg.protocol.tasks = "11-1"
