"""Losses of CLAP4CLIP, under the names of what they compute; the reference calls several of them "kl loss".

S Monte Carlo samples, B images, C classes (K of one task), d channels.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from anoframe.models.class_incremental.priors import Gaussian, kl_divergence


def sample_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy over all samples and images; not that of the mean logits, which is at most as large.

    Args:
        logits: `[S, B, C]`.
        labels: `[B]` int64.
    """
    return F.cross_entropy(logits.flatten(0, 1), labels.repeat(len(logits)))


def language_loss(text_means: Tensor, samples: Tensor) -> Tensor:
    """Cross-entropy that makes a class's sample similar to its texts, and to those of no other class.

    The logit of class c' for the texts of class c is the mean over samples s and texts p of `E[c, p] . z[s, c']`. Being
    linear, it is the product of both means.

    Args:
        text_means: `[K, d]`, mean of the text features `E` of each class, not normalised.
        samples: `[S, K, d]`, what an adapter draws, without the text feature that is added to it.
    """
    similarities = text_means @ samples.mean(0).T  # [K, K]
    return F.cross_entropy(similarities, torch.arange(len(similarities), device=similarities.device))


def kl_loss(posterior: Gaussian, prior: Gaussian | None) -> Tensor:
    """Divergence from the prior: mean over classes (and global samples), sum over channels.

    Args:
        posterior: `[K, d]` or `[S_g, K, d]`.
        prior: None is N(0, I).
    """
    divergence = kl_divergence(posterior, prior)
    return divergence.flatten(0, -2).mean(0).sum()


def distillation_loss(old_means: Tensor, new_means: Tensor) -> Tensor:
    """Mean squared change of the global means of old classes, `[C_old, d]` each."""
    return F.mse_loss(new_means, old_means)


def orthogonality_loss(class_means: Tensor) -> Tensor:
    """Cross-entropy of the Gram matrix of the mean samples `[C, d]` of all classes, with the diagonal as targets."""
    return F.cross_entropy(class_means @ class_means.T, torch.arange(len(class_means), device=class_means.device))
