"""SEMA-UniAD on MVTec AD: ten categories first, then tile, toothbrush, transistor, wood, zipper, one per task.

    python tools/main.py --config configs/sema_uniad/sema_uniad_10-1x5.py --seed 42 --device 0

The stream for comparing methods: a first task of ten categories gives the frozen network general features. Cost: the
first task takes 330,000 steps of 8 images, a new slot 5000 steps of 16, with up to 8 slots per task. Expected: nothing
was published for SEMA in UniAD; UniAD on this stream with EWC 89.6 image and 93.8 pixel AUROC, fine-tuned 76.6 and
82.3. Not measured here yet.
"""

from anoframe.config import inherit

cfg = inherit("../__base__/sema_uniad.py")
cfg.protocol.tasks = "10-1x5"
