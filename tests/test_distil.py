"""Several teachers become one student: no scale drowns another, the run resumes, and its file is an extractor."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from conftest import write_pairs
from unplateau import api
from unplateau.cli import main
from unplateau.data.unlabelled import Unlabelled
from unplateau.errors import DataError, PieceError, UnplateauError
from unplateau.extractors.catalogue import build_extractor
from unplateau.extractors.fused import moved
from unplateau.extractors.squeezenet import squeezenet
from unplateau.pretraining.course import EXTRACTOR, SERIES, Schooling
from unplateau.training.saved import save_extractor
from unplateau.types import Characteristics, Interval, Level
from unplateau.upgrades import distil
from unplateau.upgrades.distil import Lesson, distil_extractor, kept_lesson
from unplateau.upgrades.hadamard import Moments, hadamard, levelling, standard
from unplateau.upgrades.imitation import Translation, Variance, heard, misunderstood
from unplateau.upgrades.teachers import Teacher, open_teacher, weights_by_demand
from unplateau.verbs import distil as verb

SMALL = Schooling("distil", steps=6, batch=4, evaluations=3)


def pool(count: int = 16, side: int = 32) -> Unlabelled:
    """Blocks of random colour."""
    generator = torch.Generator().manual_seed(0)
    blocks = torch.randint(0, 256, (count, 3, side // 8, side // 8), generator=generator)
    images = blocks.repeat_interleave(8, 2).repeat_interleave(8, 3).to(torch.uint8)
    return Unlabelled(images, tuple(f"b{index}.png" for index in range(count)), count)


def made(folder: Path, name: str, scale: float = 1.0, seed: int = 0) -> Path:
    """A file of weights: an extractor whose features are `scale` times as large as they would be."""
    torch.manual_seed(seed)
    extractor = build_extractor(name)
    with torch.no_grad():
        (extractor.up[0] if len(extractor.up) else extractor.stem)[-2].weight.mul_(scale)
    path = folder / f"{name}-{scale:g}-{seed}.safetensors"
    save_extractor(extractor, path)
    return path


def taught(folder: Path, teachers: list[Path], schooling: Schooling = SMALL, student: str = "reach-9-4", told=None):
    opened = tuple(open_teacher(each) for each in teachers)
    return distil_extractor(
        pool(),
        teachers=opened,
        weights=(1.0,) * len(opened),
        student=student,
        schooling=schooling,
        seed=0,
        folder=folder,
        told=told or (lambda *_: None),
    )


def same(one: Path, other: Path) -> bool:
    first, second = load_file(one / EXTRACTOR), load_file(other / EXTRACTOR)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


# ---- standard features ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [1, 2, 4, 12, 16, 20, 28, 36, 64, 320, 384, 512, 576])
def test_a_hadamard_matrix_has_orthogonal_rows_of_ones(order):
    found = hadamard(order)
    assert torch.equal(found.abs(), torch.ones(order, order, dtype=torch.float64))
    assert torch.equal(found @ found.T, order * torch.eye(order, dtype=torch.float64))


@pytest.mark.parametrize("channels", [3, 6, 8, 13, 24])
def test_every_channel_gets_the_mean_variance_by_a_rotation_alone(channels):
    values = torch.rand(channels, generator=torch.Generator().manual_seed(1), dtype=torch.float64) ** 4
    turn = levelling(values)
    assert torch.allclose(turn @ turn.T, torch.eye(channels, dtype=torch.float64))
    assert torch.allclose((turn @ torch.diag(values) @ turn.T).diagonal(), values.mean())


@pytest.mark.parametrize("channels", [5, 16])
@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_standard_features_have_one_variance_in_every_channel_and_distances_keep_their_ratios(channels, scale):
    generator = torch.Generator().manual_seed(2)
    mixing = torch.randn(channels, channels, generator=generator) * torch.logspace(-2, 1, channels)
    maps = scale * (torch.einsum("ij,bjhw->bihw", mixing, torch.randn(4, channels, 12, 9, generator=generator)) + 3)
    made_standard = standard(Moments.of(maps[:2]) + Moments.of(maps[2:])).of(maps)
    rows = made_standard.movedim(1, -1).flatten(0, -2)
    assert torch.allclose(rows.mean(0), torch.zeros(channels), atol=1e-3)
    assert torch.allclose(rows.var(0, unbiased=False), torch.ones(channels), rtol=1e-3)
    before = torch.pdist(maps.movedim(1, -1).flatten(0, -2)[:20])
    assert torch.allclose(torch.pdist(rows[:20]) / before, (torch.pdist(rows[:20]) / before).mean(), rtol=1e-3)


def test_a_level_that_says_the_same_everywhere_asks_for_nothing():
    rule = standard(Moments.of(torch.full((2, 4, 3, 3), 7.0)))
    assert torch.equal(rule.of(torch.full((1, 4, 2, 2), 7.0)), torch.zeros(1, 4, 2, 2))
    assert math.isnan(Variance.of(torch.zeros(1, 4, 2, 2), torch.zeros(1, 4, 2, 2)).explained)


# ---- the loss ------------------------------------------------------------------------------------------------


def test_the_loss_is_half_cosine_and_half_smooth_l1():
    meant = torch.tensor([3.0, 4.0]).reshape(1, 2, 1, 1)
    assert misunderstood((meant,), (meant,)).item() == pytest.approx(0, abs=1e-6)
    assert misunderstood((2 * meant,), (meant,)).item() == pytest.approx(0.5 * (2.5 + 3.5) / 2)
    turned = torch.tensor([-4.0, 3.0]).reshape(1, 2, 1, 1)
    assert misunderstood((turned,), (meant,)).item() == pytest.approx(0.5 + 0.5 * (6.5 + 0.5) / 2)
    assert misunderstood((meant[:, :1] + 3,), (meant[:, :1],)).item() == pytest.approx(2.5)


def test_the_worst_understood_teacher_is_always_heard_and_the_others_every_second_time():
    losses = torch.tensor([[1.0, 0.5, 0.25]]).expand(4000, 3)
    mean = heard(losses, torch.ones(3), torch.Generator().manual_seed(0)).item()
    assert mean == pytest.approx(1 + 0.75 / 2, abs=0.03)


def test_a_teacher_of_no_weight_is_not_the_one_that_is_always_heard():
    losses = torch.tensor([[9.0, 0.5]]).expand(4000, 2)
    assert heard(losses, torch.tensor([0.0, 1.0]), torch.Generator().manual_seed(0)).item() == pytest.approx(0.5)


def test_explained_variance_is_one_for_the_same_and_nothing_for_the_mean():
    meant = torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    parts = [Variance.of(each, each) for each in meant.split(2)]
    assert (parts[0] + parts[1]).explained == pytest.approx(1)
    mean = meant.mean((0, 2, 3), keepdim=True).expand_as(meant)
    assert Variance.of(mean, meant).explained == pytest.approx(0, abs=1e-6)
    assert Variance.of(-meant, meant).explained < -1


@pytest.mark.parametrize("own", [1, 2, 8, 16, 32])
@pytest.mark.parametrize("stride", [1, 4, 14, 16])
def test_every_level_can_be_translated_to_every_grid(own, stride):
    translate = Translation((Level(4, own),), Level(6, stride))
    rows, columns = 64 // stride, 96 // stride
    found = translate(Characteristics((torch.rand(2, 4, 64 // own, 96 // own),), (own,)), rows, columns)
    assert found.shape == (2, 6, rows, columns)


# ---- how much a teacher counts -------------------------------------------------------------------------------


def test_teachers_count_by_what_they_supply_of_what_is_demanded():
    demand = {"semantic": 0.8, "textural": 0.2}
    weights = weights_by_demand(demand, [{"semantic": 0.9, "textural": 0.1}, {"textural": 0.9}])
    assert sum(weights) == pytest.approx(2)
    assert weights[0] > 3 * weights[1] > 0
    assert weights_by_demand(demand, [{"geometric": 1.0}, {}]) == (1.0, 1.0)


def test_no_teacher_drowns_another_by_its_scale(tmp_path):
    """The same two teachers, one of them a thousand times as loud: what is learnt stays the same."""
    quiet = [made(tmp_path, "reach-9-4", 1.0, 1), made(tmp_path, "reach-5-4", 1.0, 2)]
    loud = [made(tmp_path, "reach-9-4", 1e3, 1), quiet[1]]
    first = taught(tmp_path / "quiet", quiet)[-1].explained
    second = taught(tmp_path / "loud", loud)[-1].explained
    assert first == pytest.approx(second, abs=0.02)


# ---- the run -------------------------------------------------------------------------------------------------


def test_a_student_comes_to_explain_what_each_of_its_teachers_says(tmp_path):
    teachers = [made(tmp_path, "reach-9-4", 1.0, 1), made(tmp_path, "reach-5-4", 10.0, 2)]
    schooling = Schooling("distil", steps=40, batch=8, evaluations=2, learning_rate=1e-2)
    series = taught(tmp_path / "out", teachers, schooling)
    assert all(last > first + 0.25 for first, last in zip(series[0].explained, series[-1].explained, strict=True))
    assert series[-1].explained[1] > 0.6
    assert series[-1].loss < series[1].loss


def test_the_student_that_explains_most_is_kept(tmp_path, monkeypatch):
    kept: list[str] = []
    monkeypatch.setattr(distil, "save_extractor", lambda student, path: kept.append(student.architecture))
    found = iter([(0.9,), (0.3,), (0.5,), (0.4,)])
    monkeypatch.setattr(distil._Run, "_explained", lambda run, student: next(found))
    series = taught(tmp_path, [made(tmp_path, "reach-5-4")])
    assert (kept_lesson(series, (1.0,)).step, len(kept)) == (4, 2)
    saved = json.loads((tmp_path / SERIES).read_text())
    assert saved["kept_step"] == 4
    assert [each["explained"] for each in saved["series"]] == [[0.9], [0.3], [0.5], [0.4]]
    several = (Lesson(0, 0.0, (1, 1)), Lesson(1, 0.0, (0.9, 0.1)), Lesson(2, 0.0, (0.2, 0.7)))
    assert [kept_lesson(several, weights).step for weights in ((1.5, 0.5), (0.5, 1.5))] == [1, 2]


def test_an_interrupted_distillation_ends_as_an_unbroken_one(tmp_path):
    teachers = [made(tmp_path, "reach-5-4")]
    done: list[int] = []

    def stop_at_five(step: int, *_: object) -> None:
        done.append(step)
        if len(done) == 5:
            raise KeyboardInterrupt

    unbroken = taught(tmp_path / "unbroken", teachers)
    with pytest.raises(KeyboardInterrupt):
        taught(tmp_path / "broken", teachers, told=stop_at_five)
    series = taught(tmp_path / "broken", teachers, told=stop_at_five)
    assert done == [1, 2, 3, 4, 5, 5, 6]
    assert str(series) == str(unbroken)
    assert same(tmp_path / "broken", tmp_path / "unbroken")
    assert str(taught(tmp_path / "broken", teachers, told=lambda *_: pytest.fail("a step was made"))) == str(series)


def test_other_weights_under_the_same_name_are_another_question(tmp_path):
    path = made(tmp_path, "reach-5-4")
    taught(tmp_path / "out", [path])
    made(tmp_path, "reach-5-4", seed=1).replace(path)
    done: list[int] = []
    taught(tmp_path / "out", [path], told=lambda step, *_: done.append(step))
    assert done[0] == 1


def test_a_damaged_state_is_named(tmp_path):
    teachers = [made(tmp_path, "reach-5-4")]
    taught(tmp_path / "out", teachers)
    state = next((tmp_path / "out" / "state").iterdir())
    state.write_bytes(state.read_bytes()[:100])
    with pytest.raises(UnplateauError, match=r"whole state of an interrupted distillation.*Delete it"):
        taught(tmp_path / "out", teachers)


def test_a_teacher_whose_stride_is_no_power_of_two_teaches_on_its_own_grid(tmp_path):
    torch.manual_seed(0)
    extractor = build_extractor("timm/vit_small_patch14_dinov2:0")
    teacher = Teacher("dino", extractor, extractor.gives, None)
    assert teacher(torch.rand(1, 3, 32, 48)).maps[0].shape == (1, 384, 2, 3)


def test_what_a_trained_model_answers_is_taught_beside_its_characteristics(tmp_path):
    folder, model = write_pairs(tmp_path / "tiny"), tmp_path / "model"
    weights = tmp_path / "s.safetensors"
    torch.manual_seed(0)
    save_file(squeezenet().state_dict(), weights)
    api.train(folder, extractor=f"fused(reach-5-4 + {weights})", decoder="linear", out=model, size=32, steps=2)
    teacher = open_teacher(model)
    assert teacher.levels == (*(Level(32, 2**power) for power in range(5)), Level(1, 1))
    assert [tuple(maps.shape) for maps in teacher(torch.rand(1, 3, 32, 48)).maps][-1] == (1, 1, 32, 48)
    weights.unlink()  # a model is whole without the files that it began with
    kept = api.distil(folder, teachers=[model], student="reach-5-4", out=tmp_path / "out", size=32, steps=2)
    assert build_extractor(kept["extractor"]).architecture == "reach-5-4"


# ---- the verb ------------------------------------------------------------------------------------------------


def test_the_command_distils_and_its_file_is_an_extractor_for_train(tmp_path, capsys):
    folder, out = write_pairs(tmp_path / "tiny"), tmp_path / "out"
    one, two = made(tmp_path, "reach-9-4"), made(tmp_path, "reach-5-4")
    said = ["distil", str(folder), "--teachers", str(one), str(two), "--student", "unet-4", "--size", "32"]
    assert main([*said, "--steps", "4", "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    assert shown.count("of its variance explained, weight 1.00") == 2
    file = str(out / EXTRACTOR)
    assert file in shown
    trained = ["train", str(folder), "--extractor", file, "--size", "32", "--steps", "2", "--out", str(tmp_path / "m")]
    assert main(trained) == 0


def test_a_student_may_begin_with_a_teachers_own_weights_and_learns_on_in_the_fine_tuning(tmp_path, monkeypatch):
    folder, weights, model, out = (tmp_path / name for name in ("tiny", "s.safetensors", "model", "out"))
    write_pairs(folder)
    torch.manual_seed(0)
    save_file(squeezenet().state_dict(), weights)
    rates: list[float] = []
    rate = Schooling.rate
    monkeypatch.setattr(Schooling, "rate", lambda said, step: rates.append(said.learning_rate) or rate(said, step))
    api.train(folder, extractor=f"fused(reach-5-4 + {weights})", decoder="linear", out=model, size=32, steps=2)
    kept = api.distil(folder, teachers=[model], student=weights, out=out, size=32, steps=2)
    assert set(rates) == {distil.GENTLE} != {distil.RATE}
    api.train(
        folder, extractor=kept["extractor"], decoder="linear", teacher=model, out=tmp_path / "m", size=32, steps=2
    )
    begun, student, tuned = (
        load_file(path) for path in (weights, out / EXTRACTOR, tmp_path / "m" / "model.safetensors")
    )
    name = "features.3.squeeze.weight"
    assert not torch.equal(begun[name], student[name])
    assert not torch.equal(student[name], tuned[f"extractor.{name}"])


@pytest.mark.parametrize(("own", "stride"), [(16, 1), (8, 2), (32, 16), (14, 4), (6, 4)])
def test_maps_moved_to_a_finer_grid_stay_where_they_were_in_the_image(own, stride):
    """A ramp along the image, read at the middle of each cell, is that ramp at the middle of each finer cell."""
    cells, wanted = 8, 8 * own // stride
    ramp = ((torch.arange(cells) + 0.5) * own).expand(1, 1, cells, cells)
    found = moved(ramp, own, stride, (wanted, wanted))[0, 0, 0]
    places = (torch.arange(wanted) + 0.5) * stride
    assert torch.allclose(found, places.clamp(own / 2, (cells - 0.5) * own), atol=1e-3)


def chart(name: str, **acuity: float) -> dict[str, object]:
    rest = [{"family": family, "acuity": {"mean": mean, "low": 0, "high": 1}} for family, mean in acuity.items()]
    return {"extractor": name, "rest": rest}


def test_a_diagnosis_weighs_the_teachers_by_their_eye_chart(tmp_path, monkeypatch):
    class Diagnosed:
        families = (("semantic", Interval(0.9, 0.8, 1.0)), ("textural", Interval(math.nan, 0, 1)))

    monkeypatch.setattr(verb, "load_diagnosis", lambda path: Diagnosed)
    charts = [chart("a", semantic=0.6), chart("c"), chart("b", semantic=0.2, textural=1.0)]
    (tmp_path / verb.EYECHART).write_text(json.dumps({"charts": charts}))
    assert verb._weights("d.json", tmp_path, ("a", "b")) == pytest.approx((1.5, 0.5))
    assert verb._weights("d.json", None, ("a", "b")) == verb._weights(None, None, ("a", "b")) == (1.0, 1.0)
    with pytest.raises(UnplateauError, match="`eyechart` must hold a chart of each teacher; it holds none of 'd'"):
        verb._weights("d.json", tmp_path / verb.EYECHART, ("a", "d"))


@pytest.mark.parametrize(
    ("given", "error", "says"),
    [
        ({"teachers": []}, UnplateauError, "`teachers` must name at least one; got none"),
        ({"teachers": ["FILE", "FILE"]}, UnplateauError, "`teachers` must differ"),
        ({"teachers": ["resnet18"]}, PieceError, r"must bring weights; 'resnet18'.*'pretrained:resnet18'"),
        ({"teachers": ["unet-8"]}, PieceError, r"'unet-8' names .* ones\. Give a file of weights, or the folder"),
        ({"teachers": ["fused(unet + FILE)"]}, PieceError, "has learnt nothing yet"),
        ({"teachers": ["FOLDER"]}, PieceError, r"must be one that `train` wrote; .* holds no model.json"),
        ({"teachers": ["no.safetensors"]}, PieceError, "nothing is at 'no.safetensors'"),
        ({"student": "unett"}, PieceError, "did you mean 'unet'"),
        ({"steps": 0}, UnplateauError, "`steps` must be at least 1"),
        ({"diagnosis": "no.json"}, DataError, r"no\.json"),
        ({"eyechart": "a.json"}, UnplateauError, "give its diagnosis too"),
    ],
)
def test_bad_input_is_refused_in_one_sentence_before_any_image_is_read(given, error, says, tmp_path):
    file = made(tmp_path, "reach-5-4")
    values = {"teachers": [str(file)], "out": tmp_path / "out", **given}
    values["teachers"] = [
        each.replace("FILE", str(file)).replace("FOLDER", str(tmp_path)) for each in values["teachers"]
    ]
    with pytest.raises(error, match=says):
        api.distil(tmp_path / "no images here", **values)


@pytest.mark.parametrize("content", ["{}", "nonsense", '{"charts": [{"extractor": "a"}]}'])
def test_a_damaged_eye_chart_is_named(content, tmp_path):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(DataError, match=r"a\.json' must be an eye chart; .*Measure the teachers again"):
        verb._supplies(tmp_path / "a.json")


def test_a_loss_that_is_no_number_names_step_and_images(tmp_path, monkeypatch):
    monkeypatch.setattr(distil, "heard", lambda losses, *_: losses.sum() * Tensor([math.nan])[0])
    with pytest.raises(UnplateauError, match=r"not at step 1, on b\d+\.png"):
        taught(tmp_path / "out", [made(tmp_path, "reach-5-4")])


def test_a_teacher_that_gives_no_numbers_is_named(tmp_path):
    path = made(tmp_path, "reach-5-4", scale=math.nan)
    with pytest.raises(UnplateauError, match=r"must give finite numbers; .*reach-5-4-nan"):
        taught(tmp_path / "out", [path])
