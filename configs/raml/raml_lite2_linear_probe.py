"""Ablation H: logistic regression on the standardised features of the whole image, without text and MACCL.

    python tools/main.py --config configs/raml/raml_lite2_linear_probe.py --cls_names all

The learning rate is not that of raml_lite2: with 5e-5 a linear layer does not converge in 25 epochs, which would make
the baseline look weaker than it is. 0.003 was chosen by cross-validation on training images of four categories, with
EfficientNet-Lite2. Cost: as raml_lite2, whose features it shares. Expected: docs/raml.md.
"""

from anoframe.config import inherit

cfg = inherit("raml_lite2.py")
cfg.model.head = "linear"
cfg.trainer.optimizer.lr = 0.003
