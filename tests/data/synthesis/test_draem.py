"""DRAEM: Perlin noise, masks, operators and textures (G19 to G23 of the method sheet)."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from anoframe.data.synthesis.base import Context, item_rng
from anoframe.data.synthesis.draem import DRAEM, blend_texture, draw_noise
from anoframe.data.synthesis.mixture import Mixture
from anoframe.data.synthesis.operators import OPERATORS, change_texture
from anoframe.data.synthesis.perlin import perlin_noise
from anoframe.errors import AnoframeError

LATTICES = [1, 2, 4, 8, 16, 32]


def naive_perlin(rng, height, width, lattice, padded):
    """Perlin noise, one pixel and one corner after another."""
    angles = rng.uniform(0, 2 * np.pi, (lattice[0] + 1, lattice[1] + 1))

    def fade(t):
        return 6 * t**5 - 15 * t**4 + 10 * t**3

    noise = np.zeros((height, width))
    for row in range(height):
        for column in range(width):
            y, x = row * lattice[0] / padded[0], column * lattice[1] / padded[1]
            for down in (0, 1):
                for right in (0, 1):
                    node = int(y) + down, int(x) + right
                    offset = y - node[0], x - node[1]
                    dot = np.sin(angles[node]) * offset[0] + np.cos(angles[node]) * offset[1]
                    weight_y = fade(y % 1) if down else 1 - fade(y % 1)
                    weight_x = fade(x % 1) if right else 1 - fade(x % 1)
                    noise[row, column] += np.sqrt(2) * weight_y * weight_x * dot
    return noise


@pytest.mark.parametrize(
    ("size", "lattice", "padded"),
    [((16, 16), (1, 1), (16, 16)), ((16, 32), (4, 2), (16, 32)), ((24, 20), (8, 4), (32, 32))],
)
def test_noise_equals_the_naive_one(size, lattice, padded):
    fast = perlin_noise(np.random.default_rng(1), *size, lattice)
    assert fast == pytest.approx(naive_perlin(np.random.default_rng(1), *size, lattice, padded), abs=1e-12)


def test_noise_is_bounded_and_zero_at_the_nodes():
    rng = np.random.default_rng(0)
    for number in range(3000):
        lattice = LATTICES[number % 6], LATTICES[number // 6 % 6]
        noise = perlin_noise(rng, 64, 64, lattice)
        assert np.abs(noise).max() <= 1.0
        assert np.abs(noise[:: 64 // lattice[0], :: 64 // lattice[1]]).max() < 1e-12
    assert perlin_noise(rng, 240, 200, (32, 8)).shape == (240, 200)


def test_share_above_the_threshold():
    rng = np.random.default_rng(0)
    areas = np.array([(draw_noise(rng, 256, 256, rotated=False) > 0.5).mean() for _ in range(1000)])
    assert areas.mean() == pytest.approx(0.054, abs=0.005)
    assert np.percentile(areas, 95) == pytest.approx(0.099, abs=0.01)
    assert (areas == 0).mean() == pytest.approx(0.05, abs=0.015)


def test_blend_weights(texture_256, textures):
    image, texture = textures[0], textures[1]
    mask = np.zeros(image.shape[:2], bool)
    mask[20:50, 30:60] = True
    pure = blend_texture(image, texture, mask, 0.0)
    assert np.array_equal(pure[mask], texture[mask])
    assert np.array_equal(pure[~mask], image[~mask])
    assert np.array_equal(blend_texture(image, texture, mask, 1.0), image)
    half = blend_texture(image, texture, mask, 0.5)
    assert np.abs(half[mask] - (image[mask].astype(float) + texture[mask]) / 2).max() <= 0.5


def test_share_of_normal_images(textures):
    generator = DRAEM(texture="perlin", retry_empty=0, rotate_mask=False)
    images = [textures[0][:64, :64]]
    results = [generator.generate(images[0], item_rng(0, 0, i)) for i in range(1500)]
    normal = np.mean([not result.has_anomaly for result in results])
    attempted = [result for result in results if "beta" in result.meta]
    assert len(attempted) / 1500 == pytest.approx(0.5, abs=0.04)
    empty = np.mean([not result.mask.any() for result in attempted])
    assert normal == pytest.approx(0.5 + 0.5 * empty, abs=0.04)
    assert empty == pytest.approx(0.055, abs=0.025)
    betas = [result.meta["beta"] for result in attempted]
    assert min(betas) >= 0
    assert 0.75 < max(betas) <= 0.8


def test_empty_masks_are_drawn_again(textures):
    never = DRAEM(texture="perlin", p_anomaly=1.0, retry_empty=10)
    results = [never.generate(textures[0], item_rng(0, 0, i)) for i in range(200)]
    assert all(result.has_anomaly for result in results)


def test_three_different_operators(textures):
    drawn = set()
    for number in range(200):
        changed, names = change_texture(textures[0][:32, :32], item_rng(0, 0, number))
        assert (len(names), len(set(names))) == (3, 3)
        assert (changed.dtype, changed.shape) == (np.uint8, (32, 32, 3))
        drawn |= set(names)
    assert drawn == set(OPERATORS)
    assert len(OPERATORS) == 10


RAMP = Image.fromarray(np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2))


def apply(name, number, image=RAMP):
    return np.asarray(OPERATORS[name](image, item_rng(0, 0, number))).astype(int)[0]


def test_operators_on_a_grey_ramp():
    ramp = np.arange(256)[:, None]
    for number in range(60):
        gamma = apply("gamma_contrast", number)
        assert (np.diff(gamma, axis=0) >= 0).all()
        exponents = np.log(gamma[128] / 255) / np.log(128 / 255)
        assert ((exponents > 0.49) & (exponents < 2.02)).all()
        bright = apply("brightness", number)
        assert (np.abs(bright - ramp) <= 0.2 * ramp + 36 + 2).all()
        assert np.array_equal(apply("invert", number), np.repeat(255 - ramp, 3, axis=1))
        solarized = apply("solarize", number)
        assert np.array_equal(solarized[:32, 0], ramp[:32, 0])
        assert solarized[255, 0] in (0, 255)
        assert len(np.unique(apply("posterize", number))) in {2, 4, 8, 16, 32, 64, 128, 256}
        contrast = apply("autocontrast", number)
        assert (contrast.min(), contrast.max()) == (0, 255)
        assert (apply("hue_saturation", number)[:, 0] >= 0).all()
    assert {int(apply("solarize", number)[255, 0]) for number in range(60)} == {0, 255}  # probability 1/2
    assert len({apply("gamma_contrast", number)[128, 0] for number in range(20)}) > 10


def test_textures_of_a_folder(tmp_path, textures):
    for name in ("a/one.png", "b/two.png"):
        (tmp_path / name).parent.mkdir()
        Image.new("RGB", (50, 40), (250, 0, 0)).save(tmp_path / name)
    (tmp_path / "readme.txt").write_text("no image")
    generator = DRAEM(texture_root=str(tmp_path), p_anomaly=1.0)
    results = [generator.generate(textures[0], item_rng(0, 0, i)) for i in range(30)]
    assert {result.meta["texture_file"] for result in results} == {"a/one.png", "b/two.png"}
    assert generator.notes() == ()


def test_an_empty_folder_of_textures_is_an_error(tmp_path):
    with pytest.raises(AnoframeError, match="contains no image; give a folder of textures"):
        DRAEM(texture_root=str(tmp_path))


def test_without_a_folder_textures_are_training_images_and_a_note_says_so(textures):
    generator = DRAEM(p_anomaly=1.0)
    sources = {
        generator.generate(textures[1], item_rng(0, 0, i), Context("", textures, 1)).meta["source_index"]
        for i in range(40)
    }
    assert sources == {0, 2, 3}
    assert "texture_root is not set" in generator.notes()[0]
    assert DRAEM(texture="self").notes() == ()
    assert list(Mixture().notes()) == list(generator.notes())


def test_rotation_of_the_base_is_no_anomaly(textures):
    generator = DRAEM(texture="perlin", rotate_base=1.0, p_anomaly=0.0)
    result = generator.generate(textures[0], item_rng(0, 0, 0))
    assert not result.has_anomaly
    assert np.array_equal(result.image, result.base)
    assert not np.array_equal(result.base, textures[0])
    still = DRAEM(texture="perlin", rotate_base=0.0)
    rotated = [DRAEM(texture="perlin").generate(textures[0], item_rng(0, 0, i)) for i in range(400)]
    assert np.array_equal(still.generate(textures[0], item_rng(0, 0, 0)).base, textures[0])
    assert np.mean([not np.array_equal(r.base, textures[0]) for r in rotated]) == pytest.approx(0.3, abs=0.07)


def test_the_default_mixture(textures):
    images = [image[:64, :64] for image in textures]
    results = [Mixture().generate(images[0], item_rng(0, 0, i), Context("tile", images, 0)) for i in range(600)]
    names = [result.meta["generator"] for result in results]
    assert names.count("nsa") / 600 == pytest.approx(0.5, abs=0.06)
    assert names.count("draem") == 600 - names.count("nsa")
    assert np.mean([result.has_anomaly for result in results]) == pytest.approx(0.5, abs=0.07)
    assert all(result.label is None for result in results)


def test_rotation_does_not_reveal_the_label_of_the_mixture(textures):
    """Normal images are rotated as often as edited ones: otherwise black corners would mean an anomaly."""
    images = [image[:48, :48] for image in textures]
    results = [Mixture().generate(images[0], item_rng(1, 0, i), Context("tile", images, 0)) for i in range(900)]
    rotated = np.array([not np.array_equal(result.base, images[0]) for result in results])
    anomalous = np.array([result.has_anomaly for result in results])
    assert rotated[anomalous].mean() == pytest.approx(rotated[~anomalous].mean(), abs=0.07)
    assert rotated.mean() == pytest.approx(0.15, abs=0.04)


def test_weights_of_a_mixture(textures):
    mixture = Mixture(
        members=[{"name": "cutpaste_patch", "weight": 3}, {"name": "cutpaste_scar", "jitter": 0.2}], p_anomaly=1.0
    )
    names = [mixture.generate(textures[0], item_rng(0, 0, i)).meta["generator"] for i in range(600)]
    assert names.count("cutpaste_patch") / 600 == pytest.approx(0.75, abs=0.06)
    assert mixture.members[1].jitter == 0.2
