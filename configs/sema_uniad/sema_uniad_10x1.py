"""SEMA-UniAD on ten categories of MVTec AD, one per task, in the order of the project's first document.

    python tools/main.py --config configs/sema_uniad/sema_uniad_10x1.py --seed 42 --device 0

The network that is frozen after the first task was trained on hazelnuts only. Cost: the first task takes 49,000 steps
of 8 images, a new slot 5000 steps of 16, with up to 8 slots per task. Expected: that document hopes for a mean pixel
AUROC of 0.78 to 0.82 and a forgetting of 0.10 to 0.15, but measured neither. Not measured here yet.
"""

from anoframe.config import inherit

cfg = inherit("../__base__/sema_uniad.py")
cfg.protocol.tasks = "hazelnut;bottle;cable;capsule;metal_nut;pill;toothbrush;transistor;zipper;screw"
