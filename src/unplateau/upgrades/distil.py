"""Several teachers into one student: it learns from images without masks to say what each of them says."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from unplateau.data.unlabelled import Unlabelled
from unplateau.extractors.base import AbstractExtractor
from unplateau.extractors.catalogue import brings_weights, build_extractor
from unplateau.files import write_json
from unplateau.pretraining.course import (
    EXTRACTOR,
    SERIES,
    STATE,
    AbstractRun,
    Course,
    Schooling,
    Told,
    finish,
    leads,
    mean_loss,
)
from unplateau.pretraining.state import mark_of, read_facts, write_facts
from unplateau.pretraining.views import Look, views
from unplateau.training.batches import step_generator
from unplateau.training.saved import save_extractor
from unplateau.upgrades.imitation import Pupil, Variance, heard, misunderstood
from unplateau.upgrades.teachers import Teacher, standards

# Student and teacher see the same view, so the more views the better ("a good teacher is patient and consistent",
# arXiv 2106.05237). No smaller than half of the image: what needs the whole scene must be there to be imitated.
LOOK = Look(scale=(0.5, 1.0), contrast=0.2, brightness=0.1, colour=0.04, grey=0.0)

RATE, GENTLE = 4e-3, 5e-4
"""Learning rate: higher than without teachers, whose targets do not move; and of a student that brings weights, which
at that rate would lose what it brings."""

MEASURED = 64
"""Images on which a teacher's standards are measured."""

BATCH = 8
"""Images looked at together where nothing is learnt."""

Targets = tuple[tuple[Tensor, ...], ...]
"""For each teacher a standard map (B, C, h, w) of each of its levels."""


@dataclass(frozen=True)
class Lesson:
    """One evaluation: step, mean loss since the last one, and the share of each teacher's variance on held-out images
    that the student explains: 1 is all of it, 0 what a constant would, below 0 worse.
    """

    step: int
    loss: float
    explained: tuple[float, ...]


@dataclass(frozen=True)
class Progress:
    """Where a run is: steps done, losses since the last evaluation, the evaluations."""

    step: int
    losses: tuple[float, ...]
    series: tuple[Lesson, ...]


def distil_extractor(
    pool: Unlabelled,
    *,
    teachers: tuple[Teacher, ...],
    weights: tuple[float, ...],
    student: str,
    schooling: Schooling,
    seed: int,
    folder: Path,
    told: Told,
) -> tuple[Lesson, ...]:
    """Distil the teachers into `student` and keep in `folder` the one that explained most; the series of evaluations.

    A call with the same arguments on the same folder goes on where the last one stopped.

    Raises:
        UnplateauError: the loss is no longer finite, or the state in `folder` cannot be read.
        PieceError: no such student, or a checkpoint that does not fit.
        OutputError: `folder` cannot be written.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        pupil = Pupil(build_extractor(student), tuple(teacher.levels for teacher in teachers))
    mark = mark_of(pool, f"{student} {[each.digest() for each in teachers]} {weights} {schooling} {seed}")
    stride = _common_stride(pupil.student, teachers)
    course = Course(pool, pupil, schooling, seed, what="distillation", stride=stride)
    run = _Run(course, pupil, teachers, weights, folder, folder / STATE / f"{mark}.pt")
    finish(run, schooling, told)
    return run.progress.series


@final
class _Run(AbstractRun):
    """A distillation under way."""

    def __init__(
        self,
        course: Course,
        pupil: Pupil,
        teachers: tuple[Teacher, ...],
        weights: tuple[float, ...],
        folder: Path,
        saved: Path,
    ) -> None:
        self.course, self.pupil, self.teachers, self.weights = course, pupil, teachers, weights
        self.folder, self.saved = folder, saved
        for teacher in teachers:
            teacher.to(course.device).to(memory_format=torch.channels_last)
        measured = [course.images(each) for each in course.some(MEASURED).split(BATCH)]
        self.standards = tuple(standards(teacher, measured) for teacher in teachers)
        self.progress = Progress(step=0, losses=(), series=())

    @property
    def step(self) -> int:
        """See `AbstractRun`."""
        return self.progress.step

    def resume(self) -> bool:
        """See `AbstractRun`."""
        found = read_facts(self.saved, self.pupil, self.course.optimizer, _progress, what="distillation")
        self.progress = found or self.progress
        return found is not None

    def advance(self) -> None:
        """See `AbstractRun`."""
        step, drawn = self.progress.step, self.course.drawn(self.progress.step)
        generator = step_generator(self.course.seed, step)
        whole = self.course.images(drawn)
        seen = views(whole, (whole.shape[-2], whole.shape[-1]), LOOK, generator).images
        seen = seen.contiguous(memory_format=torch.channels_last)
        self.pupil.train()
        targets = self._targets(seen)
        pairs = zip(self.pupil(seen, targets), targets, strict=True)
        losses = torch.stack([misunderstood(said, meant) for said, meant in pairs], dim=1)
        loss = heard(losses, torch.tensor(self.weights, device=losses.device), generator)
        advice = "Look for broken images among these, or take another student."
        told = self.course.descend(step, loss, drawn, advice)
        self.progress = Progress(step + 1, (*self.progress.losses, told), self.progress.series)

    def evaluate(self) -> None:
        """See `AbstractRun`; what is measured is how much is explained."""
        student = self.course.calibrated(self.pupil.student, MEASURED)
        lesson = Lesson(self.progress.step, mean_loss(self.progress.losses), self._explained(student))
        self.progress = Progress(self.progress.step, (), (*self.progress.series, lesson))
        if leads([score(each, self.weights) for each in self.progress.series]):
            save_extractor(student, self.folder / EXTRACTOR)
        self._write_series()
        facts = {
            "step": lesson.step,
            "losses": [],
            "series": [asdict(each) for each in self.progress.series],
        }
        write_facts(facts, self.saved, self.pupil, self.course.optimizer)

    def _write_series(self) -> None:
        scored = self.progress.series[1:]
        content = {
            "kept_step": kept_lesson(self.progress.series, self.weights).step if scored else None,
            "teachers": [
                {"name": teacher.name, "weight": weight}
                for teacher, weight in zip(self.teachers, self.weights, strict=True)
            ],
            "series": self.progress.series,
        }
        write_json(self.folder / SERIES, content)

    def _explained(self, student: AbstractExtractor) -> tuple[float, ...]:
        """The share of each teacher's variance on the held-out images, mean over its levels."""
        self.pupil.eval()
        sums: list[list[Variance]] = []
        with torch.inference_mode():
            for batch in self.course.held.split(BATCH):
                images = self.course.images(batch)
                targets = self._targets(images)
                said = self.pupil.said(student(images), targets)
                found = [
                    [Variance.of(*pair) for pair in zip(own, meant, strict=True)]
                    for own, meant in zip(said, targets, strict=True)
                ]
                sums = _added(sums, found) if sums else found
        return tuple(_mean([each.explained for each in levels]) for levels in sums)

    def _targets(self, images: Tensor) -> Targets:
        return tuple(
            tuple(rule.of(maps) for rule, maps in zip(rules, teacher(images).maps, strict=True))
            for teacher, rules in zip(self.teachers, self.standards, strict=True)
        )


def rate_of(student: str) -> float:
    """The learning rate of a student by that name."""
    return GENTLE if brings_weights(student) else RATE


def score(lesson: Lesson, weights: tuple[float, ...]) -> float:
    """What evaluations are compared by: explained variance, each teacher counting as much as it did in the loss."""
    return sum(each * weight for each, weight in zip(lesson.explained, weights, strict=True)) / sum(weights)


def kept_lesson(series: tuple[Lesson, ...], weights: tuple[float, ...]) -> Lesson:
    """The evaluation whose student was kept: the best after the start, the first of equals."""
    return max(series[1:], key=lambda lesson: (score(lesson, weights), -lesson.step))


def _progress(facts: dict[str, Any]) -> Progress:
    series = tuple(Lesson(each["step"], each["loss"], tuple(each["explained"])) for each in facts["series"])
    return Progress(int(facts["step"]), tuple(facts["losses"]), series)


def _common_stride(student: AbstractExtractor, teachers: tuple[Teacher, ...]) -> int:
    """The least number that the student's strides and the teachers' powers of two divide.

    A teacher of another stride, such as 14, pads for itself.
    """
    strides = [level.stride for level in student.gives]
    strides += [
        level.stride for teacher in teachers for level in teacher.levels if level.stride & level.stride - 1 == 0
    ]
    return math.lcm(*strides)


def _added(one: list[list[Variance]], other: list[list[Variance]]) -> list[list[Variance]]:
    return [[a + b for a, b in zip(own, more, strict=True)] for own, more in zip(one, other, strict=True)]


def _mean(values: list[float]) -> float:
    """Mean of those that are numbers: a level that says the same everywhere has no variance to explain."""
    finite = [each for each in values if math.isfinite(each)]
    return sum(finite) / len(finite) if finite else 0.0
