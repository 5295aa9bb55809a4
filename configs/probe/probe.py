"""Linear probe and nearest neighbours of an encoder on CIFAR-10 or any other labelled images.

    python tools/evaluate_encoder.py --config configs/probe/probe.py --encoder.name exported:RUN --data.root DIR

Cost: one pass of the encoder over all images, and seconds for the probes. Expected: for ResNet-18 with ImageNet
weights, a linear top-1 of about 44 % on CIFAR-10 at 32 pixels and 78 % on STL-10 at 96 pixels; with random weights it
is clearly lower.
"""

from anoframe.config import inherit

cfg = inherit("__base__/probe.py")
