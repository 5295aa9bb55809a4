"""SEMA-UniAD on the fifteen categories of MVTec AD in alphabetical order, one a task.

    python tools/main.py --config configs/sema_uniad/sema_uniad_15x1.py --seed 42 --device 0

The hardest stream: what is frozen after the first task knows bottles alone. Cost: the first task is 27,000 steps of 8
images, a new slot 5000 steps of 16, and there are up to 8 slots a task. Expected: low plasticity. Not measured
here yet.
"""

from anoframe.config import inherit

cfg = inherit("../__base__/sema_uniad.py")
cfg.protocol.tasks = "15x1"
