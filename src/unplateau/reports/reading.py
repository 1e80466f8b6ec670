"""From diagnosis.json to frozen values: the one place that knows the layout of the file.

The layout is described in docs/diagnosis_json.md. Shapes are checked (a list must be a list); a missing number
becomes nan and a missing section becomes empty, because a diagnosis that stopped early must still be readable.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from unplateau.errors import DataError
from unplateau.reports.saved import (
    Answer,
    Baseline,
    DataFacts,
    Law,
    LearningCurve,
    OperatingPoint,
    Point,
    Saved,
    Setup,
    Share,
    Worst,
)
from unplateau.types import Epoch, Finding, Interval, Remedy, Rung, Verdict

LAYOUT = 1
"""The newest layout of diagnosis.json that this package reads."""

HUGE = 1e15
"""No measured quantity is as large; one that is must be damage, and no axis could hold it."""

T = TypeVar("T")


def load(path: Path) -> Saved:
    """Read and check a diagnosis.json; every error names the file."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"), parse_constant=lambda _: None)
    except OSError as error:
        raise DataError(
            f"{str(path)!r} must be a readable diagnosis.json; found: {error.strerror}. Run a diagnosis first."
        ) from error
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{str(path)!r} must hold JSON; found: {_brief(error)}. Run the diagnosis again to write it anew."
        ) from error
    try:
        return parse(raw)
    except DataError as error:
        raise DataError(f"{str(path)!r}: {error}") from error


def parse(raw: object) -> Saved:
    """The frozen values of a diagnosis read from JSON."""
    source = _checked(raw)
    remedies = source.get("remedies")
    return Saved(
        version=source["version"],
        unplateau=text(source.get("unplateau")),
        verdict=text(source["verdict"]),
        seconds=number(source.get("seconds")),
        seed=text(source.get("seed")),
        data=_data(record(source, "data")),
        baseline=_baseline(record(source, "baseline")),
        remedies=None if remedies is None else rows(source, "remedies", _remedy),
        families=_families(record(source, "families")),
        waterfall=_drawable(rows(source, "waterfall", _share), lambda share: share.gain.mean),
        ladder=_drawable(rows(source, "ladder", _rung), lambda rung: rung.iou.mean),
        learning_curve=_learning_curve(record(source, "learning_curve")),
        operating_point=_operating_point(record(source, "operating_point")),
        scale=rows(source, "scale", _answer),
        findings=rows(source, "findings", _finding),
        worst=rows(source, "worst", _worst),
        considered=rows(source, "considered", _remedy),
        setup=_setup(record(source, "setup")),
    )


def _checked(raw: object) -> dict[str, Any]:
    if not isinstance(raw, dict):
        raise DataError(f"a diagnosis must be a JSON object; found a {type(raw).__name__}. Give a diagnosis.json.")
    missing = [key for key in ("version", "verdict") if raw.get(key) is None]
    if missing:
        raise DataError(f"a diagnosis must have `{missing[0]}`; found none. Give the diagnosis.json of a diagnosis.")
    version = raw["version"]
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise DataError(f"`version` must be a whole number from 1; found {version!r}. Run the diagnosis again.")
    if version > LAYOUT:
        raise DataError(
            f"`version` must be at most {LAYOUT}; found {version}, from a newer unplateau. Upgrade this one."
        )
    return raw


# ---- atoms ---------------------------------------------------------------------------------------------------


def number(value: object) -> float:
    """A finite number that can be drawn, or nan."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    try:
        found = float(value)
    except OverflowError:
        return math.nan
    return found if abs(found) < HUGE else math.nan


def text(value: object) -> str:
    """Words fit for a page and a terminal: no control characters, no lone surrogates, no direction overrides."""
    words = "" if value is None else str(value)
    return "".join(letter if letter.isprintable() else " " for letter in words).strip()


def interval(value: object) -> Interval:
    """An interval; a bare number has no bounds, and null is all nan."""
    if not isinstance(value, dict):
        return Interval(number(value), math.nan, math.nan)
    return Interval(number(value.get("mean")), number(value.get("low")), number(value.get("high")))


def record(source: dict[str, Any], key: str) -> dict[str, Any]:
    """The object under `key`, {} where null."""
    found = source.get(key)
    if found is not None and not isinstance(found, dict):
        raise DataError(f"`{key}` must be an object or null; found a {type(found).__name__}. Run the diagnosis again.")
    return found or {}


def entries(source: dict[str, Any], key: str) -> list[Any]:
    """The list under `key`, [] where null."""
    found = source.get(key)
    if found is not None and not isinstance(found, list):
        raise DataError(f"`{key}` must be a list or null; found a {type(found).__name__}. Run the diagnosis again.")
    return found or []


def rows(source: dict[str, Any], key: str, read: Callable[[dict[str, Any]], T]) -> tuple[T, ...]:
    """The objects of the list under `key`, each read by `read`."""
    found = entries(source, key)
    for row in found:
        if not isinstance(row, dict):
            raise DataError(f"`{key}` must hold objects; found a {type(row).__name__}. Run the diagnosis again.")
    return tuple(read(row) for row in found)


def texts(source: dict[str, Any], key: str) -> tuple[str, ...]:
    """The strings of the list under `key`; a bare string counts as a list of one."""
    if isinstance(source.get(key), str):
        return (text(source[key]),)
    return tuple(text(each) for each in entries(source, key))


def numbers(source: dict[str, Any], key: str) -> tuple[float, ...]:
    """The numbers of the list under `key`, nan where null."""
    return tuple(number(each) for each in entries(source, key))


def _drawable(found: tuple[T, ...], value: Callable[[T], float]) -> tuple[T, ...]:
    return tuple(each for each in found if not math.isnan(value(each)))


def _brief(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


# ---- sections ------------------------------------------------------------------------------------------------


def _data(raw: dict[str, Any]) -> DataFacts:
    return DataFacts(
        path=text(raw.get("path")),
        images=number(raw.get("images")),
        groups=number(raw.get("groups")),
        size=numbers(raw, "size"),
        native=numbers(raw, "native"),
        classes=texts(raw, "classes"),
        binary=raw.get("binary") if isinstance(raw.get("binary"), bool) else None,
        positive_share=number(raw.get("positive_share")),
        object_diameter=number(raw.get("object_diameter")),
        split=text(raw.get("split")),
        warnings=texts(raw, "warnings"),
    )


def _setup(raw: dict[str, Any]) -> Setup | None:
    """None where there is no recipe: nothing can be trained again by it."""
    recipe = record(raw, "recipe")
    if not recipe:
        return None
    folds, frozen = number(raw.get("folds")), raw.get("frozen") is True
    return Setup(numbers(raw, "positive"), folds, frozen, text(raw.get("candidate")), recipe)


def _baseline(raw: dict[str, Any]) -> Baseline:
    spread = interval(raw.get("interval"))
    given = number(raw.get("iou"))
    return Baseline(
        extractor=text(raw.get("extractor")),
        decoder=text(raw.get("decoder")),
        iou=Interval(spread.mean if math.isnan(given) else given, spread.low, spread.high),
        threshold=number(raw.get("threshold")),
        iou_at_half=number(raw.get("iou_at_half")),
        best_iou=number(raw.get("best_iou")),
        class_iou=tuple((text(name), number(iou)) for name, iou in record(raw, "class_iou").items()),
        epochs=tuple(epoch for epoch in rows(raw, "epochs", _epoch) if epoch.step >= 0),
    )


def _epoch(raw: dict[str, Any]) -> Epoch:
    step = number(raw.get("step"))
    return Epoch(
        step=-1 if math.isnan(step) else int(step),
        train_loss=number(raw.get("train_loss")),
        val_loss=number(raw.get("val_loss")),
        iou=number(raw.get("iou")),
        best_iou=number(raw.get("best_iou")),
        best_threshold=number(raw.get("best_threshold")),
        coverage=number(raw.get("coverage")),
        average_precision=number(raw.get("average_precision")),
        boundary_iou=number(raw.get("boundary_iou")),
        class_iou=numbers(raw, "class_iou"),
        learning_rate=number(raw.get("learning_rate")),
        gradient_norm=number(raw.get("gradient_norm")),
    )


def _remedy(raw: dict[str, Any]) -> Remedy:
    return Remedy(text(raw.get("name")), interval(raw.get("gain")), text(raw.get("cost")), texts(raw, "evidence"))


def _families(raw: dict[str, Any]) -> tuple[tuple[str, Interval], ...]:
    known = [name for name in ("textural", "geometric", "semantic") if name in raw]
    order = known + [name for name in raw if name not in known]
    found = tuple((text(name), interval(raw[name])) for name in order)
    return _drawable(found, lambda pair: pair[1].mean)


def _share(raw: dict[str, Any]) -> Share:
    start = number(raw.get("start"))
    return Share(
        text(raw.get("name")), 0.0 if math.isnan(start) else start, interval(raw.get("gain")), text(raw.get("kind"))
    )


def _rung(raw: dict[str, Any]) -> Rung:
    reach = number(raw.get("reach"))
    return Rung(
        name=text(raw.get("name")),
        family=text(raw.get("family")),
        reach=math.inf if math.isnan(reach) else max(reach, 0.0),
        iou=interval(raw.get("iou")),
        step=None if raw.get("step") is None else interval(raw["step"]),
        control=raw.get("control") is True,
        note=text(raw.get("note")),
    )


def _point(raw: dict[str, Any]) -> Point:
    return Point(
        number(raw.get("images")), number(raw.get("groups")), number(raw.get("factor")), interval(raw.get("iou"))
    )


def _learning_curve(raw: dict[str, Any]) -> LearningCurve:
    law = record(raw, "law")
    terms = tuple(number(law.get(key)) for key in ("ceiling", "scale", "exponent"))
    return LearningCurve(
        points=_on_a_log_axis(rows(raw, "points", _point)),
        predicted=_on_a_log_axis(rows(raw, "predicted", _point)),
        law=None if any(map(math.isnan, terms)) else Law(*terms),
    )


def _on_a_log_axis(points: tuple[Point, ...]) -> tuple[Point, ...]:
    return tuple(point for point in points if point.images > 0 and not math.isnan(point.iou.mean))


def _operating_point(raw: dict[str, Any]) -> OperatingPoint:
    thresholds, iou = numbers(raw, "thresholds"), numbers(raw, "iou")
    if len(thresholds) != len(iou):
        raise DataError(
            f"`operating_point` must hold one IoU a threshold; found {len(thresholds)} and {len(iou)}. "
            "Run the diagnosis again."
        )
    return OperatingPoint(
        thresholds=thresholds,
        iou=iou,
        chosen=number(raw.get("chosen")),
        best=number(raw.get("best")),
        regret=interval(raw.get("regret")),
        explained=number(raw.get("explained")),
        native=raw.get("native") is True,
    )


def _answer(raw: dict[str, Any]) -> Answer:
    return Answer(
        text(raw.get("question")), text(raw.get("answer")), text(raw.get("number")), interval(raw.get("gain"))
    )


def _finding(raw: dict[str, Any]) -> Finding:
    verdict = next((each for each in Verdict if each.value == raw.get("verdict")), Verdict.UNDETERMINED)
    return Finding(
        check=text(raw.get("check")),
        verdict=verdict,
        claim=text(raw.get("claim")),
        gain=None if raw.get("gain") is None else interval(raw["gain"]),
        measured=record(raw, "measured"),
        examples=texts(raw, "examples"),
    )


def _worst(raw: dict[str, Any]) -> Worst:
    return Worst(text(raw.get("name")), number(raw.get("iou")), "" if raw.get("file") is None else str(raw["file"]))
