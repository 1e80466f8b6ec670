"""Labels that were left out by lot are told from labels that follow something the model does not see."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from unplateau.measures.label_scores import Objects
from unplateau.measures.omissions import FEWEST, draw_lots

PICTURES, OF_EACH, SIDE = 30, 4, 64


def made(labelled: np.ndarray, belief: np.ndarray, place: np.ndarray) -> Objects:
    """Objects four to a picture, covered by the mask where `labelled`."""
    picture = np.repeat(np.arange(len(labelled) // OF_EACH), OF_EACH)
    size = np.full(len(labelled), 50)
    fill = np.full(len(labelled), 0.7)
    return Objects(picture, place[:, 0], place[:, 1], size, belief, np.where(labelled, 0.9, 0.0), fill)


def drawn(generator: np.random.Generator, pictures: int = PICTURES) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    count = pictures * OF_EACH
    return (
        generator.random(count) < 0.5,
        generator.normal(0.5, 0.05, count),
        generator.integers(0, SIDE, (count, 2)),
    )


@pytest.mark.parametrize("seed", range(5))
def test_labels_left_out_by_lot_are_seen_as_such(seed):
    assert draw_lots(made(*drawn(np.random.default_rng(seed))), np.random.default_rng(0)).random


def test_an_object_the_model_doubts_is_its_own_error():
    labelled, belief, place = drawn(np.random.default_rng(0))
    assert not draw_lots(made(labelled, belief + 0.2 * labelled, place), np.random.default_rng(0)).random


@pytest.mark.parametrize("pattern", ["one side of the image", "one side of something in it", "whole pictures"])
def test_labels_that_follow_what_the_model_does_not_see_are_not_called_left_out(pattern):
    generator = np.random.default_rng(1)
    _, belief, place = drawn(generator)
    picture = np.repeat(np.arange(PICTURES), OF_EACH)
    marker, direction = generator.integers(16, 48, PICTURES), generator.choice([-1, 1], PICTURES)
    labelled = {
        "one side of the image": place[:, 1] < SIDE / 2,
        "one side of something in it": (place[:, 1] - marker[picture]) * direction[picture] > 0,
        "whole pictures": generator.random(PICTURES)[picture] < 0.5,
    }[pattern]
    assert not draw_lots(made(labelled, belief, place), np.random.default_rng(0)).random


def test_objects_of_another_shape_are_of_another_kind():
    labelled, belief, place = drawn(np.random.default_rng(0))
    found = made(labelled, belief, place)
    shapes = np.where(labelled, 0.5, 0.78) + np.random.default_rng(1).normal(0, 0.1, len(labelled))
    assert not draw_lots(replace(found, fill=shapes), np.random.default_rng(0)).random


def test_few_objects_and_objects_of_one_kind_say_nothing():
    generator = np.random.default_rng(2)
    few = made(*drawn(generator, pictures=FEWEST // OF_EACH - 1))
    assert not draw_lots(few, generator).random
    labelled, belief, place = drawn(generator)
    assert not draw_lots(made(np.ones_like(labelled), belief, place), generator).random


def test_the_same_generator_says_the_same():
    found = made(*drawn(np.random.default_rng(3)))
    assert draw_lots(found, np.random.default_rng(7)) == draw_lots(found, np.random.default_rng(7))
