"""Weighted nearest neighbours on frozen features (Wu et al., CVPR 2018, section 3.4)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from anoframe.errors import AnoframeError
from anoframe.evaluation.classification.evaluator import ClassificationEvaluator, ClassPredictions
from anoframe.evaluation.classification.features import LabelledFeatures

_ROWS = 1024  # test features per block


class NearestNeighbours:
    """Votes of the nearest training features, weighted by exp(cosine similarity / temperature).

    Args:
        k: number of neighbours, at most that of the training images.
        temperature: of the weights.
    """

    def __init__(self, k: int = 20, temperature: float = 0.07):
        if k < 1 or not temperature > 0:
            raise AnoframeError(
                f"nearest neighbours: k is 1 or more and temperature above 0, got {k} and {temperature}"
            )
        self.k, self.temperature = k, temperature

    def evaluate(self, train: LabelledFeatures, test: LabelledFeatures, seed: int) -> dict[str, float]:
        """Measure top-1 and top-5 on all test features; the seed changes nothing."""
        return ClassificationEvaluator().top_accuracies(ClassPredictions(self.votes(train, test.features), test.labels))

    def votes(self, train: LabelledFeatures, features: Tensor) -> Tensor:
        """Compute the votes `[N, C]` for features `[N, D]`."""
        bank = F.normalize(train.features, dim=1)
        blocks = []
        for block in F.normalize(features, dim=1).split(_ROWS):
            similarity, rows = (block @ bank.T).topk(min(self.k, len(bank)), dim=1)
            weights = (similarity / self.temperature).exp()
            votes = torch.zeros(len(block), len(train.classes), dtype=weights.dtype)
            blocks.append(votes.scatter_add_(1, train.labels[rows], weights))
        return torch.cat(blocks)
