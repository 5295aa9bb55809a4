"""Losses of CLAP4CLIP against their definitions (C9 and C10 of the method's checks)."""

import math

import pytest
import torch
from torch.nn import functional as F

from anoframe.models.class_incremental.losses import (
    distillation_loss,
    language_loss,
    orthogonality_loss,
    sample_cross_entropy,
)


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(5)


def test_the_language_loss_of_known_similarities():
    three = math.sqrt(10) * torch.eye(3)
    assert float(15 * language_loss(three, three[None])) == pytest.approx(
        15 * math.log(1 + 2 * math.exp(-10)), rel=1e-3
    )
    same = torch.ones(3, 3)
    assert float(15 * language_loss(same, same[None])) == pytest.approx(16.479, rel=1e-4)


def test_the_language_loss_is_that_of_all_pairs_of_texts_and_samples(generator):
    texts, samples = torch.randn(4, 3, 6, generator=generator), torch.randn(5, 4, 6, generator=generator)
    similarities = torch.zeros(4, 4)
    for of_text in range(4):
        for of_sample in range(4):
            pairs = [texts[of_text, p] @ samples[s, of_sample] for p in range(3) for s in range(5)]
            similarities[of_text, of_sample] = torch.stack(pairs).mean()
    expected = F.cross_entropy(similarities, torch.arange(4))
    torch.testing.assert_close(language_loss(texts.mean(1), samples), expected)


def test_the_cross_entropy_is_a_mean_over_samples_and_not_of_the_mean_logits(generator):
    logits, labels = 5 * torch.randn(6, 7, 4, generator=generator), torch.tensor([0, 1, 2, 3, 0, 1, 2])
    loss = sample_cross_entropy(logits, labels)
    torch.testing.assert_close(loss, torch.stack([F.cross_entropy(sample, labels) for sample in logits]).mean())
    assert F.cross_entropy(logits.mean(0), labels) <= loss


def test_the_other_losses(generator):
    means = torch.randn(4, 6, generator=generator)
    assert float(distillation_loss(means, means)) == 0
    torch.testing.assert_close(distillation_loss(means, means + 2), torch.tensor(4.0))
    assert float(orthogonality_loss(10 * torch.eye(4))) < 1e-6
    assert float(orthogonality_loss(torch.ones(4, 6))) == pytest.approx(math.log(4))
