"""SEMA-UniAD on ten categories of MVTec AD, one a task, in the order of the project's first document.

    python tools/main.py --config configs/sema_uniad/sema_uniad_10x1.py --seed 42 --device 0

What is frozen after the first task knows hazelnuts alone. Cost: the first task is 49,000 steps of 8 images, a new slot
5000 steps of 16, and there are up to 8 slots a task. Expected: that document hopes for a mean pixel AUROC of 0.78 to
0.82 and a forgetting of 0.10 to 0.15, and measured neither. Not measured here yet.
"""

from anoframe.config import inherit

cfg = inherit("../__base__/sema_uniad.py")
cfg.protocol.tasks = "hazelnut;bottle;cable;capsule;metal_nut;pill;toothbrush;transistor;zipper;screw"
