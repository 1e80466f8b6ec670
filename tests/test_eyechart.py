"""The light decoder, the eye chart and its verb: what is in the characteristics is read, what is not there is not."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from unplateau import api
from unplateau.cli import main
from unplateau.data import open_data, read_pictures
from unplateau.decoders.grids import upsample
from unplateau.errors import DataError, UnplateauError
from unplateau.extractors.catalogue import build_extractor
from unplateau.measures.thresholds import iou, mean_iou
from unplateau.model import pad_to
from unplateau.reports.eyechart import eyechart_table, write_eyechart
from unplateau.scenes import scenes
from unplateau.types import Characteristics
from unplateau.upgrades import eyechart as charts
from unplateau.upgrades.cache import Part
from unplateau.upgrades.lesson import taught
from unplateau.upgrades.probe import QUARTERS, Truth, deal, probe, sampled
from unplateau.verbs import eyechart as verb

# ---- the light decoder ---------------------------------------------------------------------------------------


def truth(count: int = 24, side: int = 16, seed: int = 0) -> Truth:
    masks = torch.randint(0, 2, (count, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
    return Truth(masks, 1, deal([str(place) for place in range(count)], [1.0] * count))


def parts_of(*levels: torch.Tensor, strides: tuple[int, ...] = (1,), size: int = 5):
    """Shards of `size` images."""

    def parts():
        for first in range(0, len(levels[0]), size):
            yield Part(first, Characteristics(tuple(each[first : first + size] for each in levels), strides), True)

    return parts


def test_what_lies_in_the_characteristics_is_read_in_full():
    known = truth()
    noise = torch.randn(24, 6, 16, 16, generator=torch.Generator().manual_seed(1))
    hidden = noise.clone()
    hidden[:, 0] = 1e4 + 300 * known.masks + noise[:, 0]
    hidden[:, 1] = 7.0  # a channel that never changes
    assert mean_iou(probe(parts_of(hidden), known)) > 0.99
    assert mean_iou(probe(parts_of(noise), known)) < 0.55


def test_the_answer_does_not_depend_on_how_the_images_are_cut_into_shards():
    known = truth()
    maps = torch.randn(24, 4, 16, 16) + known.masks[:, None]
    whole, cut = (probe(parts_of(maps, size=size), known) for size in (24, 24))
    assert np.array_equal(whole, cut)
    assert abs(mean_iou(probe(parts_of(maps, size=7), known)) - mean_iou(whole)) < 0.02


def test_sampling_reads_what_upsampling_shows():
    maps = torch.randn(3, 5, 4, 6)
    shown = upsample(maps, (32, 48))[..., :30, :41]
    pixels = torch.randint(0, 30 * 41, (3, 50))
    read = sampled(Characteristics((maps,), (8,)), pixels, (30, 41))
    expected = torch.gather(shown.flatten(2), 2, pixels[:, None].expand(-1, 5, -1)).transpose(1, 2)
    assert torch.allclose(read, expected, atol=1e-5)


def test_pixels_that_do_not_count_teach_and_cost_nothing():
    known = truth()
    masks = known.masks.clone()
    masks[:, :8] = 255
    maps = torch.randn(24, 3, 16, 16) * 0.1 + known.masks[:, None]
    maps[:, :, :8] = 1e3
    counts = probe(parts_of(maps), Truth(masks, 1, known.quarters))
    assert mean_iou(counts) > 0.99
    assert counts[..., 2].sum() == int((masks == 1).sum())


def test_many_classes_are_read_by_the_best_score():
    masks = torch.randint(0, 3, (24, 12, 12), dtype=torch.uint8)
    maps = torch.nn.functional.one_hot(masks.long(), 3).permute(0, 3, 1, 2).float()
    quarters = deal([str(place) for place in range(24)], [1.0] * 24)
    assert mean_iou(probe(parts_of(maps), Truth(masks, 3, quarters))) > 0.99


def test_groups_go_whole_to_halves_that_weigh_alike():
    groups = [f"g{place // 3}" for place in range(36)]
    weights = [float(place) for place in range(36)]
    quarters = deal(groups, weights, seed=3)
    assert all(len({quarters[place] for place in range(36) if groups[place] == group}) == 1 for group in set(groups))
    halves = [
        sum(weight for weight, each in zip(weights, quarters, strict=True) if each // 2 == half) for half in (0, 1)
    ]
    assert abs(halves[0] - halves[1]) < 0.15 * sum(weights)
    assert set(quarters) == set(range(QUARTERS))


def test_two_groups_are_enough_and_one_is_not():
    quarters = deal(["a"] * 4 + ["b"] * 4, [1.0] * 8)
    assert set(quarters) == set(range(QUARTERS))
    assert len({each // 2 for each in quarters[:4]}) == 1
    with pytest.raises(DataError, match="at least 2 groups"):
        deal(["a"] * 8, [1.0] * 8)


# ---- the chart -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", autouse=True)
def small():
    """A chart of a tenth of the size: each claim here holds for it too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(charts, "SCENES", 8)
        patch.setattr(
            charts, "_scenes", lambda grade, size, seed, count=8, *, draw=charts._scenes: draw(grade, size, seed, count)
        )
        patch.setattr("unplateau.upgrades.lesson.STEPS", 3)
        yield


@pytest.fixture(scope="module")
def charted(tmp_path_factory):
    """Two extractors charted, and where."""
    out = tmp_path_factory.mktemp("chart")
    return api.eyechart(["reach-5-4", "unet-4"], out=out, size=32), out


def test_every_family_has_grades_from_easy_to_hard():
    for family, grades in charts.CHARTS.items():
        assert len(grades) == 4, family
        sides = [charts.side_of(grade, 64) for grade in grades]
        assert sides == sorted(sides)
    assert [charts.side_of(grade, 64) for grade in charts.CHARTS["semantic"]] == [32, 43, 53, 64]


def test_lesson_and_reading_never_show_the_same_scene():
    lesson, _ = charts._lesson_scenes(32, 0, 0)["textural"]
    grade = charts.CHARTS["textural"][0]
    read = [charts._scenes(grade, 32, seed)[0] for seed in range(charts.SEEDS)]
    assert not any(torch.equal(one, other) for one in lesson for images in read for other in images)


def test_a_lesson_leaves_the_extractor_as_it_was_and_changes_its_copy():
    torch.manual_seed(0)
    extractor = build_extractor("reach-5-4")
    before = {name: value.clone() for name, value in extractor.state_dict().items()}

    def shown(step: int):
        return charts._lesson_scenes(32, 0, step)

    pupil, again = (taught(extractor, shown, tuple(charts.CHARTS), 0).extractor for _ in range(2))
    assert all(torch.equal(value, before[name]) for name, value in extractor.state_dict().items())
    assert any(not torch.equal(value, before[name]) for name, value in pupil.state_dict().items())
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in pupil.state_dict().items())


def test_every_step_of_a_lesson_shows_every_family_in_windows_of_one_size():
    shown = charts._lesson_scenes(48, 0, 1)
    assert list(shown) == list(charts.CHARTS)
    assert all(images.shape == (4, 3, 32, 32) and masks.shape == (4, 32, 32) for images, masks in shown.values())
    other = charts._lesson_scenes(48, 0, 3)
    assert all(not torch.equal(shown[family][0], other[family][0]) for family in shown)


@pytest.fixture(scope="module")
def pupil():
    """A small network that sees the whole image, after a lesson on colour and context alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("unplateau.upgrades.lesson.STEPS", 90)
        torch.manual_seed(0)

        def shown(step: int):
            return {family: each for family, each in charts._lesson_scenes(32, 0, step).items() if family in FEW}

        return taught(build_extractor("unet-8"), shown, FEW, 0)


FEW = (charts.COLOUR, "textural")


def test_what_was_learnt_is_read_by_the_rules_that_learnt_it_and_another_family_is_not(pupil):
    grade = charts.CHARTS[charts.COLOUR][0]
    own = charts._answered(pupil, charts.COLOUR, grade, 32, 0)
    others = charts._answered(pupil, "textural", grade, 32, 0)
    assert own.shape == others.shape == (8, 3)
    assert iou(own.sum(0)) > 0.75
    assert iou(own.sum(0)) > iou(others.sum(0)) + 0.15


def test_colour_is_charted_from_everything_to_what_a_pixel_says():
    none, whole = charts._bounds(charts.COLOUR, charts.CHARTS[charts.COLOUR][0], 32, 0)
    assert iou(none.sum(0)) < 0.6
    assert iou(whole.sum(0)) > 0.8


def test_colour_alone_gets_nothing_on_the_chart(charted):
    """The trivial answer against itself: its acuity must be 0, or acuity would measure something else."""
    grade = charts.CHARTS["geometric"][0]
    images, masks = charts._scenes(grade, 32, 0)
    counts = probe(lambda: charts.colour_parts(images), charts._truth(masks, 0), 0)[:, 0]
    assert np.array_equal(counts, charts._bounds("geometric", grade, 32, 0)[0])


def test_a_planted_answer_has_full_acuity_and_an_interval(tmp_path, monkeypatch):
    def known(_extractor, images, _folder):
        grade = charts.CHARTS["textural"][0]
        for seed in range(charts.SEEDS):
            own, masks = charts._scenes(grade, 32, seed)
            if torch.equal(own, images):
                yield Part(0, Characteristics((masks[:, None].float(),), (1,)), True)

    monkeypatch.setattr(charts, "features", known)
    grade = charts.CHARTS["textural"][0]
    ours = charts._read(build_extractor("reach-5-4"), tmp_path, grade, 32, 0)
    counted = (ours, *charts._bounds("textural", grade, 32, 0))
    assert charts._normalised(*(charts._pooled(counts[None]) for counts in counted)).min() > 0.98


def test_the_chart_says_what_it_measured(charted):
    content, out = charted
    assert [each["extractor"] for each in content["charts"]] == ["reach-5-4", "unet-4"]
    first = content["charts"][0]
    assert first["reach"] == 5.0
    assert content["charts"][1]["reach"] is None
    assert first["milliseconds"] > 0
    for state in ("rest", "taught"):
        assert [each["family"] for each in first[state]] == list(charts.CHARTS)
        for each in first[state]:
            assert each["acuity"]["low"] <= each["acuity"]["mean"] <= each["acuity"]["high"]
            # A network may average the noise out of colour, which a pixel alone cannot.
            assert each["acuity"]["high"] <= 1 or each["family"] == charts.COLOUR
            assert each["acuity"]["mean"] == pytest.approx(np.mean([line["acuity"]["mean"] for line in each["lines"]]))
    assert not list((out / verb.FEATURES).iterdir())


def test_a_chart_is_reused_when_nothing_changed_and_measured_again_when_something_did(charted, monkeypatch):
    content, out = charted
    measured = []
    known = {each["identity"]: each for each in content["charts"]}

    def counted(name, extractor, folder, *, size, seed, at_rest):
        measured.append(name)
        return known.get(charts.identity(extractor), content["charts"][0])

    monkeypatch.setattr(verb, "chart", counted)
    assert api.eyechart(["unet-4", "reach-5-4"], out=out, size=32)["charts"] == content["charts"][::-1]
    assert measured == []
    api.eyechart(["reach-3-4"], out=out, size=32)
    assert measured == ["reach-3-4"]
    api.eyechart(["unet-4"], out=out, size=32, seed=1)
    assert measured == ["reach-3-4", "unet-4"]
    monkeypatch.setattr(verb, "CHART", 99)
    api.eyechart(["unet-4"], out=out, size=32, seed=1)
    assert measured == ["reach-3-4", "unet-4", "unet-4"]


def test_a_chart_made_for_a_choice_is_completed_when_the_whole_is_asked_for(charted, tmp_path, monkeypatch):
    whole = charted[0]["charts"][0]
    asked = []

    def made(*_, at_rest, **__):
        asked.append(at_rest)
        return {**whole, "rest": whole["rest"] if at_rest else []}

    monkeypatch.setattr(verb, "chart", made)
    named = verb.named_extractors(["reach-5-4"], 0)
    for at_rest in (False, False, True, True, False):
        entry = verb.charted(named, tmp_path, size=32, seed=0, told=lambda *_: None, at_rest=at_rest)[0]
        assert verb.supply_of(entry) == verb.supply_of(whole)
    assert asked == [False, True]
    assert (tmp_path / api.CHART_PAGE).is_file()


@pytest.mark.parametrize("damage", ["{", "[]", '{"version": 1, "size": 32, "seed": 0, "charts": [{"identity": "x"}]}'])
def test_a_damaged_file_of_charts_is_measured_anew(tmp_path, damage, charted, monkeypatch):
    (tmp_path / verb.CHARTED).write_text(damage)
    monkeypatch.setattr(verb, "chart", lambda *_, **__: charted[0]["charts"][0])
    api.eyechart(["reach-5-4"], out=tmp_path, size=32)
    assert len(json.loads((tmp_path / verb.CHARTED).read_text())["charts"]) == 1


def test_the_page_stands_alone_and_escapes_names(charted, tmp_path):
    content, out = charted
    page = (out / api.CHART_PAGE).read_text()
    assert page.count("<svg") == 2
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org", "")
    named = {**content, "charts": [{**content["charts"][0], "extractor": "<b>&</b>"}]}
    write_eyechart(named, tmp_path / "page.html")
    assert "<b>" not in (tmp_path / "page.html").read_text()
    assert eyechart_table(content)


def test_the_colour_of_a_pixel_and_its_surroundings_is_all_that_the_trivial_answer_sees():
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    changed = images.clone()
    changed[:, :, 20:, 20:] = 0
    before, after = (next(charts.colour_parts(each)).characteristics.levels[0] for each in (images, changed))
    assert torch.equal(before[:, :, :17, :17], after[:, :, :17, :17])
    assert before.shape == (2, 27, 32, 32)


def test_a_stride_that_does_not_divide_the_side_is_read_as_the_model_pads_it():
    pictures = read_pictures(open_data(scenes("geometry", 8, size=(40, 40), seed=0)), positive=[1], size=40)
    assert pad_to(pictures.images.float(), 32).shape[-2:] == (64, 64)
    maps = torch.zeros(8, 1, 2, 2)
    known = Truth(pictures.masks, 1, deal(pictures.names, [1.0] * 8))
    assert probe(parts_of(maps, strides=(32,)), known)[..., 2].sum() == int((pictures.masks == 1).sum())


# ---- bad input -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["unet-4", "--size", "16"], "`size` must be at least 32"),
        (["nonsense_net"], "did you mean"),
        (["unet-4", "unet-4"], "must differ"),
        (["no/such/file.safetensors"], "must be a file"),
        (["unet-4", "--seed", "-1"], "`seed` must be at least 0"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(arguments, said, capsys, tmp_path):
    assert main(["eyechart", *arguments, "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error


def test_no_extractor_is_refused(capsys, tmp_path):
    with pytest.raises(UnplateauError, match="at least one; got none"):
        api.eyechart([], out=tmp_path)
    assert main(["eyechart"]) == 2
    assert "EXTRACTORS" in capsys.readouterr().err.upper()


def test_weights_that_cannot_be_fetched_are_asked_for_by_file_and_place(monkeypatch, tmp_path, capsys):
    import timm

    def offline(*_args, **_more):
        raise OSError("no network")

    monkeypatch.setattr(timm, "create_model", offline)
    assert main(["eyechart", "pretrained:resnet18", "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "model.safetensors of 'timm/resnet18" in error
    assert "'timm/resnet18@FILE'" in error
