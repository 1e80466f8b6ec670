"""The page and the summary of a saved diagnosis: complete, self-contained, escaped, the same bytes each time."""

from __future__ import annotations

import base64
import copy
import io
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from unplateau.errors import DataError, OutputError, UnplateauError
from unplateau.reports import reading, summary, wording, write_report
from unplateau.reports.canvas import apart
from unplateau.reports.figures_run import law_unit
from unplateau.reports.gains import gain_scale
from unplateau.types import Interval

SECTIONS = (
    "remedies",
    "scale",
    "waterfall",
    "ladder",
    "families",
    "learning_curve",
    "operating_point",
    "training",
    "findings",
    "worst",
    "reading",
    "data",
    "split",
    "warnings",
)

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)

HOSTILE = "<script>alert(1)</script>\"'&$x_1$\x1b[31m\ud800\u202e"


def around(mean: float, half: float) -> dict[str, float]:
    return {"mean": mean, "low": round(mean - half, 4), "high": round(mean + half, 4)}


def rung(name: str, family: str, reach: float | None, iou: float, **more: Any) -> dict[str, Any]:
    given = {"name": name, "family": family, "reach": reach, "iou": around(iou, 0.022), "step": None}
    return {**given, "control": False, "note": "", **more}


def step(name: str, start: float, gain: float, kind: str, half: float = 0.018) -> dict[str, Any]:
    return {"name": name, "start": start, "gain": around(gain, half), "kind": kind}


def finding(check: str, verdict: str, claim: str, **more: Any) -> dict[str, Any]:
    return {"check": check, "verdict": verdict, "claim": claim, "gain": None, "measured": {}, "examples": [], **more}


def epoch(step: int) -> dict[str, Any]:
    progress = 1 - 2 ** (-step / 90)
    wobble = 0.03 * ((step * step * 7919) % 13 / 13 - 0.5)
    return {
        "step": step,
        "train_loss": 0.72 - 0.55 * progress,
        "val_loss": 0.73 - 0.38 * progress + abs(wobble) + 0.00018 * step,
        "iou": 0.66 * progress + 2 * wobble,
        "best_iou": 0.70 * progress + wobble / 2,
        "best_threshold": 0.4 + wobble,
        "coverage": 0.35 + 0.52 * progress + 4 * wobble,
        "average_precision": None,
        "boundary_iou": 0.3 * progress,
        "class_iou": [0.7 * progress],
        "learning_rate": 1e-3,
        "gradient_norm": 1.1,
    }


PEOPLE: dict[str, Any] = {
    "version": 1,
    "unplateau": "0.1.0",
    "verdict": "The IoU stopped because the task asks what a thing is and the extractor was never taught to say it. "
    "A richer pretraining is predicted to add 0.074 IoU, more than any other single change.",
    "seconds": 431.7,
    "seed": 0,
    "data": {
        "path": "data/human",
        "images": 464,
        "groups": 232,
        "size": [96, 128],
        "native": [480, 640],
        "classes": ["person"],
        "binary": True,
        "positive_share": 0.178,
        "object_diameter": 27.0,
        "split": "By group, 70 % for training, 10 % to choose thresholds and stopping, 20 % to report; "
        "no group is in two parts.",
        "warnings": ["3 pairs of near-duplicate images lie in different groups.", "1 mask is empty: img_0311.png."],
    },
    "baseline": {
        "extractor": "resnet18",
        "decoder": "unet",
        "iou": 0.701,
        "interval": around(0.701, 0.027),
        "threshold": 0.42,
        "iou_at_half": 0.688,
        "best_iou": 0.704,
        "class_iou": {"person": 0.701},
        "epochs": [epoch(step) for step in range(20, 421, 20)],
    },
    "remedies": [
        {
            "name": "richer-pretraining",
            "gain": {"mean": 0.074, "low": 0.046, "high": 0.103},
            "cost": "one training run",
            "evidence": [
                "A frozen pretrained extractor with a light decoder reaches 0.770; the same network with random "
                "weights 0.590.",
                "Semantic demand is 38 % of the attainable IoU.",
            ],
        },
        {
            "name": "more-data",
            "gain": {"mean": 0.031, "low": 0.012, "high": 0.052},
            "cost": "new data",
            "evidence": ["The learning curve still rises: 0.732 is predicted at twice the images."],
        },
        {
            "name": "finer-resolution",
            "gain": {"mean": 0.012, "low": -0.006, "high": 0.031},
            "cost": "more compute",
            "evidence": ["Masks sent through the working grid and back keep an IoU of 0.968."],
        },
        {
            "name": "move-threshold",
            "gain": {"mean": 0.003, "low": 0.0, "high": 0.008},
            "cost": "minutes",
            "evidence": ["The chosen threshold 0.42 loses 0.003 against the best one."],
        },
        {
            "name": "rebalance",
            "gain": {"mean": -0.018, "low": -0.037, "high": 0.002},
            "cost": "one training run",
            "evidence": ["Class weights moved the coverage, not the ranking of the pixels."],
        },
    ],
    "families": {
        "textural": {"mean": 0.15, "low": 0.09, "high": 0.21},
        "geometric": {"mean": 0.09, "low": 0.03, "high": 0.15},
        "semantic": {"mean": 0.38, "low": 0.31, "high": 0.46},
    },
    "waterfall": [
        step("prior", 0.0, 0.33, "family"),
        step("colour", 0.33, 0.08, "family"),
        step("texture", 0.41, 0.07, "family"),
        step("geometry", 0.48, 0.03, "family"),
        step("context", 0.51, 0.08, "family"),
        step("semantics", 0.59, 0.18, "family"),
        step("label ceiling", 0.77, 0.09, "remainder", 0.03),
        step("resolution", 0.86, 0.032, "remainder", 0.004),
        step("shortage of data", 0.892, 0.041, "remainder", 0.02),
        step("unexplained", 0.933, 0.067, "remainder", 0.04),
    ],
    "ladder": [
        rung("prior", "prior", 0, 0.33, note="pixel position only"),
        rung("colour", "textural", 1, 0.41, step=around(0.08, 0.02)),
        rung("local-5", "textural", 5, 0.44, step=around(0.03, 0.02)),
        rung("geometry-14", "geometric", 14, 0.48, step=around(0.04, 0.02)),
        rung("geometry-32", "geometric", 32, 0.51, step=around(0.03, 0.02)),
        rung("context-68", "semantic", 68, 0.55, step=around(0.04, 0.02)),
        rung("context", "semantic", None, 0.59, step=around(0.04, 0.02)),
        rung("orderless", "textural", 14, 0.455, control=True, note="arrangement inside the window is lost"),
        rung("contour", "geometric", 32, 0.462, control=True, note="appearance removed"),
        rung("semantics", "semantic", None, 0.77, step=around(0.18, 0.03), note="resnet18, ImageNet, frozen"),
    ],
    "learning_curve": {
        "points": [
            {"groups": 20, "images": 40, "iou": around(0.571, 0.03)},
            {"groups": 40, "images": 81, "iou": around(0.619, 0.024)},
            {"groups": 81, "images": 162, "iou": around(0.663, 0.019)},
            {"groups": 162, "images": 325, "iou": around(0.701, 0.015)},
        ],
        "predicted": [
            {"factor": 2, "images": 650, "iou": {"mean": 0.732, "low": 0.713, "high": 0.753}},
            {"factor": 4, "images": 1300, "iou": {"mean": 0.758, "low": 0.724, "high": 0.796}},
        ],
        "law": {"ceiling": 0.90, "scale": 0.904, "exponent": 0.262},
    },
    "operating_point": {
        "thresholds": [round(0.02 * index, 2) for index in range(51)],
        "iou": [round(max(0.0, 0.704 - 1.35 * abs(0.02 * index - 0.46) ** 2.2), 4) for index in range(51)],
        "chosen": 0.42,
        "best": 0.46,
        "regret": {"mean": 0.003, "low": 0.0, "high": 0.008},
        "explained": 0.63,
    },
    "scale": [
        {"question": "data", "answer": "yes", "number": "Twice the images: 0.732.", "gain": around(0.031, 0.02)},
        {
            "question": "labels",
            "answer": "undetermined",
            "number": "One annotator a mask; two would agree at 0.86 to 0.94.",
            "gain": None,
        },
        {
            "question": "model",
            "answer": "no",
            "number": "The baseline fits its training part at 0.931.",
            "gain": around(0.004, 0.012),
        },
        {
            "question": "pretraining",
            "answer": "yes",
            "number": "Pretrained 0.770 against 0.590 at equal capacity.",
            "gain": around(0.074, 0.028),
        },
        {"question": "bug", "answer": "no", "number": "None of 8 tests fired.", "gain": None},
    ],
    "findings": [
        finding(
            "curve",
            "sound",
            "Training has converged; twice the steps would add nothing.",
            gain=around(-0.002, 0.006),
            measured={"kind": "converged", "gain_of_twice": around(-0.002, 0.006), "steps": 420},
        ),
        finding(
            "pretraining",
            "concern",
            "The task needs semantics that the extractor does not supply.",
            gain=around(0.074, 0.028),
            measured={
                "supply": {"semantic": 0.41, "geometric": 0.88, "textural": 0.93},
                "demand": {"semantic": around(0.38, 0.07)},
                "candidates": ["resnet18", "dino-s16"],
            },
            examples=["img_0042.png", "img_0198.png"],
        ),
        finding(
            "labels",
            "undetermined",
            "One annotation an image cannot tell doubt from error; label 20 images a second time.",
            measured={"boundary_offsets": [0.31, 0.9, 1.4, 0.2, 0.7, 0.5, 1.1, 0.8, 0.4, 0.6], "masks": 93},
        ),
        finding("mask_shift", "sound", "Masks sit on their images: the best shift is 0 px.", measured={"best": [0, 0]}),
    ],
    "worst": [
        {"name": "img_0198.png", "iou": 0.113, "file": "overlays/0.png"},
        {"name": "img_0042.png", "iou": 0.187, "file": "overlays/1.png"},
        {"name": "img_0377.png", "iou": 0.204, "file": "overlays/gone.png"},
    ],
}

MINIMAL: dict[str, Any] = {
    "version": 1,
    "unplateau": "0.1.0",
    "verdict": "The budget ended before the ladder. Nothing can be said yet.",
    "seconds": None,
    "seed": None,
    "data": {"path": "masks", "images": 12, "groups": None, "size": None, "object_diameter": None, "warnings": None},
    "baseline": {"iou": 0.38, "interval": None, "threshold": None, "epochs": None},
    "remedies": None,
    "families": None,
    "waterfall": [],
    "ladder": None,
    "learning_curve": None,
    "operating_point": None,
    "scale": None,
    "findings": [],
    "worst": None,
}


class Page(HTMLParser):
    """What a browser would make of the page: tags with attributes, ids, visible words."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words += data

    def having(self, attribute: str) -> list[str]:
        return [value or "" for _, attrs in self.tags for name, value in attrs.items() if name == attribute]


def saved(folder: Path, diagnosis: object) -> Path:
    path = folder / "diagnosis.json"
    path.write_text(json.dumps(diagnosis), encoding="utf-8")
    return path


def written(folder: Path, diagnosis: object) -> str:
    return write_report(saved(folder, diagnosis)).read_text(encoding="utf-8")


def written_with_overlays(folder: Path) -> str:
    (folder / "overlays").mkdir()
    for name in ("0.png", "1.png"):
        (folder / "overlays" / name).write_bytes(PIXEL)
    return written(folder, PEOPLE)


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> str:
    return written_with_overlays(tmp_path_factory.mktemp("people"))


@pytest.fixture(scope="module")
def minimal(tmp_path_factory: pytest.TempPathFactory) -> str:
    return written(tmp_path_factory.mktemp("minimal"), MINIMAL)


def every_string(value: Any, words: str) -> Any:
    """The same diagnosis with `words` in place of every free string and in every free key."""
    keep = {"kind", "family", "answer", "question"}
    if isinstance(value, dict):
        return {key: each if key in keep else every_string(each, words) for key, each in value.items()}
    if isinstance(value, list):
        return [every_string(each, words) for each in value]
    return words if isinstance(value, str) else value


# ---- the page ------------------------------------------------------------------------------------------------


def test_sections_stand_in_their_order_on_a_full_and_on_an_empty_page(people: str, minimal: str) -> None:
    for html in (people, minimal):
        ids = [attrs["id"] for tag, attrs in Page(html).tags if tag == "section"]
        assert tuple(ids) == SECTIONS


def test_page_loads_nothing(people: str) -> None:
    page = Page(people)
    assert "http://" not in people
    assert "https://" not in people
    assert not {"link", "script", "iframe", "object", "embed", "base"} & {tag for tag, _ in page.tags}
    assert all(source.startswith("data:image/png;base64,") for source in page.having("src"))
    assert all(target.startswith("#") for name in ("href", "xlink:href") for target in page.having(name))
    assert "@import" not in people


def test_ids_are_unique_and_every_reference_finds_its_own(people: str) -> None:
    page = Page(people)
    ids = page.having("id")
    assert len(ids) == len(set(ids))
    targets = page.having("href") + page.having("xlink:href") + re.findall(r"url\((#[^)]+)\)", people)
    assert targets
    assert {target[1:] for target in targets} <= set(ids)


def test_page_is_small(people: str) -> None:
    assert len(people.encode()) < 300_000


def test_numbers_appear_as_given(people: str) -> None:
    words = Page(people).words
    for number in ("0.701", "[0.674, 0.728]", "+0.074", "[+0.046, +0.103]", "0.732", "0.758", "464", "7 min 12 s"):
        assert number in words
    assert PEOPLE["verdict"] in words


def test_a_threshold_for_masks_at_their_own_size_is_not_taken_for_that_of_the_grid(people: str, tmp_path: Path) -> None:
    native = {**PEOPLE["operating_point"], "chosen": 0.38, "native": True}
    page = written(tmp_path, {**PEOPLE, "operating_point": native})
    assert "of the grid; for masks at their own size 0.38" in page
    assert "IoU at native size against threshold. Chosen threshold 0.38" in page
    assert "their own size" not in people
    assert "native size against" not in people


def test_losses_are_shown_not_clipped(people: str, tmp_path: Path) -> None:
    assert "−0.018" in people
    assert "[−0.037, +0.002]" in people
    lost = {**MINIMAL, **copy.deepcopy({key: PEOPLE[key] for key in ("waterfall", "families")})}
    lost["waterfall"][3]["gain"] = around(-0.05, 0.02)
    lost["families"]["semantic"] = around(-0.04, 0.1)
    html = written(tmp_path, lost)
    assert "−0.050 [−0.070, −0.030]" in html
    assert "−4 % [−14, 6]" in html


def test_figures_and_pictures_have_words_for_those_who_cannot_see_them(people: str) -> None:
    page = Page(people)
    drawn = [attrs for tag, attrs in page.tags if tag == "figure"]
    assert len(drawn) == 6
    assert all(attrs["role"] == "img" and attrs["aria-label"] for attrs in drawn)
    assert all(attrs.get("alt") for tag, attrs in page.tags if tag == "img")
    assert people.count("<table") == people.count("<thead>")


def test_overlays_are_embedded_and_a_lost_one_is_named(people: str) -> None:
    assert len(Page(people).having("src")) == 2
    assert people.count("overlay not found") == 1


def test_same_diagnosis_gives_the_same_bytes(people: str, tmp_path: Path) -> None:
    assert written_with_overlays(tmp_path) == people


def test_empty_sections_say_why(minimal: str) -> None:
    words = Page(minimal).words
    for section, reason in wording.MISSING.items():
        assert reason in words or section == "semantics"
    assert "nan" not in words.lower()
    assert "None" not in words.replace("None.", "")


def test_reason_of_an_undetermined_check_stands_in_its_section(tmp_path: Path) -> None:
    claim = "Six groups are too few to nest; collect twelve."
    html = written(tmp_path, {**MINIMAL, "findings": [finding("learning-curve", "undetermined", claim)]})
    assert html.count(claim) == 2
    assert wording.MISSING["learning_curve"] not in html


def test_no_candidate_and_no_remedy_are_said(tmp_path: Path) -> None:
    bare = {**MINIMAL, "ladder": PEOPLE["ladder"][:-1], "remedies": []}
    html = written(tmp_path, bare)
    assert "no extractor candidate was given" in html
    assert wording.NOTHING in html


@pytest.mark.parametrize("section", [key for key in PEOPLE if key not in ("version", "verdict")])
def test_any_section_may_stand_alone_or_be_missing(section: str, tmp_path: Path) -> None:
    alone = {"version": 1, "verdict": "One section.", section: PEOPLE[section]}
    assert "</html>" in written(tmp_path, alone)
    assert summary(alone)
    assert summary({**PEOPLE, section: None})


def test_hostile_strings_stay_words(tmp_path: Path) -> None:
    html = written(tmp_path, every_string(PEOPLE, HOSTILE))
    page = Page(html)
    assert "script" not in {tag for tag, _ in page.tags}
    assert not any(name.startswith("on") for _, attrs in page.tags for name in attrs)
    assert "\x1b" not in html
    assert "\u202e" not in html
    assert html.count("&lt;script&gt;") > 20


def test_figures_keep_hostile_labels_as_text(tmp_path: Path) -> None:
    named = {**MINIMAL, **copy.deepcopy({key: PEOPLE[key] for key in ("waterfall", "ladder")})}
    named["waterfall"][0]["name"] = named["ladder"][-1]["name"] = "semantics <b>$\\frac{1}{0}$ 火"
    html = written(tmp_path, named)
    assert "<b>$" not in html
    assert "火" in html


@pytest.mark.parametrize("file", ["../secret.png", "/etc/hostname", "overlays/text.png", "", "a\x00b", "overlays"])
def test_overlay_is_a_png_below_the_diagnosis_or_nothing(file: str, tmp_path: Path) -> None:
    folder = tmp_path / "inside"
    (folder / "overlays").mkdir(parents=True)
    (tmp_path / "secret.png").write_bytes(PIXEL)
    (folder / "overlays" / "text.png").write_text("not a picture")
    html = written(folder, {**MINIMAL, "worst": [{"name": "a", "iou": 0.1, "file": file}]})
    assert not Page(html).having("src")
    assert "overlay not found" in html


def test_numbers_json_cannot_hold_are_absent(tmp_path: Path) -> None:
    path = saved(tmp_path, MINIMAL)
    path.write_text(path.read_text().replace("0.38", "NaN").replace("12", "1e308"))
    assert "nan" not in Page(write_report(path).read_text()).words.lower()


# ---- the file it reads and the file it writes ------------------------------------------------------------------


def test_report_lies_beside_the_diagnosis_or_where_it_is_told(tmp_path: Path) -> None:
    path = saved(tmp_path, MINIMAL)
    assert write_report(path) == tmp_path / "report.html"
    assert write_report(tmp_path) == tmp_path / "report.html"
    elsewhere = tmp_path / "new" / "page.html"
    assert write_report(path, elsewhere) == elsewhere
    assert sorted(each.name for each in elsewhere.parent.iterdir()) == ["page.html"]


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        ("{", "must hold JSON"),
        ("[" * 100_000, "must hold JSON"),
        ("[]", "must be a JSON object"),
        ('{"version": 1}', "must have `verdict`"),
        ('{"verdict": "x"}', "must have `version`"),
        ('{"version": 2, "verdict": "x"}', "Upgrade"),
        ('{"version": "new", "verdict": "x"}', "whole number"),
        ('{"version": 1, "verdict": "x", "ladder": {}}', "`ladder` must be a list"),
        ('{"version": 1, "verdict": "x", "data": 3}', "`data` must be an object"),
        ('{"version": 1, "verdict": "x", "remedies": [1]}', "`remedies` must hold objects"),
        ('{"version": 1, "verdict": "x", "operating_point": {"thresholds": [0.5]}}', "one IoU a threshold"),
    ],
)
def test_a_file_that_is_no_diagnosis_is_refused_in_one_sentence(content: str, rule: str, tmp_path: Path) -> None:
    path = tmp_path / "diagnosis.json"
    path.write_text(content)
    with pytest.raises(DataError) as caught:
        write_report(path)
    assert rule in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "report.html").exists()


def test_missing_and_binary_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnplateauError, match="No such file"):
        write_report(tmp_path / "none.json")
    (tmp_path / "diagnosis.json").write_bytes(PIXEL)
    with pytest.raises(DataError, match="must hold JSON"):
        write_report(tmp_path)


def test_unwritable_output_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    path = saved(tmp_path, MINIMAL)
    (tmp_path / "taken").mkdir()
    before = path.read_bytes()
    with pytest.raises(OutputError, match="must be written"):
        write_report(path, path / "report.html")
    with pytest.raises(OutputError, match=r"must be a file that ends in \.html; .*taken' is a folder"):
        write_report(path, tmp_path / "taken")
    with pytest.raises(OutputError, match=r"must be a file that ends in \.html; .* ends in '\.json'"):
        write_report(path, path)
    assert path.read_bytes() == before
    assert sorted(each.name for each in tmp_path.iterdir()) == ["diagnosis.json", "taken"]


def test_report_never_imports_torch() -> None:
    code = "import sys, unplateau.reports; sys.exit('torch' in sys.modules or 'matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# ---- its pieces ------------------------------------------------------------------------------------------------


def printed(diagnosis: dict[str, Any], width: int = 110) -> str:
    console = Console(width=width, record=True, file=io.StringIO(), color_system=None)
    console.print(summary(diagnosis))
    return console.export_text()


def test_no_share_is_more_than_all_or_less_than_nothing() -> None:
    said = [wording.share_explained(value) for value in (1.16, 0.42, -0.1, 0.0)]
    assert said == ["all", "42 %", "nothing", "nothing"]


def test_summary_says_verdict_remedies_families_and_ladder() -> None:
    words = printed(PEOPLE)
    for each in ("richer-pretraining", "+0.074", "−0.018", "textural", "38 %", "orderless (control)", "whole image"):
        assert each in words
    assert "No remedy was priced" in printed(MINIMAL)
    doubted = {**PEOPLE, "data": {**PEOPLE["data"], "warnings": ["The masks hold only 0 and 255."]}}
    assert "Of the data: The masks hold only 0 and 255." in printed(doubted)
    assert "\x1b" not in printed(every_string(PEOPLE, HOSTILE), 80)


def test_summary_reads_markup_as_text() -> None:
    assert "[red]people[/red]" in printed({**MINIMAL, "verdict": "[red]people[/red]"})


def test_labels_are_moved_apart_no_more_than_needed() -> None:
    assert apart([0.1, 0.5], 0.2) == [0.1, 0.5]
    placed = apart([0.50, 0.51, 0.49, 0.9], 0.1)
    assert placed[3] == 0.9
    assert placed[2] < placed[0] < placed[1]
    assert placed[0] - placed[2] == pytest.approx(0.1)
    assert sum(placed[:3]) == pytest.approx(1.5)


def test_gain_scale_holds_zero_and_every_interval() -> None:
    scale = gain_scale([Interval(0.05, 0.01, 0.09), Interval(-0.02, -0.06, float("nan"))])
    assert scale.at(scale.low) == 0
    assert scale.low < -0.06
    assert scale.high > 0.09
    assert 0 in scale.ticks
    assert 3 <= len(scale.ticks) <= 5
    assert gain_scale([]).ticks


@pytest.mark.parametrize("unit", ["images", "groups"])
def test_law_is_drawn_over_what_it_was_fitted_to(unit: str) -> None:
    curve = copy.deepcopy(PEOPLE["learning_curve"])
    for point in curve["points"]:
        point["iou"] = 0.9 - 0.9 * point[unit] ** -0.3
    curve["law"] = {"ceiling": 0.9, "scale": 0.9, "exponent": 0.3}
    read = reading.parse({**MINIMAL, "learning_curve": curve}).learning_curve
    assert read.law is not None
    assert (law_unit(read, read.law) == 1.0) == (unit == "images")


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (wording.duration(4.2), "4.2 s"),
        (wording.duration(431.7), "7 min 12 s"),
        (wording.duration(7290), "2 h 01 min"),
        (wording.percent(0.013), "1.3 %"),
        (wording.percent(0.38), "38 %"),
        (wording.gain(-0.0184), "−0.018"),
        (wording.full(Interval(0.5, float("nan"), 0.6)), "0.500"),
        (wording.compact(1234567), "1,234,567"),
        (wording.compact(0.00012345), "0.0001234"),
        (wording.size((96, 128)), "96 × 128 px"),
    ],
)
def test_numbers_are_said_as_people_say_them(said: str, words: str) -> None:
    assert said == words


def test_measured_numbers_are_flat_and_cut_short() -> None:
    said = dict(wording.measured({"a_b": {"c": around(0.1, 0.05)}, "many": list(range(20)), "none": None, "ok": True}))
    assert said == {
        "a b · c": "0.1 [0.05, 0.15]",
        "many": "0, 1, 2, 3, 4, 5, 6, 7, … (20 values)",
        "none": "–",
        "ok": "yes",
    }
    assert len(wording.measured({str(index): index for index in range(500)})) == 61
