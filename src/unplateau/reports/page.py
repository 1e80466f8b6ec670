"""The report: a saved diagnosis.json in, one self-contained report.html out."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from unplateau.errors import OutputError
from unplateau.files import write_bytes
from unplateau.reports import figures_run, figures_task, reading, wording
from unplateau.reports.canvas import Drawing
from unplateau.reports.gains import gain_scale
from unplateau.reports.saved import Saved
from unplateau.types import Finding, Verdict

PNG = b"\x89PNG\r\n\x1a\n"

ENDINGS = (".html", ".htm")
"""What a page may be called."""

URGENCY = {Verdict.CONCERN: 0, Verdict.UNDETERMINED: 1, Verdict.SOUND: 2}
"""Order of the findings: what asks for action comes first."""


@dataclass(frozen=True)
class Picture:
    """One of the worst images; `source` is a data URI, empty where the overlay is not to be had."""

    name: str
    iou: float
    source: str


def write_report(diagnosis: Path, out: Path | None = None) -> Path:
    """Write the page of a saved diagnosis, by default report.html beside it, and return where it lies.

    Raises:
        DataError: no diagnosis there, or a damaged one.
        OutputError: `out` is a folder or no name of a page, or cannot be written.
    """
    diagnosis = Path(diagnosis)
    if diagnosis.is_dir():
        diagnosis = diagnosis / "diagnosis.json"
    saved = reading.load(diagnosis)
    out = diagnosis.with_name("report.html") if out is None else Path(out)
    _refuse_no_page(out)
    write_bytes(out, render(saved, diagnosis.parent).encode())
    return out


def _refuse_no_page(out: Path) -> None:
    """A page written over the diagnosis that it shows would be the end of both."""
    if out.is_dir() or out.suffix.lower() not in ENDINGS:
        found = "is a folder" if out.is_dir() else f"ends in {out.suffix!r}"
        raise OutputError(
            f"`out` must be a file that ends in {ENDINGS[0]}; {str(out)!r} {found}. Give another, such as report.html."
        )


def render(saved: Saved, folder: Path) -> str:
    """The page as one string; overlays are read from `folder`."""
    environment = Environment(
        loader=PackageLoader("unplateau.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2").render(
        saved=saved,
        say=wording,
        figures=figures(saved),
        missing=reasons(saved),
        remedy_scale=gain_scale(remedy.gain for remedy in saved.remedies or ()),
        findings=sorted(saved.findings, key=lambda finding: URGENCY[finding.verdict]),
        pictures=[Picture(each.name, each.iou, overlay(folder, each.file)) for each in saved.worst],
        numbers=key_numbers(saved),
        facts=facts(saved),
        law=law_said(saved),
        semantics=any(figures_task.stands_apart(rung) and not rung.control for rung in saved.ladder),
        reach=figures_task.reach_said,
    )


def figures(saved: Saved) -> dict[str, Drawing | None]:
    """Every figure of the page by its section."""
    return {
        "waterfall": figures_task.waterfall(saved),
        "ladder": figures_task.ladder(saved),
        "families": figures_task.families(saved),
        "learning_curve": figures_run.learning_curve(saved),
        "operating_point": figures_run.threshold_curve(saved),
        "training": figures_run.training(saved),
    }


def reasons(saved: Saved) -> dict[str, str]:
    """Why each section may be empty: in the diagnosis' own words where the check of that name could not tell."""
    told = {_key(finding): finding.claim for finding in saved.findings if finding.verdict is Verdict.UNDETERMINED}
    return {section: told.get(section) or standing for section, standing in wording.MISSING.items()}


def key_numbers(saved: Saved) -> list[tuple[str, str, tuple[str, ...]]]:
    """The row below the verdict: label, number, and lines that qualify the number."""
    base, data = saved.baseline, saved.data
    pieces = " + ".join(piece for piece in (base.extractor, base.decoder) if piece)
    return [
        ("Baseline IoU", wording.iou(base.iou.mean), (wording.spread(base.iou), pieces)),
        ("Threshold", wording.iou(base.threshold), (_threshold_said(saved),)),
        _best_remedy(saved),
        ("Images", wording.count(data.images), (_groups_said(data.groups),)),
        ("Time", wording.duration(saved.seconds), (f"seed {saved.seed}" if saved.seed else "",)),
    ]


def _groups_said(groups: float) -> str:
    return f"in {wording.count(groups)} groups" if wording.known(groups) else "groups not known"


def _threshold_said(saved: Saved) -> str:
    half = saved.baseline.iou_at_half
    if not wording.known(saved.baseline.threshold):
        return "the class of the highest score" if saved.data.binary is False else "not known"
    if saved.operating_point.native and saved.operating_point.chosen != saved.baseline.threshold:
        return f"of the grid; for masks at their own size {wording.iou(saved.operating_point.chosen)}"
    return f"at 0.5 the IoU is {wording.iou(half)}" if wording.known(half) else "on the predicted probability"


def _best_remedy(saved: Saved) -> tuple[str, str, tuple[str, ...]]:
    if saved.remedies is None:
        return "First remedy", wording.ABSENT, ("none was priced",)
    if not saved.remedies:
        return "First remedy", "none", ("nothing measured here would lift the IoU",)
    best = saved.remedies[0]
    return "First remedy", wording.gain(best.gain.mean), (wording.spread(best.gain, True), best.name)


def facts(saved: Saved) -> list[tuple[str, str]]:
    """What the diagnosis knew of the data, and what made this page."""
    data, base = saved.data, saved.baseline
    kind = {True: "binary", False: "multi-class", None: wording.ABSENT}[data.binary]
    return [
        ("Path", data.path or wording.ABSENT),
        ("Images", wording.count(data.images)),
        ("Groups", wording.count(data.groups)),
        ("Native size, height × width", wording.size(data.native)),
        ("Working grid, height × width", wording.size(data.size)),
        ("Task", kind),
        ("Classes", ", ".join(data.classes) or wording.ABSENT),
        ("Positive share of pixels", wording.percent(data.positive_share)),
        ("Object diameter D", f"{wording.compact(data.object_diameter)} px".replace("– px", wording.ABSENT)),
        ("Baseline", " + ".join(filter(None, (base.extractor, base.decoder))) or wording.ABSENT),
        *((f"IoU of {name}", wording.iou(value)) for name, value in base.class_iou),
        ("Seed", saved.seed or wording.ABSENT),
        ("Written by", f"unplateau {saved.unplateau}, layout {saved.version}"),
    ]


def law_said(saved: Saved) -> tuple[str, str, str] | None:
    """The fitted law as what stands before the exponent of n, the exponent, and what n counts."""
    curve = saved.learning_curve
    if curve.law is None or not curve.points:
        return None
    n = "images" if figures_run.law_unit(curve, curve.law) == 1.0 else "groups"
    law = curve.law
    head = f"IoU(n) = {wording.iou(law.ceiling)} {wording.MINUS} {wording.compact(law.scale)} · n"
    return head, wording.compact(-law.exponent), n


def overlay(folder: Path, file: str) -> str:
    """The PNG as a data URI; empty where it is no PNG below `folder`, for a hostile name must not pull in a file."""
    try:
        path = (folder / file).resolve()
        if not file or not path.is_relative_to(folder.resolve()):
            return ""
        content = path.read_bytes()
    except (OSError, ValueError):
        return ""
    return f"data:image/png;base64,{base64.b64encode(content).decode()}" if content.startswith(PNG) else ""


def _key(finding: Finding) -> str:
    return finding.check.replace("-", "_").replace(" ", "_")
