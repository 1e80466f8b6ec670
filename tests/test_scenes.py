"""What the planted scenes promise."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from unplateau.errors import OutputError, UnplateauError
from unplateau.scenes import ALONE, SCENES, Difficulty, Planted, mixture, plant, scenes, write_folder
from unplateau.scenes.context import LOOKS, MARKER
from unplateau.scenes.noise import clouds, lines, smooth, spots
from unplateau.scenes.shapes import clasp, disc, inside, offsets, places, some, square, triangle, zigzag

LEVEL = Difficulty()
QUIET = Difficulty(noise=0.0)
every_kind = pytest.mark.parametrize("kind", SCENES)


def drawn(kind: str, count: int, difficulty: Difficulty = LEVEL) -> list[Planted]:
    return [SCENES[kind](np.random.default_rng((7, i)), (96, 96), difficulty) for i in range(count)]


def grey(image: np.ndarray) -> np.ndarray:
    return image.astype(np.float64).mean(axis=-1)


# ---- every kind ----------------------------------------------------------------------------------------------


@every_kind
def test_the_same_seed_gives_the_same_bytes_whatever_the_count(kind: str) -> None:
    few, many = scenes(kind, 3, seed=5), scenes(kind, 4, seed=5)
    for one, other in zip(few, many, strict=False):
        assert one.name == other.name
        assert one.image.tobytes() == other.image.tobytes()
        assert one.mask.tobytes() == other.mask.tobytes()


@every_kind
def test_another_seed_and_another_index_give_another_scene(kind: str) -> None:
    first, second = scenes(kind, 2, seed=5)
    other = scenes(kind, 1, seed=6)[0]
    assert not np.array_equal(first.image, second.image)
    assert not np.array_equal(first.image, other.image)


@every_kind
@pytest.mark.parametrize("size", [(96, 96), (48, 80), (33, 32)])
def test_images_and_masks_have_the_size_and_type_and_both_classes(kind: str, size: tuple[int, int]) -> None:
    for sample in scenes(kind, 5, size=size):
        assert sample.image.shape == (*size, 3)
        assert sample.image.dtype == sample.mask.dtype == np.uint8
        assert sample.mask.shape == size
        assert set(np.unique(sample.mask)) == {0, 1}


@every_kind
def test_each_knob_of_the_difficulty_changes_the_scene(kind: str) -> None:
    plain = drawn(kind, 1)[0].image
    for changed in (Difficulty(noise=0.1), Difficulty(contrast=0.5), Difficulty(objects=3)):
        assert not np.array_equal(drawn(kind, 1, changed)[0].image, plain)


@every_kind
def test_the_smallest_number_of_objects_still_gives_a_scene(kind: str) -> None:
    assert drawn(kind, 1, Difficulty(objects=1))[0].mask.any()


def test_names_count_up_and_groups_hold_as_many_as_asked() -> None:
    assert [sample.name for sample in scenes("context", 2)] == ["context-0000", "context-0001"]
    assert all(sample.group == sample.name for sample in scenes("context", 3))
    assert Counter(sample.group for sample in scenes("context", 5, groups=2)).most_common() == [
        ("context-0000", 2),
        ("context-0002", 2),
        ("context-0004", 1),
    ]


def test_an_unknown_kind_is_answered_with_near_names() -> None:
    with pytest.raises(UnplateauError, match=r"'contxt'.*did you mean 'context'"):
        scenes("contxt", 1)


@pytest.mark.parametrize(
    ("count", "options"), [(-1, {}), (1, {"groups": 0}), (1, {"seed": -1}), (1, {"size": (96, 8)})], ids=str
)
def test_numbers_out_of_range_are_refused(count: int, options: dict[str, int]) -> None:
    with pytest.raises(UnplateauError, match="must be"):
        scenes("fire", count, **options)


@pytest.mark.parametrize("options", [{"noise": -0.1}, {"contrast": float("nan")}, {"objects": 0}], ids=str)
def test_a_difficulty_that_makes_no_sense_is_refused(options: dict[str, float]) -> None:
    with pytest.raises(UnplateauError, match="A difficulty needs"):
        Difficulty(**options)


@pytest.mark.parametrize("kind", [kind for kind in ALONE if kind in SCENES])
def test_alone_is_the_same_scene_with_nothing_counted_but_what_the_family_decides(kind: str) -> None:
    for seed in range(3):
        whole, alone = (kinds[kind](np.random.default_rng(seed), (64, 64), LEVEL) for kinds in (SCENES, ALONE))
        counted = alone.mask != 255
        assert np.array_equal(whole.image, alone.image)
        assert np.array_equal(whole.mask[counted], alone.mask[counted])
        assert not whole.mask[~counted].any()
        assert counted.all() == (kind == "texture")
        assert set(np.unique(alone.mask[counted])) == {0, 1}


def test_a_pixel_tells_the_two_colours_apart_and_no_single_channel_does() -> None:
    pixels, wanted = [], []
    for seed in range(12):
        scene = ALONE["colour"](np.random.default_rng(seed), (48, 48), QUIET)
        pixels.append(scene.image.reshape(-1, 3).astype(float))
        wanted.append(scene.mask.ravel())
    values, true = np.concatenate(pixels), np.concatenate(wanted) == 1
    lean = values[:, 0] - values[:, 1]
    assert np.mean((lean > 0) == true) > 0.85
    for channel in range(3):
        best = max(np.mean((values[:, channel] > level) == true) for level in range(60, 200, 5))
        assert best < 0.8


# ---- what decides, and what must not -------------------------------------------------------------------------


def test_flames_are_warmer_than_all_but_a_little_of_the_rest() -> None:
    warm, cold = [], []
    for scene in drawn("fire", 20):
        redness = scene.image[..., 0].astype(int) - scene.image[..., 2]
        warm.append(redness[scene.mask == 1])
        cold.append(redness[scene.mask == 0])
    share = np.mean(np.concatenate(cold) > np.median(np.concatenate(warm)))
    assert 0.0005 < share < 0.05


def test_the_two_textures_hold_the_same_values_exactly() -> None:
    rng = np.random.default_rng(0)
    spotted, lined = spots(rng, (64, 64), 5.5), lines(rng, (64, 64), 5.5)
    assert np.array_equal(np.sort(spotted, axis=None), np.sort(lined, axis=None))


def test_single_pixels_of_the_two_textures_share_mean_spread_and_histogram() -> None:
    found = drawn("texture", 100)
    inner = np.concatenate([grey(scene.image)[scene.mask == 1] for scene in found])
    outer = np.concatenate([grey(scene.image)[scene.mask == 0] for scene in found])
    levels = np.linspace(0.02, 0.98, 25)
    assert np.abs(np.quantile(inner, levels) - np.quantile(outer, levels)).max() < 4


def test_contours_run_between_equal_textures_too() -> None:
    """With the pattern taken away, only tints are left: steps of tint lie inside both classes."""
    within = []
    for scene in drawn("texture", 20, Difficulty(noise=0.0, contrast=0.0)):
        step = np.ptp([np.roll(grey(scene.image), shift, 0) for shift in (0, 1)], axis=0)[1:] > 1
        same = scene.mask[1:] == scene.mask[:-1]
        within.append((step & same).sum() / max(1, step.sum()))
    assert np.mean(within) > 0.25


@pytest.mark.parametrize("shape", [disc, square, triangle, clasp, zigzag])
def test_an_outline_has_the_area_asked_for_at_any_turn_and_is_centred(shape: object) -> None:
    for turn in (0.3, 1.0, 2.0):
        mask = inside(shape(*offsets((96, 96), np.array([47.5, 47.5]), turn), 200.0))
        assert int(mask.sum()) == pytest.approx(200, abs=9)
        assert np.allclose(ndimage.center_of_mass(mask), 47.5, atol=0.6)


def test_a_clasp_and_a_zigzag_are_made_of_the_same_corners() -> None:
    """Counts of all 2x2 patches of the outline, turned and mirrored ones taken together, agree."""
    counts = []
    for shape in (clasp, zigzag):
        mask = inside(shape(*offsets((96, 96), np.array([47.2, 47.3])), 800.0)).astype(int)
        filled = mask[1:, 1:] + mask[:-1, 1:] + mask[1:, :-1] + mask[:-1, :-1]
        counts.append([int((filled == corners).sum()) for corners in (1, 3)])
    assert counts[0] == counts[1] == [6, 2]


def test_no_turn_makes_a_clasp_of_a_zigzag() -> None:
    centre = np.array([47.5, 47.5])
    goal = inside(clasp(*offsets((96, 96), centre), 400.0))
    turned = [inside(zigzag(*offsets((96, 96), centre, turn), 400.0)) for turn in np.linspace(0, 2 * np.pi, 73)]
    assert max((goal & mask).sum() / (goal | mask).sum() for mask in turned) < 0.75


@pytest.mark.parametrize("kind", ["geometry", "geometry-arrangement"])
def test_both_shapes_are_as_light_inside(kind: str) -> None:
    rows = drawn(kind, 60, QUIET)
    lift = [grey(scene.image)[scene.mask == 1].mean() - np.median(grey(scene.image)) for scene in rows]
    # The objects, positive or not, are the lighter part of the scene: compare with the lightest pixels left over.
    rest = []
    for scene in rows:
        values = np.sort(grey(scene.image)[scene.mask == 0])
        rest.append(values[-int(scene.mask.sum() * 0.2) :].mean() - np.median(grey(scene.image)))
    assert np.mean(lift) == pytest.approx(np.mean(rest), rel=0.35)


def discs_of(scene: Planted) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels of the discs, their truth by label (from 1 on), and the marker's mask in a quiet scene of discs."""
    plain = np.abs(scene.image.astype(int) - (np.array([0.62, 0.60, 0.58]) * 255).round()).max(axis=-1) <= 1
    labels, count = ndimage.label(ndimage.binary_opening(plain, iterations=2))
    truth = np.array([scene.mask[labels == i].mean() for i in range(1, count + 1)])
    marker = np.abs(scene.image.astype(int) - (np.array(MARKER) * 255).round()).max(axis=-1) <= 1
    return labels, truth, marker


def test_discs_are_positive_exactly_on_the_markers_side() -> None:
    for scene in drawn("context", 30, QUIET):
        labels, truth, marker = discs_of(scene)
        marker_left = np.argwhere(marker)[:, 1].mean() < 48
        centres = np.array(ndimage.center_of_mass(labels > 0, labels, range(1, len(truth) + 1)))
        assert np.array_equal((centres[:, 1] < 48) == marker_left, truth > 0.5)


def test_discs_of_both_sides_are_identical_and_equally_many() -> None:
    area: dict[bool, list[int]] = {True: [], False: []}
    for scene in drawn("context", 100, QUIET):
        labels, truth, _ = discs_of(scene)
        for label, positive in enumerate(truth, 1):
            area[bool(positive > 0.5)].append(int((labels == label).sum()))
    assert np.mean(area[True]) == pytest.approx(np.mean(area[False]), rel=0.01)
    assert len(area[True]) == pytest.approx(len(area[False]), rel=0.1)


def test_no_window_of_70_pixels_around_a_disc_holds_any_of_the_marker() -> None:
    for scene in drawn("context", 60, QUIET):
        labels, _, marker = discs_of(scene)
        rows, marked = np.argwhere(labels > 0)[:, 0], np.argwhere(marker)[:, 0]
        assert np.abs(rows[:, None] - marked[None]).min() > 35


# ---- mixtures ------------------------------------------------------------------------------------------------


def test_a_mixture_has_the_shares_of_positive_area_asked_for() -> None:
    builder = mixture({"texture": 1.0, "geometry": 1.0, "context": 2.0})
    area: Counter[str] = Counter()
    for index in range(500):
        scene = builder(np.random.default_rng((3, index)), (48, 48), LEVEL)
        area[scene.family] += int(scene.mask.sum())
    shares = {family: value / area.total() for family, value in area.items()}
    assert shares == pytest.approx({"texture": 0.25, "geometry": 0.25, "context": 0.5}, abs=0.06)


def test_each_family_of_a_mixture_has_the_same_positive_area_in_a_scene() -> None:
    area = dict.fromkeys(LOOKS, 0.0)
    for family in LOOKS:
        builder = mixture({family: 1})
        found = [builder(np.random.default_rng((1, i)), (48, 48), LEVEL) for i in range(200)]
        area[family] = float(np.mean([scene.mask.sum() for scene in found]))
    assert np.ptp(list(area.values())) < 0.12 * np.mean(list(area.values()))


def test_a_mixture_of_one_family_is_that_family() -> None:
    scene = mixture({"texture": 0.3, "context": 0.0})(np.random.default_rng(0), (96, 96), LEVEL)
    assert scene.family == "texture"


def test_a_mixture_can_be_planted_under_a_name() -> None:
    samples = plant(mixture({"fire": 0.5, "context": 0.5}), 2, name="half")
    assert [sample.name for sample in samples] == ["half-0000", "half-0001"]


@pytest.mark.parametrize(
    ("shares", "said"),
    [
        ({"textur": 1.0}, "did you mean 'texture'"),
        ({"fire": -1.0}, "negative"),
        ({}, "above 0"),
        ({"fire": 0}, "above"),
    ],
    ids=str,
)
def test_shares_that_make_no_sense_are_refused(shares: dict[str, float], said: str) -> None:
    with pytest.raises(UnplateauError, match=said):
        mixture(shares)


# ---- fields and places ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("draw", [clouds, smooth, spots, lines])
def test_a_field_has_mean_0_and_spread_1(draw: object) -> None:
    field = draw(np.random.default_rng(1), (40, 61), 9.0)
    assert field.shape == (40, 61)
    assert field.dtype == np.float32
    assert (field.mean(), field.std()) == pytest.approx((0, 1), abs=0.01)


def test_places_keep_their_distance_and_stop_when_the_box_is_full() -> None:
    low, high = np.array([0.0, 0.0]), np.array([30.0, 30.0])
    found = places(np.random.default_rng(0), 50, low, high, 12.0)
    assert 3 <= len(found) < 50
    assert all(np.hypot(*(a - b)) >= 12 for i, a in enumerate(found) for b in found[:i])


def test_some_but_never_all_of_two_or_more_are_chosen() -> None:
    counts = {sum(some(np.random.default_rng(seed), 4)) for seed in range(60)}
    assert counts == {1, 2, 3}


# ---- the folder ----------------------------------------------------------------------------------------------


def test_a_written_folder_holds_the_same_pixels_and_the_groups(tmp_path: Path) -> None:
    samples = scenes("geometry", 4, size=(48, 64), groups=2)
    root = write_folder(samples, tmp_path / "planted")
    assert sorted(path.name for path in root.iterdir()) == ["groups.csv", "images", "masks"]
    for sample in samples:
        assert np.array_equal(np.array(Image.open(root / "images" / f"{sample.name}.png")), sample.image)
        mask = Image.open(root / "masks" / f"{sample.name}.png")
        assert mask.mode == "L"
        assert np.array_equal(np.array(mask), sample.mask)
    with (root / "groups.csv").open(newline="") as table:
        assert [(row["stem"], row["group"]) for row in csv.DictReader(table)] == [(s.name, s.group) for s in samples]


def test_writing_leaves_no_drafts_and_can_be_repeated(tmp_path: Path) -> None:
    for _ in range(2):
        write_folder(scenes("texture", 2, size=(32, 32)), tmp_path)
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 5


def test_a_folder_that_cannot_be_written_is_one_clear_sentence(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(OutputError, match="Cannot write the scenes"):
        write_folder(scenes("texture", 1, size=(32, 32)), tmp_path / "taken")
