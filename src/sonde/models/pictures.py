"""Pictures: image files as the model's own processor sees them.

A text holds one mark (`<image>` in most models) for each picture. The mark becomes as many tokens as the
vision tower gives patches, and each patch is then a position like any other.
"""

import io
import warnings
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sonde.errors import ModelLacksError, PictureError
from sonde.remote import local_path

LOSSLESS_PIXELS = 128 * 128
"""up to this size a picture is kept exactly; larger ones lose what no eye sees"""

SENT = ("PNG", "JPEG", "WEBP", "GIF")
"""formats that are read of bytes, which may have come over the network; files may be anything that Pillow knows"""


@dataclass(frozen=True)
class Picture:
    """A picture as the vision tower gets it."""

    pixels: Tensor
    """[channel, height, width], normalised"""
    n_patches: int

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches; one row where they do not fill a rectangle of the picture's shape."""
        height, width = self.pixels.shape[1:]
        rows = round((self.n_patches * height / width) ** 0.5)
        return (rows, self.n_patches // rows) if rows and self.n_patches % rows == 0 else (1, self.n_patches)


@dataclass(frozen=True)
class Expanded:
    """A text whose marks have become one mark for each patch."""

    text: str
    _starts: tuple[int, ...] = ()
    """where each picture's marks begin in the expanded text"""
    _counts: tuple[int, ...] = ()
    _mark: int = 0
    """length of a mark"""

    def place(self, start: int, end: int) -> tuple[int, int, int | None]:
        """Where a span of the expanded text stands in the text as written, and in which picture it lies."""
        number = bisect_right(self._starts, start) - 1
        # How many marks were put in before this place, beyond those that were written.
        added = sum(self._counts[: max(number, 0)]) - max(number, 0)
        if number < 0:
            return start, end, None
        first = self._starts[number]
        if start < first + self._counts[number] * self._mark:
            written = first - added * self._mark
            return written, written + self._mark, number
        shift = (added + self._counts[number] - 1) * self._mark
        return start - shift, end - shift, None


class PictureReader:
    """A processor, as published in the model's folder."""

    def __init__(self, processor: Any, model_name: str) -> None:
        self.processor = processor
        self.model_name = model_name
        self.image_token: str = processor.image_token
        self.image_token_id: int = processor.image_token_id

    def read(self, source: Any) -> Picture:
        """Read an image file (or its bytes, or take a PIL image) as the model sees it.

        Raises:
            PictureError: the file is missing, or not an image that can be read.
            ModelLacksError: the processor gives more than one block of pixels a picture.
        """
        image = _open(source)
        inputs = self.processor(text=[self.image_token], images=[[image]], return_tensors="pt")
        others = sorted(set(inputs) - {"input_ids", "attention_mask", "pixel_values"})
        if others or inputs["pixel_values"].shape[:-3].numel() != 1:
            raise ModelLacksError(
                f"the processor of {self.model_name} gives {', '.join(others) or 'several crops'} with each picture, "
                "which sonde does not read yet; it reads processors that give one block of pixel_values"
            )
        n_patches = int((inputs["input_ids"] == self.image_token_id).sum())
        return Picture(inputs["pixel_values"].flatten(0, -4)[0], n_patches)

    def expand(self, text: str, pictures: Sequence[Picture], where: str = "the text") -> Expanded:
        """Put one mark for each patch into a text; raises PictureError where marks and pictures do not match."""
        parts = text.split(self.image_token)
        if len(parts) - 1 != len(pictures):
            marks = _count(len(parts) - 1, f"{self.image_token} mark")
            raise PictureError(
                f"{where} has {marks}, but {_count(len(pictures), 'picture')}; there must be one for each"
            )
        expanded, starts = parts[0], []
        for picture, part in zip(pictures, parts[1:], strict=True):
            starts.append(len(expanded))
            expanded += self.image_token * picture.n_patches + part
        return Expanded(expanded, tuple(starts), tuple(p.n_patches for p in pictures), len(self.image_token))

    def encode(self, picture: Picture) -> bytes:
        """The picture as the model sees it, cropped and scaled, as a WebP file."""
        from PIL import Image

        settings = self.processor.image_processor
        pixels = picture.pixels.float().numpy().transpose(1, 2, 0)
        if settings.do_normalize:
            pixels = pixels * np.asarray(settings.image_std) + np.asarray(settings.image_mean)
        if settings.do_rescale:
            pixels = pixels / settings.rescale_factor
        image = Image.fromarray(pixels.round().clip(0, 255).astype(np.uint8))
        file = io.BytesIO()
        image.save(file, "WEBP", lossless=image.width * image.height <= LOSSLESS_PIXELS, quality=90)
        return file.getvalue()


def stack(
    pictures: Sequence[Picture], dtype: torch.dtype, device: torch.device
) -> Float[Tensor, "picture channel height width"] | None:
    """The pixels of a batch's pictures, in the order of its tokens."""
    if not pictures:
        return None
    return torch.stack([picture.pixels for picture in pictures]).to(device, dtype)


def _open(source: Any) -> Any:
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError as error:
        raise ModelLacksError("reading pictures needs Pillow; run `pip install pillow`") from error
    if not isinstance(source, (str, Path, bytes)):
        return source.convert("RGB")
    path = "that was given" if isinstance(source, bytes) else local_path(source)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            sent = isinstance(source, bytes)
            with Image.open(io.BytesIO(source) if sent else path, formats=SENT if sent else None) as image:
                return image.convert("RGB")
    except FileNotFoundError:
        raise PictureError(f"there is no picture {path}") from None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise PictureError(
            f"the picture {path} has more than {Image.MAX_IMAGE_PIXELS:,} pixels; scale it down"
        ) from error
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        # Pillow's own message repeats the path, or says "broken PNG file" and the like.
        reason = "no known image format" if isinstance(error, UnidentifiedImageError) else str(error)
        raise PictureError(f"the picture {path} cannot be read ({reason}); mend it or leave it out") from error


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"
