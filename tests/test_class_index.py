"""The positive class under another number in part of the files."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from made_run import made_run
from unplateau.checks.check import HEADINGS
from unplateau.checks.class_index import ClassIndexCheck, repaired, suspected
from unplateau.data import open_data, read_pictures
from unplateau.experiments.run import Run
from unplateau.files import plain
from unplateau.types import Sample, Verdict

NATIVE = (48, 64)
POSITIVE, OTHER = 1, 3


def samples(count: int, wrong: int, rng: np.random.Generator) -> list[Sample]:
    """Two discs in each, of the positive id and of a class 2 beside it; in the first `wrong` the positive id is 3."""
    rows, columns = np.mgrid[: NATIVE[0], : NATIVE[1]]
    made = []
    for index in range(count):
        mask = np.zeros(NATIVE, np.uint8)
        for id_, left in ((POSITIVE, 16), (2, 48)):
            top = rng.uniform(14, 34)
            mask[np.hypot(rows - top, columns - left) < 9] = id_
        if index < wrong:
            mask[mask == POSITIVE] = OTHER
        image = rng.integers(0, 99, (*NATIVE, 3), dtype=np.uint8)
        made.append(Sample(f"f{index:02d}", image, mask, f"g{index // 2}"))
    return made


def run_on(made: list[Sample], answered: tuple[int, ...] = (POSITIVE, OTHER), sure: float = 0.8) -> Run:
    """A run whose model answers these ids at `sure` and all else at 0.1, and saw none of the pictures."""
    source = open_data(made)
    pictures = read_pictures(source, positive=[POSITIVE], size=64)
    run = replace(made_run(), source=source, pictures=pictures)
    rng = np.random.default_rng(1)
    truth = np.stack([np.isin(each.mask, answered) for each in made])
    scores = np.where(truth, sure, 0.1) + rng.normal(0, 0.05, truth.shape)
    # Cached properties: what is put there is what every check reads.
    run.__dict__["answers"] = (scores * 200).clip(0, 199).astype(np.uint8)[:, None]
    run.__dict__["unseen"] = np.ones(len(made), bool)
    return run


def judged(run: Run):
    return ClassIndexCheck().judge(ClassIndexCheck().measure(run))


def test_files_with_another_number_are_found_and_named():
    run = run_on(samples(24, 6, np.random.default_rng(0)))
    measured = ClassIndexCheck().measure(run)
    (suspect,) = suspected(measured)
    assert suspect.id == OTHER
    assert suspect.files == tuple(f"f{index:02d}" for index in range(6))
    assert suspect.share == pytest.approx(0.25)
    finding = judged(run)
    assert finding.verdict is Verdict.CONCERN
    assert "id 3" in finding.claim


def test_right_numbers_are_left_alone():
    assert judged(run_on(samples(24, 0, np.random.default_rng(0)))).verdict is Verdict.SOUND


def test_a_class_that_never_occurs_with_it_but_is_not_answered_is_left_alone():
    run = run_on(samples(24, 6, np.random.default_rng(0)), answered=(POSITIVE,))
    finding = judged(run)
    assert finding.verdict is Verdict.SOUND


def test_a_model_that_learnt_nothing_names_nothing():
    run = run_on(samples(24, 6, np.random.default_rng(0)), sure=0.1)
    assert suspected(ClassIndexCheck().measure(run)) == ()
    assert judged(run).verdict is Verdict.UNDETERMINED


def test_answers_that_were_trained_on_do_not_count():
    run = run_on(samples(24, 6, np.random.default_rng(0)))
    run.__dict__["unseen"] = np.zeros(24, bool)
    assert suspected(ClassIndexCheck().measure(run)) == ()


def test_repair_gives_the_masks_that_right_numbers_would():
    wrong, right = (run_on(samples(24, count, np.random.default_rng(0))) for count in (6, 0))
    renumbered = repaired(wrong, ClassIndexCheck().measure(wrong))
    assert not (wrong.pictures.masks == right.pictures.masks).all()
    assert (renumbered.masks == right.pictures.masks).all()
    assert renumbered.names == wrong.pictures.names


def test_several_classes_ask_nothing():
    source = open_data(samples(12, 0, np.random.default_rng(0)))
    run = replace(made_run(), source=source, pictures=read_pictures(source, size=64))
    assert judged(run).verdict is Verdict.SOUND


def test_the_check_explains_itself_and_its_finding_is_plain():
    finding = judged(run_on(samples(24, 6, np.random.default_rng(0))))
    plain(finding)
    assert finding.claim.endswith(".")
    assert all(f"{heading}:" in (ClassIndexCheck.__doc__ or "") for heading in HEADINGS)
