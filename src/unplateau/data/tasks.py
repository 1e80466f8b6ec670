"""What is to be segmented, from the ids that the masks hold."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from unplateau.errors import DataError
from unplateau.types import IGNORE, Task


def find_task(
    ids: Collection[int], positive: Sequence[int] | None = None, names: Mapping[int, str] | None = None
) -> Task:
    """The task that masks with these `ids` pose.

    Binary when `positive` names ids, or when it is None and the ids are 0 and 1; otherwise multi-class over all ids.
    An empty `positive` asks for multi-class whatever the ids. 255 is not counted, with one exception: when 0 and 255
    are the only ids of the whole data set there would be nothing to segment, so 255 is what was drawn in white. The
    task then says so: its `positive` is (255,), and asking for 1 means the same.

    Raises:
        DataError: fewer than two classes, a positive id that no mask holds, or no class left to be negative.
    """
    white = set(ids) == {0, IGNORE}
    classes = tuple(sorted(set(ids) if white else set(ids) - {IGNORE}))
    _refuse_one_class(classes, ids)
    chosen = _chosen(classes, positive, white)
    named = {IGNORE: (names or {}).get(1, "foreground"), **(names or {})} if white else dict(names or {})
    said = {each: named.get(each, f"class {each}") for each in classes}
    scored = (" + ".join(said[each] for each in chosen),) if chosen else tuple(said[each] for each in classes)
    return Task(positive=chosen, classes=classes, names=scored)


def _refuse_one_class(classes: tuple[int, ...], ids: Collection[int]) -> None:
    if len(classes) >= 2:
        return
    found = f"only the id {classes[0]}" if classes else "no counted pixel, only 255"
    besides = ", besides 255 which is not counted" if classes and IGNORE in ids else ""
    raise DataError(
        f"The masks must hold at least two classes, but all of them hold {found}{besides}: check that masks/ holds "
        "the right files and that they were exported with their class ids."
    )


def _chosen(classes: tuple[int, ...], positive: Sequence[int] | None, white: bool) -> tuple[int, ...]:
    if positive is None:
        return (classes[1],) if classes in ((0, 1), (0, IGNORE)) else ()
    wanted = {IGNORE if white and each == 1 else int(each) for each in positive}
    if missing := wanted - set(classes):
        raise DataError(
            f"`positive` must name ids that the masks hold, but no mask holds {_listed(missing)}"
            f"{' (255 is never counted)' if IGNORE in missing else ''}: choose among {_listed(classes)}."
        )
    if wanted == set(classes):
        raise DataError(f"`positive` must leave a class to be negative, but names all of {_listed(classes)}: drop one.")
    return tuple(sorted(wanted))


def _listed(ids: Collection[int]) -> str:
    listed = sorted(ids)
    return ", ".join(str(each) for each in listed[:20]) + (" ..." if len(listed) > 20 else "")


def task_table(task: Task) -> NDArray[np.uint8]:
    """What each of the 256 ids of a source becomes: 0/1 when binary, else the index in `task.classes`, or 255.

    An id that is not in `task.classes` becomes 255: nothing is known of it.
    """
    table = np.full(256, IGNORE, dtype=np.uint8)
    for index, each in enumerate(task.classes):
        table[each] = int(each in task.positive) if task.binary else index
    return table


def task_mask(mask_HW: NDArray[np.uint8], task: Task) -> NDArray[np.uint8]:
    """A source's mask, uint8 (H, W), in the terms of `task`: as the masks of `Pictures`, at any size."""
    return task_table(task)[mask_HW]
