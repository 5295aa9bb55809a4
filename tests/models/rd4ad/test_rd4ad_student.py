"""Network, loss and anomaly map of RD4AD, against the published numbers and plain versions."""

import math
import warnings
from contextlib import contextmanager
from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from anoframe.errors import AnoframeError
from anoframe.models.rd4ad.blocks import Residual
from anoframe.models.rd4ad.loss import distillation_map, reverse_distillation_loss
from anoframe.models.rd4ad.student import ReverseDistillation, match_size

examples = settings(max_examples=15, deadline=None)
WIDE = (256, 512, 1024)  # WideResNet-50-2 and ResNet-50
BASIC = (64, 128, 256)  # ResNet-18 and 34
STRIDES = (4, 8, 16)
# Name -> channels, arguments, parameters of the bottleneck and of the decoder. Counts are those of the authors' code
# minus the convolution and batch norm that it never uses (8,392,704 parameters; 525,312 with basic blocks).
PUBLISHED = {
    "wide_resnet50_2": (WIDE, {}, 67_277_824 - 8_392_704, 24_917_504),
    "wide_resnet50_2, light": (WIDE, {"code_width": 0.25}, 30_829_568, 24_917_504),
    "resnet50": (WIDE, {"width": 0.25}, 39_222_272 - 8_392_704, 15_821_824),
    "resnet34": (BASIC, {"block": "basic"}, 16_925_952 - 525_312, 5_770_624),
    "resnet18": (BASIC, {"block": "basic", "depths": (2, 2, 2), "code_depth": 2}, 12_205_312 - 525_312, 3_703_168),
}


def student_of(channels=(8, 12), strides=(4, 8), signed=True, **arguments):
    torch.manual_seed(0)
    return ReverseDistillation(channels, strides, signed, **arguments)


@contextmanager
def on_meta_device():
    """Networks built here have shapes and no values; initialisation is skipped, because it is slow on such tensors."""
    with torch.device("meta"), patch.object(nn.init, "kaiming_normal_"):
        yield


def features_of(channels=(8, 12), strides=(4, 8), size=(32, 32), batch=2, seed=0, signed=True):
    generator = torch.Generator().manual_seed(seed)
    shapes = [
        (batch, c, math.ceil(size[0] / s), math.ceil(size[1] / s)) for c, s in zip(channels, strides, strict=True)
    ]
    levels = [torch.randn(shape, generator=generator) for shape in shapes]
    return levels if signed else [level.relu() for level in levels]


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def shapes_of(levels):
    return [tuple(level.shape) for level in levels]


# ---------------------------------------------------------------------------------------- the published networks


@pytest.fixture(scope="module")
def published():
    """The networks of the paper, with shapes only."""
    with on_meta_device():
        return {name: ReverseDistillation(c, STRIDES, False, **given) for name, (c, given, *_) in PUBLISHED.items()}


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameter_counts_are_those_of_the_published_network(published, name):
    student, (_, _, bottleneck, decoder) = published[name], PUBLISHED[name]
    assert count(student.branches) + count(student.code) == bottleneck
    assert count(student.stages) == decoder
    assert count(student) == bottleneck + decoder


def test_parts_of_the_wide_network_have_the_published_parameter_counts(published):
    student = published["wide_resnet50_2"]
    assert (count(student.branches), count(student.code)) == (10_621_952, 48_263_168)
    assert [count(stage) for stage in student.stages] == [1_759_744, 5_317_632, 17_840_128]
    assert count(student) == 83_802_624


@pytest.mark.parametrize(("pixels", "fine", "code"), [(256, 64, 8), (224, 56, 7)])
def test_shapes_are_those_of_the_paper(published, pixels, fine, code):
    student = published["wide_resnet50_2"]
    teacher = [torch.empty(1, c, pixels // s, pixels // s, device="meta") for c, s in zip(WIDE, STRIDES, strict=True)]
    fused = student.fuse_levels(teacher)
    assert teacher[0].shape == (1, 256, fine, fine)
    assert fused.shape == (1, 3072, fine // 4, fine // 4)
    assert student.code(fused).shape == (1, 2048, code, code)
    assert shapes_of(student(teacher)) == shapes_of(teacher)


def test_the_fusion_of_the_wide_network_doubles_the_width_at_each_halving(published):
    convolutions = [m for m in published["wide_resnet50_2"].branches.modules() if isinstance(m, nn.Conv2d)]
    assert [(c.in_channels, c.out_channels, c.stride) for c in convolutions] == [
        (256, 512, (2, 2)),
        (512, 1024, (2, 2)),
        (512, 1024, (2, 2)),
    ]


# ------------------------------------------------------------------------------------- a plain version of its blocks


def plain_bottleneck(block, maps, stride):
    """Bottleneck block of a ResNet in eval mode, written out; `stride` -2 doubles the resolution."""
    conv1, bn1, _, conv2, bn2, _, conv3, bn3 = block.residual

    def norm(bn, x):
        shape = (1, -1, 1, 1)
        scale = bn.weight / (bn.running_var + bn.eps).sqrt()
        return (x - bn.running_mean.view(shape)) * scale.view(shape) + bn.bias.view(shape)

    def middle(conv, x, kernel):
        if stride == -2:
            return F.conv_transpose2d(x, conv.weight, stride=2)
        return F.conv2d(x, conv.weight, stride=stride, padding=kernel // 2)

    out = norm(bn1, F.conv2d(maps, conv1.weight)).relu()
    out = norm(bn2, middle(conv2, out, 3)).relu()
    out = norm(bn3, F.conv2d(out, conv3.weight))
    if not isinstance(block.shortcut, nn.Identity):
        maps = norm(block.shortcut[1], middle(block.shortcut[0], maps, 1))
    return (out + maps).relu()


@pytest.mark.parametrize(("scale", "stride"), [(0.5, 2), (1, 1), (2, -2)])
@pytest.mark.parametrize("outputs", [8, 16])
def test_a_block_is_the_bottleneck_of_a_resnet(scale, stride, outputs):
    torch.manual_seed(0)
    block = Residual(8, outputs, 4, scale)
    for module in block.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    maps = torch.randn(2, 8, 6, 6)
    torch.testing.assert_close(block.eval()(maps), plain_bottleneck(block, maps, stride), rtol=1e-5, atol=1e-5)


def test_convolutions_are_initialised_as_in_the_authors_code():
    student = student_of((64, 128), STRIDES[:2])
    convolutions = [m for m in student.modules() if isinstance(m, nn.Conv2d)]
    for conv in convolutions:
        fan_out = conv.out_channels * conv.kernel_size[0] * conv.kernel_size[1]
        assert float(conv.weight.detach().std()) == pytest.approx(math.sqrt(2 / fan_out), rel=0.1)


def test_batch_norms_are_initialised_to_one_and_zero():
    norms = [m for m in student_of().modules() if isinstance(m, nn.BatchNorm2d)]
    assert all((m.weight == 1).all() and (m.bias == 0).all() for m in norms)


def test_transposed_convolutions_keep_the_initial_values_of_torch():
    transposed = [m for m in student_of((64, 128)).modules() if isinstance(m, nn.ConvTranspose2d)]
    for conv in transposed:
        bound = 1 / math.sqrt(conv.out_channels * 4)  # of a uniform distribution
        assert 0.95 * bound < float(conv.weight.detach().abs().max()) <= bound


# ------------------------------------------------------------------------------------------------- any pyramid


@st.composite
def pyramids(draw):
    """Draws channels, strides and a size for one to five levels, including equal and quadrupling strides."""
    levels = draw(st.integers(1, 5))
    ratios = draw(st.lists(st.sampled_from([1, 2, 4]), min_size=levels - 1, max_size=levels - 1))
    strides = [draw(st.sampled_from([1, 2, 4]))]
    for ratio in ratios:
        strides.append(min(strides[-1] * ratio, 32))
    channels = draw(st.lists(st.integers(1, 80), min_size=levels, max_size=levels))
    return channels, strides, (2 * strides[-1], 4 * strides[-1])


@examples
@given(pyramid=pyramids(), signed=st.booleans(), fuse=st.booleans(), block=st.sampled_from(["bottleneck", "basic"]))
def test_the_student_has_the_shapes_of_any_teacher(pyramid, signed, fuse, block):
    channels, strides, size = pyramid
    student = ReverseDistillation(channels, strides, signed, fuse=fuse, block=block, code_depth=1).eval()
    teacher = features_of(channels, strides, size, batch=1)
    assert shapes_of(student(teacher)) == shapes_of(teacher)


@pytest.mark.parametrize("signed", [True, False, (False, True)])
def test_only_levels_with_a_linear_head_can_be_negative(signed):
    negative = [bool((level < 0).any()) for level in student_of(signed=signed)(features_of())]
    assert negative == ([signed] * 2 if isinstance(signed, bool) else list(signed))


def test_without_fusion_the_code_depends_on_the_deepest_level_only():
    student, teacher = student_of(fuse=False).eval(), features_of()
    changed = [teacher[0] + 1, teacher[1]]
    for level, expected in zip(student(changed), student(teacher), strict=True):
        assert torch.equal(level, expected)


def test_with_fusion_the_code_depends_on_all_levels():
    student, teacher = student_of().eval(), features_of()
    assert not torch.equal(student(teacher)[1], student([teacher[0] + 1, teacher[1]])[1])


def test_depths_start_with_the_deepest_level():
    student = student_of((8, 12, 16), STRIDES, depths=(1, 2, 5))
    assert [len(stage) for stage in student.stages] == [5, 2, 1]


def test_a_level_has_at_least_one_block_per_doubling():
    assert [len(stage) for stage in student_of((8, 12), (4, 16), depths=(1, 1)).stages] == [2, 1]


@pytest.mark.parametrize(("arguments", "message"), [
    ({"width": 0.0}, r"model\.width and model\.code_width are above 0, got 0\.0 and 0\.0"),
    ({"code_width": -1.0}, r"model\.width and model\.code_width are above 0, got 0\.5 and -1\.0"),
    ({"depths": (3, 3, 3)}, r"model\.depths has one number, at least 1, for each of 2 levels, got \(3, 3, 3\)"),
    ({"depths": (3, 0)}, r"model\.depths has one number, at least 1"),
    ({"block": "wide"}, r"model\.block is one of bottleneck, basic, got 'wide'"),
    ({"code_depth": 0}, r"model\.code_depth is at least 1, got 0"),
    ({"strides": (8, 4)}, r"from shallow to deep.*model\.backbone\.levels gives strides \(8, 4\)"),
    ({"strides": (4, 12)}, r"double, quadruple or stay.*\(4, 12\)"),
])  # fmt: skip
def test_an_argument_out_of_range_is_an_error_that_names_its_key(arguments, message):
    with pytest.raises(AnoframeError, match=message):
        student_of(**arguments)


# ------------------------------------------------------------------------------------------------- odd sizes


def test_a_size_that_strides_do_not_divide_is_cropped_with_a_warning():
    teacher = features_of(size=(36, 28))  # 9 x 7 and 5 x 4, a code of 3 x 2
    with pytest.warns(UserWarning, match=r"do not fit: \(6, 4\) where the other has \(5, 4\)"):
        assert shapes_of(student_of()(teacher)) == shapes_of(teacher)


def test_a_size_that_strides_divide_gives_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        student_of()(features_of(size=(48, 32)))


@pytest.mark.parametrize("target", [(6, 5), (5, 7), (7, 7)])
def test_an_excess_pixel_is_cropped_and_a_missing_pixel_is_interpolated(target):
    with pytest.warns(UserWarning, match="do not fit"):
        maps = match_size(torch.ones(2, 3, 6, 6), torch.zeros(1, 1, *target))
    assert torch.equal(maps, torch.ones(2, 3, *target))


def test_a_mismatch_of_two_pixels_is_an_error_that_names_the_remedy():
    with pytest.raises(AnoframeError, match=r"\(6, 6\) where the other has \(6, 4\).*data\.crop"):
        match_size(torch.ones(1, 1, 6, 6), torch.ones(1, 1, 6, 4))


# ------------------------------------------------------------------------------------------------- loss


KINDS = pytest.mark.parametrize("kind", ["flat", "local"])
THREE = ((8, 12, 16), STRIDES)


@KINDS
@pytest.mark.parametrize(("factor", "expected"), [(1, 0), (3.5, 0), (-1, 6)])
def test_the_loss_of_a_multiple_of_the_teacher(kind, factor, expected):
    teacher = features_of(*THREE)
    loss = reverse_distillation_loss(teacher, [factor * level for level in teacher], kind)
    assert float(loss) == pytest.approx(expected, abs=1e-5)


@KINDS
def test_the_loss_of_an_orthogonal_student_is_one_per_level(kind):
    teacher, student = features_of(*THREE), features_of(*THREE, seed=1)
    for target, output in zip(teacher, student, strict=True):
        target[:, 0::2], output[:, 1::2] = 0, 0
    assert float(reverse_distillation_loss(teacher, student, kind)) == pytest.approx(3)


def test_the_flat_loss_does_not_depend_on_the_scale_of_an_image_at_a_level():
    teacher, student = features_of(*THREE), features_of(*THREE, seed=1)
    scaled = [level * torch.tensor([0.1, 40.0]).view(2, 1, 1, 1) * (i + 1) for i, level in enumerate(student)]
    expected = reverse_distillation_loss(teacher, student)
    torch.testing.assert_close(reverse_distillation_loss(teacher, scaled), expected)


def test_flat_and_local_loss_are_equal_if_all_locations_have_the_same_norm():
    teacher, student = ([F.normalize(level, dim=1) for level in features_of(*THREE, seed=seed)] for seed in (0, 1))
    flat, local = (reverse_distillation_loss(teacher, student, kind) for kind in ("flat", "local"))
    torch.testing.assert_close(flat, local)


def test_flat_and_local_loss_differ_otherwise():
    teacher, student = features_of(*THREE), features_of(*THREE, seed=1)
    student[0][:, :, 0] = teacher[0][:, :, 0] * 100  # a row that is correct and has large values
    flat, local = (float(reverse_distillation_loss(teacher, student, kind)) for kind in ("flat", "local"))
    assert flat < local - 0.1


@KINDS
def test_the_loss_is_the_mean_over_images(kind):
    teacher, student = features_of(*THREE), features_of(*THREE, seed=1)
    alone = [reverse_distillation_loss([t[i : i + 1] for t in teacher], [s[i : i + 1] for s in student], kind)
             for i in range(2)]  # fmt: skip
    torch.testing.assert_close(reverse_distillation_loss(teacher, student, kind), torch.stack(alone).mean())


@KINDS
def test_the_loss_is_float32_for_maps_in_bfloat16(kind):
    teacher, student = features_of(*THREE), [level.bfloat16() for level in features_of(*THREE, seed=1)]
    with torch.autocast("cpu", torch.bfloat16):
        loss = reverse_distillation_loss(teacher, student, kind)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, reverse_distillation_loss(teacher, [level.float() for level in student], kind))


# ------------------------------------------------------------------------------------------------- map


def test_the_map_of_equal_features_is_zero():
    teacher = features_of(*THREE)
    torch.testing.assert_close(distillation_map(teacher, teacher, (32, 32)), torch.zeros(2, 32, 32), atol=1e-6, rtol=0)


def test_the_map_lies_between_zero_and_twice_the_levels():
    teacher = features_of(*THREE)
    student = [level * torch.randn_like(level).sign() for level in teacher]
    assert distillation_map(teacher, student, (32, 32)).min() >= -1e-6
    opposite = distillation_map(teacher, [-level for level in teacher], (32, 32))
    torch.testing.assert_close(opposite, torch.full_like(opposite, 6))


def test_the_map_does_not_depend_on_the_scale_of_a_location():
    teacher, student = features_of(*THREE), features_of(*THREE, seed=1)
    scaled = [level * (1 + torch.rand(2, 1, *level.shape[-2:])) for level in student]
    torch.testing.assert_close(
        distillation_map(teacher, scaled, (32, 32)), distillation_map(teacher, student, (32, 32))
    )


def test_corners_of_the_map_are_sums_over_corners_of_the_levels():
    teacher, student = features_of(*THREE), features_of(*THREE, seed=1)
    maps = distillation_map(teacher, student, (33, 47))
    for row in (0, -1):
        for column in (0, -1):
            expected = sum(
                1 - F.cosine_similarity(t[:, :, row, column], s[:, :, row, column], dim=1)
                for t, s in zip(teacher, student, strict=True)
            )
            torch.testing.assert_close(maps[:, row, column], expected)


def test_sum_and_product_are_equal_for_one_level():
    teacher, student = features_of((8,), (4,)), features_of((8,), (4,), seed=1)
    maps = [distillation_map(teacher, student, (32, 32), combine) for combine in ("sum", "product")]
    assert torch.equal(*maps)


def test_the_product_multiplies_the_maps_of_single_levels():
    teacher, student = features_of(*THREE), features_of(*THREE, seed=1)
    single = [distillation_map([t], [s], (32, 32)) for t, s in zip(teacher, student, strict=True)]
    torch.testing.assert_close(distillation_map(teacher, student, (32, 32), "product"), torch.stack(single).prod(0))


def test_the_map_of_a_batch_equals_the_maps_of_its_images():
    teacher, student = features_of(*THREE, batch=3), features_of(*THREE, batch=3, seed=1)
    alone = [distillation_map([t[i : i + 1] for t in teacher], [s[i : i + 1] for s in student], (32, 32))
             for i in range(3)]  # fmt: skip
    torch.testing.assert_close(distillation_map(teacher, student, (32, 32)), torch.cat(alone))


# ------------------------------------------------------------------------------------------------- training


def train(student, teacher, steps, lr=0.01):
    optimiser = torch.optim.Adam(student.parameters(), lr=lr, betas=(0.5, 0.999))
    losses = []
    for _ in range(steps):
        loss = reverse_distillation_loss(teacher, student(teacher))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    return losses


@pytest.fixture(scope="module")
def random_signs():
    """Teacher features at two levels whose values are random signs."""
    return [level.sign() for level in features_of((32, 48), (2, 4), size=(8, 8))]


def small_student(signed):
    return student_of((32, 48), (2, 4), signed, width=1.0, depths=(1, 1), code_depth=1)


def test_linear_heads_can_reconstruct_a_signed_teacher(random_signs):
    losses = train(small_student(signed=True), random_signs, 100)
    assert min(losses) / 2 < 0.01  # cosine above 0.99


def test_a_student_that_ends_in_a_relu_cannot(random_signs):
    # half of the signs cannot be reached: the best cosine is the square root of the share of positive values
    losses = train(small_student(signed=False), random_signs, 60)
    best = [math.sqrt(float((level > 0).float().mean())) for level in random_signs]
    assert best == pytest.approx([0.71, 0.71], abs=0.05)
    assert min(losses) > sum(1 - cosine for cosine in best) - 1e-5
