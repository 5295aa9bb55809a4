"""Ablation H: logistic regression on the standardised features of the whole image, without text and MACCL.

    python tools/main.py --config configs/raml/raml_vitb16_linear_probe.py --cls_names all

The learning rate is not that of raml_vitb16: with 5e-5 a linear layer does not converge in 25 epochs, which would make
the baseline look weaker than it is. 0.003 was chosen by cross-validation on training images of four categories, with
EfficientNet-Lite2. Cost: as raml_vitb16, whose features it shares. Nothing was published; not measured here.
"""

from anoframe.config import inherit

cfg = inherit("raml_vitb16.py")
cfg.model.head = "linear"
cfg.model.text.weight = 0.0
cfg.model.text.fusion = False
cfg.trainer.optimizer.lr = 0.003
