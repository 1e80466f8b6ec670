"""Average precision of labels and boxes, accuracy: against counts by hand and against a plain loop."""

from __future__ import annotations

import math

import numpy as np
import pytest

from unplateau.measures.boxes import OVERLAPS, average_precision, iou, matched
from unplateau.measures.labels import accuracy, commonest
from unplateau.measures.labels import average_precision as label_precision


def rows(*boxes: tuple[float, ...]) -> np.ndarray:
    return np.array(boxes, np.float32).reshape(-1, 5)


ONE = rows((0, 0, 0, 10, 10))


def ap50(found: np.ndarray, scores: list[float], true: np.ndarray, classes: int = 1) -> list[float]:
    return average_precision([matched(found, np.array(scores), true, classes)])[0].tolist()


def test_overlap_of_boxes_by_hand():
    a, b = np.array([[0, 0, 2, 2], [5, 5, 5, 5]]), np.array([[1, 1, 3, 3], [0, 0, 2, 2], [9, 9, 9, 9]])
    assert iou(a, b).tolist() == [[1 / 7, 1.0, 0.0], [0.0, 0.0, 0.0]]
    assert iou(np.zeros((0, 4)), b).shape == (0, 3)


@pytest.mark.parametrize(
    ("found", "scores", "true", "expected"),
    [
        (ONE, [0.9], ONE, 1.0),
        (rows(), [], ONE, 0.0),
        (rows((0, 30, 30, 40, 40)), [0.9], ONE, 0.0),
        # A second box on the same thing is spurious, but comes after all that is to be found.
        (rows((0, 0, 0, 10, 10), (0, 0, 0, 10, 9)), [0.9, 0.8], ONE, 1.0),
        # The spurious one comes first: half of what is said is right, at every recall.
        (rows((0, 30, 30, 40, 40), (0, 0, 0, 10, 10)), [0.9, 0.8], ONE, 0.5),
        # One of two is found: precision 1 up to a recall of .5, which is 51 of the 101 recalls.
        (ONE, [0.9], rows((0, 0, 0, 10, 10), (0, 20, 20, 30, 30)), 51 / 101),
        # Right place, another class.
        (rows((1, 0, 0, 10, 10)), [0.9], ONE, 0.0),
    ],
)
def test_average_precision_of_boxes_by_hand(found, scores, true, expected):
    assert ap50(found, scores, true, classes=2)[0] == pytest.approx(expected)


def test_a_class_without_a_box_has_no_precision():
    assert math.isnan(ap50(ONE, [0.9], ONE, classes=2)[1])


def test_a_looser_box_counts_at_small_overlaps_alone():
    found = rows((0, 0, 0, 10, 7.2))
    at = average_precision([matched(found, np.array([0.5]), ONE, 1)])[:, 0]
    assert at.tolist() == [float(least <= 0.72) for least in OVERLAPS]


def test_a_found_box_takes_the_true_one_it_overlaps_most_and_each_is_taken_once():
    true = rows((0, 0, 0, 10, 10), (0, 2, 0, 12, 10))
    both = rows((0, 2, 0, 12, 10), (0, 1, 0, 11, 10))
    assert matched(both, np.array([0.9, 0.8]), true, 1).hits[0].tolist() == [True, True]
    same = rows((0, 0, 0, 10, 10), (0, 0, 0, 10, 10))
    assert matched(same, np.array([0.9, 0.8]), ONE, 1).hits[0].tolist() == [True, False]


def plain(images: list[tuple[np.ndarray, np.ndarray, np.ndarray]], least: float) -> float:
    """COCO's rules once more, as a plain loop over one class."""
    said, total = [], 0
    for found, scores, true in images:
        free, total = set(range(len(true))), total + len(true)
        for place in np.argsort(-scores, kind="stable"):
            over = {j: float(iou(found[[place], 1:], true[[j], 1:])[0, 0]) for j in free}
            best = max(over, key=over.__getitem__, default=None)
            hit = best is not None and over[best] >= least
            free -= {best} if hit else set()
            said.append((-scores[place], hit))
    said.sort(key=lambda each: each[0])
    right, curve = 0, []
    for place, (_, hit) in enumerate(said, start=1):
        right += hit
        curve.append((right / total, right / place))
    return float(np.mean([max((p for r, p in curve if r >= at), default=0.0) for at in np.linspace(0, 1, 101)]))


@pytest.mark.parametrize("seed", range(4))
def test_average_precision_of_boxes_agrees_with_a_plain_loop(seed):
    rng = np.random.default_rng(seed)
    images = []
    for _ in range(6):
        true = np.zeros((rng.integers(0, 5), 5), np.float32)
        true[:, 1:3] = rng.uniform(0, 40, (len(true), 2))
        true[:, 3:] = true[:, 1:3] + rng.uniform(5, 20, (len(true), 2))
        found = np.concatenate([true, true])[: rng.integers(0, 2 * len(true) + 1)].copy()
        found[:, 1:] += rng.normal(0, 1.5, (len(found), 4))
        images.append((found, rng.random(len(found)), true))
    ours = average_precision([matched(*each, 1) for each in images])
    for place in (0, 3, 7):
        assert ours[place, 0] == pytest.approx(plain(images, float(OVERLAPS[place])), abs=1e-9)


# ---- labels --------------------------------------------------------------------------------------------------

SCORES = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.3, 0.7]])
LABELS = np.array([[1, 0], [0, 1], [0, 1], [1, 0]], np.uint8)


def test_accuracy_by_hand():
    assert accuracy(SCORES, LABELS, exclusive=True) == 0.5
    assert accuracy(SCORES, LABELS, exclusive=False) == 0.5
    unknown = LABELS.copy()
    unknown[1:3, 0] = 255
    assert accuracy(SCORES, unknown, exclusive=False) == pytest.approx(3 / 6)
    assert accuracy(SCORES, unknown, exclusive=True) == 0.5
    assert math.isnan(accuracy(SCORES[:0], LABELS[:0], exclusive=True))


def test_the_commonest_answer_by_hand():
    labels = np.array([[1, 0, 0]] * 6 + [[0, 1, 0]] * 3 + [[0, 0, 1]], np.uint8)
    assert commonest(labels, exclusive=True) == pytest.approx(0.6)
    assert commonest(labels, exclusive=False) == pytest.approx((6 + 7 + 9) / 30)


def test_average_precision_of_labels_by_hand():
    # By score: hit, miss, hit, miss. Precision is 1 for the first half of the recall, 2 of 3 for the rest.
    assert label_precision(SCORES, LABELS)[0] == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    assert math.isnan(label_precision(SCORES, np.zeros((4, 2), np.uint8))[0])


def test_images_of_equal_score_are_taken_together():
    same, labels = np.full((4, 1), 0.5), np.array([[1], [0], [0], [1]], np.uint8)
    assert label_precision(same, labels)[0] == 0.5
    assert label_precision(same, labels[::-1])[0] == 0.5


def test_images_whose_label_is_not_known_take_no_part():
    scores, labels = np.array([[0.9], [0.8], [0.1]]), np.array([[255], [1], [0]], np.uint8)
    assert label_precision(scores, labels)[0] == 1.0
