"""PaDiM on ResNet-18, 100 of 448 channels, images of 256 pixels cropped to 224: the small setting of the paper.

    python tools/main.py --config configs/padim/padim_resnet18_224.py --cls_names bottle

Cost: one pass of the encoder over all images, and some seconds to fit. The checkpoint of a category takes 77 MB.
Expected on MVTec AD: image AUROC 89.1, pixel AUROC 96.8 (anomalib's benchmark, mean of 15, preprocessing not known).
"""

from anoframe.config import inherit

cfg = inherit("padim_224.py")
cfg.model.backbone.name = "resnet18"
cfg.model.backbone.weights = "hub:tv_in1k"  # torchvision's weights, as in the paper; timm's default is another training
cfg.model.num_channels = 100
