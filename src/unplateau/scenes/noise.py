"""Random fields on the pixel grid, drawn in the frequency domain. Each has mean 0 and standard deviation 1."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.special import ndtri

from unplateau.scenes.base import Field
from unplateau.types import Size


def frequencies(size: Size) -> tuple[Field, Field]:
    """Vertical (H, 1) and horizontal (1, W // 2 + 1) cycles per pixel of a real transform."""
    vertical, horizontal = fft.fftfreq(size[0]), fft.rfftfreq(size[1])
    return vertical.astype(np.float32)[:, None], horizontal.astype(np.float32)[None]


def shaped(rng: np.random.Generator, size: Size, gain: Field) -> Field:
    """White noise whose spectrum is multiplied by `gain`, then standardised."""
    white = rng.standard_normal(size, dtype=np.float32)
    field = fft.irfft2(fft.rfft2(white) * gain, s=size)
    return ((field - field.mean()) / (field.std() + 1e-6)).astype(np.float32)


def clouds(rng: np.random.Generator, size: Size, wavelength: float, steepness: float = 1.6) -> Field:
    """Noise of many octaves: flat down to `wavelength` pixels, then falling as frequency ** -steepness."""
    vertical, horizontal = frequencies(size)
    return shaped(rng, size, (1 + (vertical**2 + horizontal**2) * wavelength**2) ** (-steepness / 2))


def smooth(rng: np.random.Generator, size: Size, wavelength: float) -> Field:
    """Noise without detail below about `wavelength` pixels."""
    vertical, horizontal = frequencies(size)
    return shaped(rng, size, np.exp(-((vertical * wavelength) ** 2)) * np.exp(-((horizontal * wavelength) ** 2)))


def _band(size: Size, wavelength: float) -> Field:
    """A pass band about 0.35 octaves wide to either side of `wavelength`."""
    frequency = np.hypot(*frequencies(size))
    return np.exp(-((np.log2(np.maximum(frequency, 1e-4) * wavelength) / 0.35) ** 2) / 2)


def spots(rng: np.random.Generator, size: Size, wavelength: float) -> Field:
    """Band-pass noise without direction."""
    return matched(shaped(rng, size, _band(size, wavelength)))


def lines(rng: np.random.Generator, size: Size, wavelength: float) -> Field:
    """Band-pass noise of the same wavelengths as `spots`, in one random direction."""
    # Waves of direction d and d + pi are the same wave: measure the angle modulo pi.
    off = np.arcsin(np.abs(np.sin(np.arctan2(*frequencies(size)) - rng.uniform(0, np.pi))))
    return matched(shaped(rng, size, _band(size, wavelength) * np.exp(-((off / 0.2) ** 2) / 2).astype(np.float32)))


def matched(field: Field) -> Field:
    """The field with its values replaced, rank by rank, by those of a normal distribution.

    Two matched fields of one size hold exactly the same values: no statistic of single pixels can tell them apart.
    """
    count = field.size
    values: NDArray[np.float64] = ndtri((np.arange(count) + 0.5) / count)
    out = np.empty(count, dtype=np.float32)
    out[np.argsort(field, axis=None)] = values
    return out.reshape(field.shape)
