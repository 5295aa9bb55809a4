"""RAML as its public code trains it: reinterpreted memory instead of tiles, 20 epochs, AdamW's default weight decay.

    python tools/main.py --config configs/raml/raml_vitb16_replication.py --cls_names all

Differs from the public code by the seed, which it does not set. Cost: as raml_vitb16. Published: image AUROC 94.1
(MVTec AD, 356 held-out images, one run). Not measured here; over seeds: tools/benchmark.py --seeds 0 1 2 3 4.
"""

from anoframe.config import inherit

cfg = inherit("raml_vitb16.py")
cfg.data.resize = 224  # the shorter side, as CLIP's own preprocessing does
cfg.data.crop = 224
cfg.data.keep_aspect = True
cfg.model.pyramid.mode = "reference"
cfg.trainer.epochs = 20
cfg.trainer.optimizer.weight_decay = 0.01
