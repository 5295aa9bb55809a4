"""Whitening matrices and their packed storage, against dense matrices in float64."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from anoframe.errors import AnoframeError
from anoframe.models.padim.whitening import pack, packed_size, unpack_symmetric, whiten, whitening_matrices

examples = settings(max_examples=40, deadline=None)


def covariances(seed, positions, width, spread=1.0):
    """Random positive definite matrices `[p, d, d]` whose standard deviations span `10**-spread` to `10**spread`."""
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.randn(positions, 2 * width, width, dtype=torch.float64, generator=generator)
    vectors *= torch.logspace(-spread, spread, width, dtype=torch.float64)
    return vectors.mT @ vectors / (2 * width)


@examples
@given(width=st.integers(1, 40), seed=st.integers(0, 1000))
def test_symmetric_matrices_survive_packing(width, seed):
    matrices = covariances(seed, 3, width)
    matrices = (matrices + matrices.mT) / 2
    packed = pack(matrices)
    assert packed.shape == (3, packed_size(width))
    assert torch.equal(unpack_symmetric(packed, width), matrices)


@pytest.mark.parametrize(("width", "share"), [(100, 0.6), (550, 0.6), (176, 0.61), (5, 0.6), (1, 1.0)])
def test_packing_keeps_three_fifths_of_the_values(width, share):
    assert packed_size(width) / width**2 == pytest.approx(share, abs=0.01)


@examples
@given(width=st.integers(1, 40), count=st.integers(1, 4), seed=st.integers(0, 1000))
def test_norms_of_whitened_vectors_are_mahalanobis_distances(width, count, seed):
    matrices = covariances(seed, 3, width)
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.randn(3, count, width, dtype=torch.float64, generator=generator)
    inverse = torch.linalg.inv(matrices)
    expected = torch.einsum("pni,pij,pnj->pn", vectors, inverse, vectors).sqrt()
    torch.testing.assert_close(whiten(vectors, whitening_matrices(matrices)).norm(dim=2), expected, rtol=1e-8, atol=0)


def test_float32_storage_is_more_precise_than_a_float32_inverse():
    # condition number about 1e10, as of features that vary in a few directions only
    rotation = torch.linalg.qr(covariances(1, 20, 30)).Q
    matrices = rotation @ covariances(0, 20, 30, spread=2.5) @ rotation.mT
    axis = torch.linalg.eigh(matrices).eigenvectors[:, :, -1:].mT  # [p, 1, d], where the distance is smallest
    exact = whiten(axis, whitening_matrices(matrices)).norm(dim=2)  # [p, 1]
    distance = whiten(axis.float(), whitening_matrices(matrices).float()).norm(dim=2)
    with_inverse = (axis @ torch.linalg.inv(matrices).float().double() @ axis.mT).clamp(min=0).sqrt()[:, 0]
    error, inverse_error = (((value - exact) / exact).abs().max() for value in (distance, with_inverse))
    assert error < 0.1
    assert inverse_error > 10 * error


def test_a_singular_covariance_is_an_error_that_names_the_setting():
    with pytest.raises(AnoframeError, match=r"not positive definite to rounding.* raise model\.regularization"):
        whitening_matrices(torch.ones(2, 3, 3, dtype=torch.float64) * -1)
