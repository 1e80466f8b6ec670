"""What can be wrong with a pair once it is read: sizes that disagree, and ids that no annotator wrote."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unplateau.data.decode import hexadecimal
from unplateau.data.folder import some
from unplateau.errors import DataError
from unplateau.types import IGNORE, Size

FEWEST = 8
"""Fewer images than this cannot be divided into a part that trains, one that chooses and one that reports."""

_LINES = 512
_STRIP = 1_000_000
_STEP = 4
_ENOUGH = 200
_ENOUGH_WITH_RARE_IDS = 24
_RAMPED = 0.15


@dataclass(frozen=True)
class Scan:
    """What one native mask holds: its ids, its steps from id to id, and how many of those are ramps."""

    ids: tuple[int, ...]
    pixels: tuple[int, ...]
    steps: int
    ramps: int


def refuse_too_few(count: int, what: str) -> None:
    """Refuse fewer images than `FEWEST`.

    Raises:
        DataError: `count` is too small; `what` begins the sentence.
    """
    if count < FEWEST:
        raise DataError(f"{what} must be at least {FEWEST} to train, choose and report on, but is {count}: give more.")


def refuse_other_size(where: str, mask: Size, image: Size) -> None:
    """Refuse a mask whose size is not that of its upright image.

    Raises:
        DataError: the sizes differ; `where` names the mask in the sentence.
    """
    if mask == image:
        return
    step = "export the mask at the size of the image"
    if mask == image[::-1]:
        step = "if an EXIF tag turns the image, save it upright without the tag, else turn the mask"
    raise DataError(
        f"{where} must be as large as its image (upright), {image[0]} x {image[1]} pixels high and wide, but is "
        f"{mask[0]} x {mask[1]}: {step}."
    )


# ---- damaged masks -------------------------------------------------------------------------------------------


def scan_mask(mask_HW: NDArray[np.uint8]) -> Scan:
    """The ids of a native mask, uint8 (H, W), and its ramps.

    A step is three pixels in a row or column whose outer two differ by at least 4 ids. It is a ramp when the middle
    one lies strictly between them. An annotator's border is sharp: the middle pixel is one of the two sides. JPEG
    and any interpolation put values between. Measured: masks of 2, 11 and 150 classes, also shrunk four times by
    nearest neighbour, have at most 8 % ramps; the same after JPEG at quality 75 or 95, or any bilinear resize,
    have 18 to 100 %. The gap of 4 spares thin nested layers numbered 0, 1, 2, 3, whose steps look the same.
    """
    # By strips: bincount widens each byte to eight.
    strips = np.array_split(mask_HW, max(1, mask_HW.size // _STRIP))
    counts = np.sum([np.bincount(strip.ravel(), minlength=256) for strip in strips], axis=0)
    ids = np.flatnonzero(counts)
    steps, ramps = (0, 0) if ids.size <= 2 else _steps(mask_HW)
    return Scan(tuple(ids.tolist()), tuple(counts[ids].tolist()), steps, ramps)


def _steps(mask_HW: NDArray[np.uint8]) -> tuple[int, int]:
    steps = ramps = 0
    for lines in (mask_HW, mask_HW.T):
        # Whole lines, but not all of a large mask: ramps are everywhere or nowhere.
        some_lines = lines[:: -(-lines.shape[0] // _LINES)]
        before, middle, after = some_lines[:, :-2], some_lines[:, 1:-1], some_lines[:, 2:]
        low, high = np.minimum(before, after), np.maximum(before, after)
        step = high - low >= _STEP
        steps += int(np.count_nonzero(step))
        ramps += int(np.count_nonzero(step & (middle > low) & (middle < high)))
    return steps, ramps


def refuse_damaged(scans: Sequence[Scan], files: Sequence[str]) -> None:
    """Refuse masks that compression or interpolation has altered; `files` names each.

    Raises:
        DataError: ramps at the borders, in one mask with enough steps to tell or over all, or values clustered
            round 0 and 255.
    """
    damaged = [i for i, scan in enumerate(scans) if _ramped(scan)]
    steps, ramps = sum(scan.steps for scan in scans), sum(scan.ramps for scan in scans)
    if not damaged and steps >= _ENOUGH / 2 and ramps > _RAMPED * steps:
        damaged = [i for i, scan in enumerate(scans) if scan.ramps]
    damaged = damaged or _nearly_two_valued(scans)
    if damaged:
        worst = max(damaged, key=lambda i: len(scans[i].ids))
        raise DataError(
            f"{files[worst]} must hold exact class ids, but holds {len(scans[worst].ids)} different values, many of "
            f"them lying between two others along borders as JPEG or smoothing leaves them ({len(damaged)} of "
            f"{len(scans)} masks are like that): export the masks again as PNG, without compression loss, "
            "anti-aliasing or interpolation."
        )


def _ramped(scan: Scan) -> bool:
    """Whether this mask alone tells: many steps, or a few together with five or more ids of a few pixels each."""
    sliver = max(12, 0.005 * sum(scan.pixels))
    enough = _ENOUGH_WITH_RARE_IDS if sum(pixels < sliver for pixels in scan.pixels) >= 5 else _ENOUGH
    return scan.steps >= enough and scan.ramps > _RAMPED * scan.steps


def _nearly_two_valued(scans: Sequence[Scan]) -> list[int]:
    """The masks with rare values beside 0 and 255, if all of the data set clusters there: JPEG of high quality."""
    total: dict[int, int] = {}
    for scan in scans:
        for each, pixels in zip(scan.ids, scan.pixels, strict=True):
            total[each] = total.get(each, 0) + pixels
    between = set(total) - {0, IGNORE}
    clustered = {0, IGNORE} <= set(total) and all(each <= 8 or each >= 247 for each in between)
    rare = sum(total[each] for each in between) < 0.02 * sum(total.values())
    if not (clustered and rare and any(each >= 247 for each in between)):
        return []
    return [i for i, scan in enumerate(scans) if between & set(scan.ids)]


# ---- odd, but not wrong --------------------------------------------------------------------------------------


def encoding_warnings(
    scans: Sequence[Scan], files: Sequence[str], names: Mapping[int, str], positive: Collection[int] = (IGNORE,)
) -> tuple[str, ...]:
    """Sentences on encodings that can be read in two ways; empty when there is nothing to doubt.

    `positive`: the ids of the positive class.
    """
    found = {each for scan in scans for each in scan.ids}
    said = [
        _white(found, positive),
        _two_encodings(scans, files, found),
        _spread(found),
        _unnamed(found, names),
    ]
    return tuple(sentence for sentence in said if sentence)


def palette_warning(
    scans: Sequence[Scan], palettes: Sequence[Mapping[int, tuple[int, int, int]]], files: Sequence[str]
) -> tuple[str, ...]:
    """A sentence where palette masks show one id in two colours: a writer may have numbered each file as it pleased."""
    first: dict[int, tuple[tuple[int, int, int], str]] = {}
    for scan, palette, file in zip(scans, palettes, files, strict=True):
        for each in palette.keys() & set(scan.ids):
            shade, where = first.setdefault(each, (palette[each], file))
            if shade != palette[each]:
                return (
                    f"The id {each} is shown in {hexadecimal(shade)} by the palette of {where} and in "
                    f"{hexadecimal(palette[each])} by that of {file}: for now the ids are what counts, so put a "
                    "colours.json beside masks/ if the colours do.",
                )
    return ()


def _white(found: set[int], positive: Collection[int]) -> str:
    if found != {0, IGNORE}:
        return ""
    read = "the positive class" if IGNORE in positive else "a class"
    return f"The masks hold only 0 and 255, so 255 is read as {read} and not as 'not counted'."


def _two_encodings(scans: Sequence[Scan], files: Sequence[str], found: set[int]) -> str:
    """Masks of 0 and 1 beside masks of 0 and 255, none with both: half of the positive class would go uncounted."""
    ones = [file for scan, file in zip(scans, files, strict=True) if 1 in scan.ids]
    whites = [file for scan, file in zip(scans, files, strict=True) if IGNORE in scan.ids]
    if found != {0, 1, IGNORE} or set(ones) & set(whites):
        return ""
    return (
        f"No mask holds both 1 and 255 ({len(ones)} hold 1, as {ones[0]}, and {len(whites)} hold 255, as "
        f"{whites[0]}): if 255 means the positive class there, rewrite it as 1, for now it is not counted."
    )


def _spread(found: set[int]) -> str:
    """Ids such as 0, 128, 255: grey levels made for the eye, in which 255 is likely a class."""
    ids = sorted(found)
    if len(ids) < 3 or IGNORE not in found or min(np.diff(ids)) < 16:
        return ""
    return (
        f"The masks hold the widely spaced ids {', '.join(map(str, ids))}: 255 is read as 'not counted', so renumber "
        "the masks 0, 1, 2 if it is a class."
    )


def _unnamed(found: set[int], names: Mapping[int, str]) -> str:
    unnamed = found - names.keys() - {IGNORE}
    if not names or not unnamed or found == {0, IGNORE}:
        return ""
    return f"The masks hold class ids that the list of classes does not name: {some(map(str, unnamed), 5)}."
