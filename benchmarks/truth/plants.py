"""Causes put into healthy data on purpose. Each takes samples and returns new ones; the same generator, the same plant.

Axes: H W pixels. Masks hold class ids; a plant works on one positive id and leaves the others and 255 alone, unless it
says otherwise.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from unplateau.types import IGNORE, Sample

Mask = NDArray[np.uint8]
Samples = Sequence[Sample]


def shifted(samples: Samples, rows: int, columns: int) -> list[Sample]:
    """All masks moved by so many pixels; what comes in from outside is background (or the nearest class)."""
    return [replace(each, mask=shift(each.mask, rows, columns)) for each in samples]


def shift(mask: Mask, rows: int, columns: int) -> Mask:
    """One mask moved down and right; the border is repeated."""
    height, width = mask.shape
    moved: Mask = mask[
        np.clip(np.arange(height) - rows, 0, height - 1)[:, None], np.clip(np.arange(width) - columns, 0, width - 1)
    ]
    return moved


def compressed(samples: Samples, quality: int) -> list[Sample]:
    """Masks that went through JPEG as grey levels, so that ids between the classes appear."""
    return [replace(each, mask=_jpeg(each.mask, quality)) for each in samples]


def smoothed(samples: Samples, factor: float) -> list[Sample]:
    """Masks that were resized with interpolation and back, as anti-aliasing exporters do."""
    return [replace(each, mask=_resized(each.mask, factor)) for each in samples]


def misnumbered(samples: Samples, share: float, positive: int, rng: np.random.Generator) -> list[Sample]:
    """In a share of the files that hold the positive class it carries another id."""
    other = 1 + max(int(each.mask[each.mask != IGNORE].max(initial=0)) for each in samples)
    holders = [place for place, each in enumerate(samples) if (each.mask == positive).any()]
    picked = _picked(holders, share, rng)
    return [
        replace(each, mask=np.where(each.mask == positive, np.uint8(other), each.mask)) if place in picked else each
        for place, each in enumerate(samples)
    ]


def leaked(train: Samples, val: Samples, share: float, rng: np.random.Generator) -> list[Sample]:
    """The validation samples, a share of them replaced by training samples saved again under another name."""
    picked = sorted(_picked(range(len(val)), share, rng))
    sources = rng.choice(len(train), size=len(picked), replace=len(picked) > len(train))
    twins = dict(zip(picked, sources.tolist(), strict=True))
    return [
        replace(each, image=_resaved(train[twins[place]].image, 90), mask=train[twins[place]].mask)
        if place in twins
        else each
        for place, each in enumerate(val)
    ]


def repeated(samples: Samples, originals: int, rng: np.random.Generator) -> list[Sample]:
    """As many samples as before, but only `originals` different ones: the rest are the same with faint noise."""
    kept = [samples[place] for place in sorted(rng.choice(len(samples), originals, replace=False).tolist())]
    made = []
    for place, each in enumerate(samples):
        twin = kept[place % originals]
        noise = rng.normal(0, 2.0, twin.image.shape) if place >= originals else np.zeros(1)
        image = np.clip(twin.image + noise, 0, 255).astype(np.uint8)
        made.append(replace(each, image=image, mask=twin.mask))
    return made


def omitted(samples: Samples, share: float, positive: int, rng: np.random.Generator) -> list[Sample]:
    """A share of the objects (connected components of the positive class) rubbed out."""
    return [replace(each, mask=_without(each.mask, share, positive, rng)) for each in samples]


def jittered(samples: Samples, pixels: float, positive: int, rng: np.random.Generator) -> list[Sample]:
    """Boundaries that wander: the mask is warped by a smooth random field of that root mean square in pixels."""
    return [replace(each, mask=_warped(each.mask, pixels, positive, rng)) for each in samples]


def swapped(samples: Samples, share: float, rng: np.random.Generator) -> list[Sample]:
    """A share of the images carry each other's masks, among those of one size."""
    made = list(samples)
    by_size: dict[tuple[int, ...], list[int]] = {}
    for place in sorted(_picked(range(len(samples)), share, rng)):
        by_size.setdefault(samples[place].mask.shape, []).append(place)
    for places in by_size.values():
        turned = places[1:] + places[:1]
        for place, other in zip(places, turned, strict=True):
            made[place] = replace(samples[place], mask=samples[other].mask)
    return made


def tinted(samples: Samples, strength: float, rng: np.random.Generator) -> list[Sample]:
    """The same scenes as another camera sees them: colour cast, lower contrast, blur and noise."""
    cast = np.array([1.0, -0.2, -0.8]) * 70 * strength
    made = []
    for each in samples:
        grey = each.image.astype(np.float32)
        cooler: NDArray[np.float64] = (grey - 128) * (1 - 0.45 * strength) + 128 + cast
        soft = ndimage.gaussian_filter(cooler, (0.9 * strength, 0.9 * strength, 0))
        noisy = soft + rng.normal(0, 6 * strength, soft.shape)
        made.append(replace(each, image=np.clip(noisy, 0, 255).astype(np.uint8)))
    return made


# ---- one mask ------------------------------------------------------------------------------------------------


def _jpeg(mask: Mask, quality: int) -> Mask:
    scale = 255 // max(1, int(mask[mask != IGNORE].max(initial=1)))
    levels = np.where(mask == IGNORE, 0, mask.astype(np.int64) * scale).clip(0, 255).astype(np.uint8)
    damaged: Mask = _resaved(levels, quality)
    return damaged


def _resaved(pixels: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


def _resized(mask: Mask, factor: float) -> Mask:
    height, width = mask.shape
    scale = 255 // max(1, int(mask[mask != IGNORE].max(initial=1)))
    levels = Image.fromarray(np.where(mask == IGNORE, 0, mask.astype(np.int64) * scale).clip(0, 255).astype(np.uint8))
    small = levels.resize((max(1, round(width * factor)), max(1, round(height * factor))), Image.Resampling.BILINEAR)
    return np.asarray(small.resize((width, height), Image.Resampling.BILINEAR))


def _without(mask: Mask, share: float, positive: int, rng: np.random.Generator) -> Mask:
    components, count = ndimage.label(mask == positive)
    gone = 1 + np.flatnonzero(rng.random(count) < share)
    return np.where(np.isin(components, gone), _ground(mask, positive), mask)


def _ground(mask: Mask, positive: int) -> np.uint8:
    """What stands where an object was: the commonest other id."""
    counts = np.bincount(mask[(mask != positive) & (mask != IGNORE)].ravel(), minlength=1)
    return np.uint8(counts.argmax())


def _warped(mask: Mask, pixels: float, positive: int, rng: np.random.Generator) -> Mask:
    scale = max(4.0, 3 * pixels)
    fields = []
    for _ in range(2):
        field = ndimage.gaussian_filter(rng.normal(size=mask.shape), scale, mode="wrap")
        fields.append(pixels * field / field.std())
    rows, columns = np.indices(mask.shape)
    places = (rows + fields[0], columns + fields[1])
    inside = ndimage.map_coordinates((mask == positive).astype(np.float32), places, order=1, mode="nearest") >= 0.5
    bare = np.where(mask == positive, _ground(mask, positive), mask)
    return np.where(inside & (mask != IGNORE), np.uint8(positive), bare)


def _picked(places: Sequence[int] | range, share: float, rng: np.random.Generator) -> set[int]:
    count = min(len(places), max(1, round(share * len(places))))
    return set(rng.choice(np.asarray(places), count, replace=False).tolist())


Plant = Callable[[Samples], list[Sample]]
