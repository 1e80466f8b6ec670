"""One file to one array: images to 8-bit RGB, masks to class ids. What a writer may have meant is settled here."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from unplateau.data.folder import Colours
from unplateau.errors import DataError
from unplateau.types import IGNORE, Size

_ORIENTATION = 0x0112
_TURNED = (5, 6, 7, 8)
_DEEP = frozenset({"I", "I;16", "I;16B", "I;16L", "I;16N"})
_DEPTHS = (255, 1023, 4095, 16383, 65535)
_UNREADABLE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    OverflowError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """The image of `path`, not yet decoded.

    Raises:
        DataError: the file is empty, is no image, ends too early or holds several pages.
    """
    try:
        with Image.open(path) as picture:
            if isinstance(picture, TiffImageFile) and picture.n_frames > 1:
                raise DataError(f"{path} must hold one image, but has {picture.n_frames} pages: save each as a file.")
            yield picture
    except UnidentifiedImageError:
        raise DataError(_no_image(path)) from None
    except _UNREADABLE as error:
        raise DataError(
            f"{path} cannot be decoded ({error}): copy it again from its source, or take the pair out."
        ) from error


def _no_image(path: Path) -> str:
    start = path.read_bytes()[:12]
    if not start:
        return f"{path} is empty (0 bytes): copy it again from its source, or take the pair out."
    return f"{path} is not an image, whatever its ending says (it begins with {start!r}): replace it or take it out."


# ---- images --------------------------------------------------------------------------------------------------


def read_size(path: Path) -> Size:
    """Height and width in pixels of the upright image, from the header alone.

    Raises:
        DataError: as in `opened`.
    """
    with opened(path) as picture:
        width, height = picture.size
        return (width, height) if _orientation(picture) in _TURNED else (height, width)


def read_image(path: Path, white: Callable[[], int], coarse: Size | None = None) -> NDArray[np.uint8]:
    """The image as uint8 (H, W, 3), RGB, upright.

    - The EXIF orientation is applied: an annotator saw the image upright.
    - Alpha is composited on black: what no viewer shows no annotator saw, and writers leave anything there. An alpha
      that is zero everywhere is a writer's mistake and is dropped.
    - 16 bits become 8 on the scale `white()`, which is one for the whole data set (see `white_level`).
    - With `coarse`, a JPEG may come out smaller (its decoder can halve it several times at a fraction of the cost),
      but never below `coarse`.

    Raises:
        DataError: as in `opened`, or floating-point pixels, whose range is unknown.
    """
    with opened(path) as picture:
        orientation = _orientation(picture)
        if coarse is not None:
            height, width = coarse[::-1] if orientation in _TURNED else coarse
            picture.draft(None, (width, height))
        upright = ImageOps.exif_transpose(picture) if orientation != 1 else picture
        return np.asarray(_to_rgb(upright, path, white), dtype=np.uint8)


def _orientation(picture: Image.Image) -> int:
    """1 is upright. Asked of the base class: that of PNG would decode the whole image in search of a late tag."""
    return Image.Image.getexif(picture).get(_ORIENTATION, 1)


def _to_rgb(picture: Image.Image, path: Path, white: Callable[[], int]) -> Image.Image:
    if picture.mode in _DEEP:
        return Image.fromarray(to_8_bits(np.asarray(picture), white())).convert("RGB")
    if picture.mode == "F":
        raise DataError(f"{path} holds floating-point pixels, whose range is unknown: save it with 8 or 16 bits.")
    if picture.has_transparency_data:
        return _on_black(picture.convert("RGBA"))
    return picture.convert("RGB")


def _on_black(picture: Image.Image) -> Image.Image:
    if picture.getchannel("A").getextrema() == (0, 0):
        return picture.convert("RGB")
    return Image.alpha_composite(Image.new("RGBA", picture.size, (0, 0, 0, 255)), picture).convert("RGB")


def to_8_bits(values: NDArray[np.generic], white: int) -> NDArray[np.uint8]:
    """Pixels of any integer type, with 0..`white` stretched to 0..255 and the rest clipped."""
    scaled = np.clip(values.astype(np.float32), 0, white) * (255 / white)
    return np.rint(scaled).astype(np.uint8)


def white_level(paths: Iterable[Path], most: int = 16) -> int:
    """The full range of the 16-bit files among `paths`: the smallest of 8, 10, 12, 14, 16 bits that holds them.

    Cameras and scanners store 10 to 14 bits in 16: dividing by 257 would turn those nearly black. Stretching each
    image by its own percentiles would hide that one is brighter than another. So one scale serves all, taken from up
    to `most` files spread evenly over the data set; what exceeds it in the others is clipped.

    Raises:
        DataError: as in `opened`.
    """
    deep = [path for path in paths if _mode(path) in _DEEP]
    chosen = [deep[int(i)] for i in np.unique(np.linspace(0, len(deep) - 1, most).astype(int))] if deep else []
    highest = max((_highest(path) for path in chosen), default=0)
    return next((full for full in _DEPTHS if highest <= full), _DEPTHS[-1])


def _mode(path: Path) -> str:
    with opened(path) as picture:
        return picture.mode


def _highest(path: Path) -> int:
    with opened(path) as picture:
        return int(np.asarray(picture).max())


# ---- masks ---------------------------------------------------------------------------------------------------


def read_mask(path: Path, colours: Colours | None) -> NDArray[np.uint8]:
    """The mask as uint8 (H, W): class ids as stored, 255 = not counted.

    Grey and 16-bit masks hold ids. One-bit masks hold 0 and 1. Palette masks hold ids, unless a colour table is
    given: then the colours decide, as programs that shrink PNG files number a palette as they please. RGB masks
    need the table, or three equal channels. An alpha channel is passed over.

    Raises:
        DataError: as in `opened`; colours without a table or not in it; an id above 255 or not whole; a JPEG file
            that holds more than two ids.
    """
    with opened(path) as picture:
        ids = _ids(picture, path, colours)
        if picture.format in ("JPEG", "MPO"):
            _refuse_lossy(ids, path)
        return ids


def read_palette(path: Path) -> dict[int, tuple[int, int, int]]:
    """The RGB colour of each id of a palette mask, from the header alone; empty for a mask of any other kind.

    Raises:
        DataError: as in `opened`.
    """
    with opened(path) as picture:
        shades = (picture.getpalette("RGB") or []) if picture.mode in ("P", "PA") else []
    triples = np.reshape(shades, (-1, 3)).tolist()
    return {index: (red, green, blue) for index, (red, green, blue) in enumerate(triples)}


def _ids(picture: Image.Image, path: Path, colours: Colours | None) -> NDArray[np.uint8]:
    mode = picture.mode
    if mode in ("1", "L") or (mode == "P" and colours is None):
        return np.array(picture, dtype=np.uint8)
    if mode in ("LA", "La") or (mode == "PA" and colours is None):
        return np.array(np.asarray(picture)[..., 0], dtype=np.uint8)
    if mode in _DEEP or mode == "F":
        return whole_ids(np.asarray(picture), str(path))
    rgb = np.asarray(picture.convert("RGBA").convert("RGB") if mode in ("P", "PA") else picture.convert("RGB"))
    return _one_channel(rgb, path) if colours is None else _by_colour(rgb, colours, path)


def whole_ids(values: NDArray[np.generic], where: str) -> NDArray[np.uint8]:
    """Ids of any number type as uint8; a mask of only 0 and 65535, white in 16 bits, becomes 0 and 255.

    Raises:
        DataError: an id is not a whole number from 0 to 255; `where` names the mask in the sentence.
    """
    found = np.unique(values)
    if found[-1:].tolist() == [65535] and found.size <= 2 and not found[:-1].any():
        return np.where(values == 65535, IGNORE, 0).astype(np.uint8)
    wrong = found[(found < 0) | (found > IGNORE) | (found != np.floor(found))]
    if wrong.size:
        raise DataError(
            f"{where} must hold class ids from 0 to 254 (255 is not counted), but holds {wrong[0]:g}: renumber the "
            "classes, and if these numbers count objects, write each object's class instead."
        )
    return values.astype(np.uint8)


def _one_channel(rgb: NDArray[np.uint8], path: Path) -> NDArray[np.uint8]:
    first = rgb[..., 0]
    if np.array_equal(first, rgb[..., 1]) and np.array_equal(first, rgb[..., 2]):
        return first.copy()
    odd = rgb[(first != rgb[..., 1]) | (first != rgb[..., 2])][0]
    raise DataError(
        f"{path} holds colours, among them {hexadecimal(odd)}, and no table says which class they are: put a "
        f'colours.json such as {{"#000000": 0, "{hexadecimal(odd)}": 1}} beside images/ and masks/, or pass `colours`.'
    )


def _by_colour(rgb: NDArray[np.uint8], colours: Colours, path: Path) -> NDArray[np.uint8]:
    """(H, W, 3) to ids by looking each colour up in the sorted table; quicker than sorting the pixels."""
    table = sorted(((r << 16) | (g << 8) | b, each) for (r, g, b), each in colours.items())
    known = np.array([code for code, _ in table], dtype=np.int32)
    ids = np.array([each for _, each in table], dtype=np.uint8)
    codes = (rgb.astype(np.int32) * np.array([65536, 256, 1], dtype=np.int32)).sum(axis=2, dtype=np.int32)
    place = np.minimum(np.searchsorted(known, codes), known.size - 1)
    strange = known[place] != codes
    if strange.any():
        odd = np.unique(rgb[strange], axis=0)
        raise DataError(
            f"Each colour of {path} must be in the colour table, but {len(odd)} are not, among them "
            f"{', '.join(hexadecimal(each) for each in odd[:3])}: add them, or, if they lie between two known colours, "
            "save the mask again without JPEG and without smoothing."
        )
    return ids[place]


def hexadecimal(colour: Iterable[int]) -> str:
    """A colour as web pages write it, such as #ff8000."""
    return "#" + "".join(f"{int(each):02x}" for each in colour)


def _refuse_lossy(ids: NDArray[np.uint8], path: Path) -> None:
    found = np.flatnonzero(np.bincount(ids.ravel(), minlength=256))
    if found.size > 2:
        gaps = max(int(b - a) for a, b in pairwise(found))
        step = "threshold it at 128 and save it" if gaps > 32 or found.size > 32 else "export it again"
        raise DataError(
            f"{path} must hold exact class ids, but is a JPEG, which alters them (it holds {found.size} different "
            f"values): {step} as PNG."
        )
