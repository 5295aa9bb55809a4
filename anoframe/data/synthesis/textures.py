"""Sources of foreign textures: a folder of images, other training images, or Perlin noise."""

from __future__ import annotations

import numpy as np

from anoframe.data.image_decoding import is_image_file, read_image
from anoframe.data.synthesis.base import Context, Pixels, resize_pixels
from anoframe.data.synthesis.boxes import place_box
from anoframe.data.synthesis.perlin import perlin_noise
from anoframe.errors import AnoframeError
from anoframe.utils.paths import expand_path

_CROP = (0.3, 1.0)  # side of the part of a training image that serves as a texture, as a share of the image side


class TextureFolder:
    """All images in a folder and its subfolders, for example the Describable Textures Dataset.

    Raises:
        AnoframeError: the folder is missing or contains no image.
    """

    def __init__(self, root: str) -> None:
        folder = expand_path(root, "texture_root")
        # Sorted by names of folders and file: the order does not depend on the file system
        self.files = sorted((path for path in folder.rglob("*") if is_image_file(path)), key=lambda path: path.parts)
        if not self.files:
            problem = "contains no image" if folder.is_dir() else "is not a folder"
            raise AnoframeError(
                f"texture_root: {folder} {problem}; give a folder of textures, for example the images/ of DTD, "
                "or set texture to self (parts of other training images) or perlin"
            )
        self.root = folder

    def draw(self, rng: np.random.Generator, height: int, width: int) -> tuple[Pixels, str]:
        """Draw an image, resized to height x width, and return it with its path below the folder."""
        path = self.files[int(rng.integers(len(self.files)))]
        pixels = np.asarray(read_image(path))
        return resize_pixels(pixels, height, width), path.relative_to(self.root).as_posix()


def draw_training_texture(rng: np.random.Generator, context: Context, height: int, width: int) -> tuple[Pixels, int]:
    """Draw a part of another training image, enlarged to height x width, and return it with the image's position."""
    other, index = context.draw_other(rng, (height, width))
    share = rng.uniform(*_CROP)
    box = place_box(rng, max(1, round(share * height)), max(1, round(share * width)), other.shape)
    return resize_pixels(other[box.slices], height, width), index


def draw_perlin_texture(rng: np.random.Generator, height: int, width: int) -> Pixels:
    """Draw coloured Perlin noise, uint8 [height, width, 3]: each channel has its own noise on a common lattice."""
    lattice = (1 << int(rng.integers(6)), 1 << int(rng.integers(6)))
    channels = [perlin_noise(rng, height, width, lattice) for _ in range(3)]
    return np.rint(127.5 + 127.5 * np.stack(channels, axis=2)).clip(0, 255).astype(np.uint8)
