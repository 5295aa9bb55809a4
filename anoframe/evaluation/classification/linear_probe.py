"""Linear probe: one linear layer on frozen features, with the settings of the usual evaluation of SimCLR."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anoframe.errors import AnoframeError
from anoframe.evaluation.classification.evaluator import ClassificationEvaluator, ClassPredictions
from anoframe.evaluation.classification.features import LabelledFeatures


class LinearProbe:
    """Cross-entropy on a linear layer, trained with Adam and a constant learning rate.

    Args:
        epochs: passes over the training features.
        lr: learning rate.
        weight_decay: of Adam (L2), for weight and bias.
        batch_size: features per step.
        standardise: scale each feature to mean 0 and standard deviation 1 over the training images first.
    """

    def __init__(
        self,
        epochs: int = 100,
        lr: float = 0.0003,
        weight_decay: float = 0.0008,
        batch_size: int = 256,
        standardise: bool = False,
    ):
        if min(epochs, batch_size) < 1 or not lr > 0 or weight_decay < 0:
            raise AnoframeError(
                "linear probe: epochs and batch_size are 1 or more, lr above 0, weight_decay 0 or more; got "
                f"{epochs}, {batch_size}, {lr}, {weight_decay}"
            )
        self.epochs, self.lr, self.weight_decay, self.batch_size = epochs, lr, weight_decay, batch_size
        self.standardise = standardise

    def evaluate(self, train: LabelledFeatures, test: LabelledFeatures, seed: int) -> dict[str, float]:
        """Train on the training features and measure top-1 and top-5 on all test features.

        Initial weights and the order of the features depend on the seed alone.
        """
        first, second = self._scale(train.features, test.features)
        layer = self.fit(first, train.labels, len(train.classes), seed)
        with torch.no_grad():
            return ClassificationEvaluator().top_accuracies(ClassPredictions(layer(second), test.labels))

    def fit(self, features: Tensor, labels: Tensor, classes: int, seed: int) -> nn.Linear:
        """Train the layer on features `[N, D]`."""
        generator = torch.Generator().manual_seed(seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            layer = nn.Linear(features.shape[1], classes)
        optimizer = torch.optim.Adam(layer.parameters(), self.lr, weight_decay=self.weight_decay)
        for _ in range(self.epochs):
            for rows in torch.randperm(len(features), generator=generator).split(self.batch_size):
                optimizer.zero_grad()
                F.cross_entropy(layer(features[rows]), labels[rows]).backward()
                optimizer.step()
        return layer

    def _scale(self, train: Tensor, test: Tensor) -> tuple[Tensor, Tensor]:
        if not self.standardise:
            return train, test
        mean, std = train.mean(0), train.std(0).clamp_min(1e-6)
        return (train - mean) / std, (test - mean) / std
