"""Pixels come out as they were meant, whatever the file's mode."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unplateau.data.decode import read_image, read_mask, read_size, white_level
from unplateau.errors import DataError

IDS = np.arange(48, dtype=np.uint8).reshape(6, 8) % 5


def white() -> int:
    return 65535


def saved(path: Path, picture: Image.Image | np.ndarray, **how: object) -> Path:
    (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(path, **how)
    return path


def mode_of(path: Path) -> str:
    with Image.open(path) as picture:
        return picture.mode


# ---- images --------------------------------------------------------------------------------------------------


def test_rgb_round_trip(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    path = saved(tmp_path / "a.png", pixels)
    assert (read_image(path, white) == pixels).all()
    assert read_size(path) == (6, 8)


def test_grey_is_repeated(tmp_path):
    assert (read_image(saved(tmp_path / "a.bmp", IDS), white) == IDS[..., None]).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_undone(tmp_path, orientation):
    upright = np.zeros((32, 64, 3), np.uint8)
    upright[:16, :32] = 255
    ways = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = Image.fromarray(upright)
    stored = stored.transpose(ways[orientation]) if orientation in ways else stored
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path / "a.jpg", stored, exif=exif, quality=95)
    assert read_size(path) == (32, 64)
    assert np.abs(read_image(path, white).astype(int) - upright).max() < 20
    assert read_image(path, white, coarse=(8, 16)).shape == (8, 16, 3)


def test_coarse_never_goes_below_what_is_asked(tmp_path):
    path = saved(tmp_path / "a.jpg", np.zeros((100, 333, 3), np.uint8))
    assert read_image(path, white, coarse=(30, 40)).shape[0] >= 30
    assert read_image(path, white, coarse=(90, 300)).shape == (100, 333, 3)


def test_16_bits_share_one_scale_that_fits_the_sensor(tmp_path):
    dark = np.full((4, 4), 1000, np.uint16)
    bright = np.full((4, 4), 4000, np.uint16)
    paths = [saved(tmp_path / "a.png", dark), saved(tmp_path / "b.tif", bright), saved(tmp_path / "c.png", IDS)]
    assert white_level(paths) == 4095
    assert white_level(paths[2:]) == 255
    assert read_image(paths[0], lambda: 4095)[0, 0, 0] == 62
    assert read_image(paths[1], lambda: 4095)[0, 0, 0] == 249


def test_alpha_is_composited_on_black(tmp_path):
    pixels = np.full((2, 2, 4), 200, np.uint8)
    pixels[..., 3] = [[0, 255], [255, 255]]
    assert read_image(saved(tmp_path / "a.png", pixels), white)[..., 0].tolist() == [[0, 200], [200, 200]]
    pixels[..., 3] = 0
    assert (read_image(saved(tmp_path / "b.png", pixels), white) == 200).all()


@pytest.mark.parametrize(
    ("mode", "ending"), [("CMYK", "jpg"), ("P", "png"), ("LA", "png"), ("1", "png"), ("YCbCr", "jpg")]
)
def test_other_modes_become_rgb(tmp_path, mode, ending):
    picture = Image.fromarray(np.full((8, 8, 3), 255, np.uint8)).convert(mode)
    pixels = read_image(saved(tmp_path / f"a.{ending}", picture), white)
    assert pixels.shape == (8, 8, 3)
    assert pixels.min() > 250


def test_floating_point_image_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"a\.tif holds floating-point"):
        read_image(saved(tmp_path / "a.tif", IDS.astype(np.float32)), white)


# ---- masks ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["png", "tif", "bmp"])
def test_index_mask_round_trip(tmp_path, ending):
    assert (read_mask(saved(tmp_path / f"a.{ending}", IDS), None) == IDS).all()


def test_palette_holds_ids_not_colours(tmp_path):
    picture = Image.fromarray(IDS)
    picture.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 9, 9])
    path = saved(tmp_path / "a.png", picture)
    assert mode_of(path) == "P"
    assert (read_mask(path, None) == IDS).all()


def test_palette_with_a_colour_table_goes_by_colour(tmp_path):
    picture = Image.fromarray(IDS % 2)
    picture.putpalette([255, 0, 0, 0, 0, 0])
    path = saved(tmp_path / "a.png", picture)
    assert (read_mask(path, {(0, 0, 0): 0, (255, 0, 0): 7}) == np.where(IDS % 2, 0, 7)).all()


def test_one_bit_mask(tmp_path):
    path = saved(tmp_path / "a.png", IDS > 2)
    assert mode_of(path) == "1"
    assert (read_mask(path, None) == (IDS > 2)).all()


def test_16_bit_mask(tmp_path):
    assert (read_mask(saved(tmp_path / "a.png", IDS.astype(np.uint16)), None) == IDS).all()
    whites = np.where(IDS > 2, 65535, 0).astype(np.uint16)
    assert (read_mask(saved(tmp_path / "b.png", whites), None) == np.where(IDS > 2, 255, 0)).all()


@pytest.mark.parametrize("values", [IDS.astype(np.uint16) * 100, IDS.astype(np.float32) / 2, IDS.astype(np.int32) - 1])
def test_numbers_that_are_no_ids(tmp_path, values):
    with pytest.raises(DataError, match=r"a\.tif must hold class ids from 0 to 254"):
        read_mask(saved(tmp_path / "a.tif", values), None)


def test_rgb_mask_by_table(tmp_path):
    colours = {(0, 0, 0): 0, (255, 0, 0): 1, (0, 0, 255): 2, (9, 8, 7): 255}
    pixels = np.array([[(0, 0, 0), (255, 0, 0)], [(0, 0, 255), (9, 8, 7)]], np.uint8)
    path = saved(tmp_path / "a.png", pixels)
    assert read_mask(path, colours).tolist() == [[0, 1], [2, 255]]
    with pytest.raises(DataError, match=r"a\.png.* 1 are not.*#090807"):
        read_mask(path, {(0, 0, 0): 0, (255, 0, 0): 1, (0, 0, 255): 2})
    with pytest.raises(DataError, match=r"a\.png holds colours.*colours\.json.*`colours`"):
        read_mask(path, None)


def test_grey_rgb_mask_needs_no_table(tmp_path):
    path = saved(tmp_path / "a.png", np.repeat(IDS[..., None], 3, axis=2))
    assert (read_mask(path, None) == IDS).all()


def test_alpha_of_a_mask_is_passed_over(tmp_path):
    path = saved(tmp_path / "a.png", np.stack([IDS, np.full_like(IDS, 9)], axis=2))
    assert mode_of(path) == "LA"
    assert (read_mask(path, None) == IDS).all()


def test_jpeg_mask_with_noise_is_refused_and_a_clean_one_taken(tmp_path):
    disc = (np.hypot(*np.mgrid[-32:32, -32:32]) < 20) * np.uint8(255)
    with pytest.raises(DataError, match=r"a\.jpg .*JPEG.*threshold it at 128"):
        read_mask(saved(tmp_path / "a.jpg", disc), None)
    assert not read_mask(saved(tmp_path / "b.jpg", disc * 0), None).any()
