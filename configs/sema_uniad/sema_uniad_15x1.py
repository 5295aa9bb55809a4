"""SEMA-UniAD on the fifteen categories of MVTec AD in alphabetical order, one per task.

    python tools/main.py --config configs/sema_uniad/sema_uniad_15x1.py --seed 42 --device 0

The hardest stream: the network that is frozen after the first task was trained on bottles only. Cost: the first task
takes 27,000 steps of 8 images, a new slot 5000 steps of 16, with up to 8 slots per task. Expected: low plasticity. Not
measured here yet.
"""

from anoframe.config import inherit

cfg = inherit("../__base__/sema_uniad.py")
cfg.protocol.tasks = "15x1"
