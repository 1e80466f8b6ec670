"""The frozen values that cross the seams of the package. Nothing here computes, draws or imports torch.

Axes: N images, B images of a batch, C channels or classes, H W pixels, h w cells of a feature map, T thresholds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

IGNORE = 255
"""Class id of a pixel that no loss and no measure may count."""

Size = tuple[int, int]
"""Height and width in pixels."""


# ---- data: X and Y -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sample:
    """One image with its mask, at the size it came in.

    `image` is uint8 (H, W, 3), RGB, 0..255. `mask` is uint8 (H, W): class ids of the source, 255 = not counted.
    `group` names what must not be cut by a split: a video, a patient, a drive.
    """

    name: str
    image: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    group: str
    split: str = ""


KINDS = ("mask", "multi-label", "label", "boxes")
"""What a model may be asked for: a class of each pixel, classes of each pixel that may overlap, classes of the whole
image, or boxes around things."""


@dataclass(frozen=True)
class Task:
    """What is to be found, in the form that `kind` names, one of `KINDS`.

    When `positive` is given, every class id in it is the positive class, all else negative, and a model gives one
    logit; a mask is then binary. When it is empty, `classes` are the ids found in the data, and a model gives one
    logit for each. `names` are what the report calls the scored classes. `exclusive` says that exactly one class
    holds, so that the scores are a softmax; otherwise each holds or not by itself, and has a sigmoid of its own.
    """

    positive: tuple[int, ...]
    classes: tuple[int, ...]
    names: tuple[str, ...]
    kind: str = "mask"
    exclusive: bool = True

    def __repr__(self) -> str:
        """As it was before `kind` existed, for masks: what is kept on disk by this text stays valid."""
        text = f"positive={self.positive!r}, classes={self.classes!r}, names={self.names!r}"
        more = "" if self.kind == "mask" else f", kind={self.kind!r}, exclusive={self.exclusive!r}"
        return f"Task({text}{more})"

    @property
    def binary(self) -> bool:
        """Whether it is a mask of one class and the rest."""
        return self.kind == "mask" and bool(self.positive)

    @property
    def outputs(self) -> int:
        """Logits a model gives a pixel, an image or a candidate box: 1 for a positive class, else one a class."""
        return 1 if self.positive else len(self.classes)


NativeMask = Callable[[str], "NDArray[np.uint8]"]
"""Reads the mask of the image of that name at its own size, in the terms of `Pictures.masks`."""


@dataclass(frozen=True)
class Pictures:
    """A data set at its working size, in memory.

    `images` uint8 (N, 3, H, W), RGB 0..255. `masks` uint8 (N, H, W): 0/1 for a binary task, else the index of the
    class in `task.classes`; 255 = not counted (also where an image was padded). For multi-label masks it is
    (N, C, H, W), 0/1/255 for each class. `splits` holds "train", "val", "test" or "" for each image. `native` is the
    median height and width of the images as they came, and `native_mask` reads a mask at its own size; None where
    there are no masks, or they are not at hand. `white` is the value that was white in images of 16 bits; None where
    there are none.

    Tasks without masks have (N, 0, 0) there, and `targets` instead. For image labels uint8 (N, C): 1 where the image
    has the class, 0 where not, 255 = not known. For boxes float (N, M, 5): the index of the class, then left, top,
    right and bottom edge in pixels of the working grid; rows of class -1 fill up to the M boxes of the fullest image.
    """

    task: Task
    images: Tensor
    masks: Tensor
    names: tuple[str, ...]
    groups: tuple[str, ...]
    splits: tuple[str, ...]
    native: Size
    warnings: tuple[str, ...] = ()
    targets: Tensor | None = None
    native_mask: NativeMask | None = field(default=None, repr=False, compare=False)
    white: int | None = None

    @property
    def truth(self) -> Tensor:
        """What a model is to answer: the targets where there are any, else the masks."""
        return self.masks if self.targets is None else self.targets

    def __len__(self) -> int:
        return len(self.names)

    def take(self, rows: Sequence[int]) -> Pictures:
        """Some of the pictures, in that order."""
        names, groups, splits = (tuple(each[row] for row in rows) for each in (self.names, self.groups, self.splits))
        places = list(rows)
        return replace(
            self,
            images=self.images[places],
            masks=self.masks[places],
            names=names,
            groups=groups,
            splits=splits,
            targets=None if self.targets is None else self.targets[places],
        )

    @property
    def size(self) -> Size:
        """Height and width of the working grid in pixels."""
        return int(self.images.shape[-2]), int(self.images.shape[-1])


@dataclass(frozen=True)
class Fold:
    """Indices into `Pictures`: `fit` trains, `inner` chooses (threshold, stopping, rung), `report` chose nothing."""

    fit: tuple[int, ...]
    inner: tuple[int, ...]
    report: tuple[int, ...]


# ---- the seam between extractor and decoder ------------------------------------------------------------------


@dataclass(frozen=True)
class Level:
    """What one feature map promises: its channels, and input pixels per cell."""

    channels: int
    stride: int


@dataclass(frozen=True)
class Characteristics:
    """What an extractor hands to a decoder: feature maps (B, C_i, H / stride_i, W / stride_i), finest first."""

    levels: tuple[Tensor, ...]
    strides: tuple[int, ...]


@dataclass(frozen=True)
class Prediction:
    """What a decoder hands back, before sigmoid or softmax.

    `logits` are (B, outputs, H, W) of a mask decoder and (B, outputs) of a label decoder.
    """

    logits: Tensor


@dataclass(frozen=True)
class Candidates:
    """What a box decoder hands back: A places in the image, each of which may be the middle of a thing.

    `logits` (B, A, outputs), before sigmoid; `edges` (B, A, 4), how far left, top, right and bottom of the thing lie,
    in cells; `centred` (B, A, 1), logit of how near the place is to its middle; `cells` (A, 4), left, top, right and
    bottom of the cell around each place in pixels; `counts`, how many places each level of the pyramid has.
    """

    logits: Tensor
    edges: Tensor
    centred: Tensor
    cells: Tensor
    counts: tuple[int, ...]


# ---- measurements --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Interval:
    """A measured number with its 90 % interval, in the unit of the number."""

    mean: float
    low: float
    high: float

    def __format__(self, spec: str) -> str:
        spec = spec or ".3f"
        return f"{self.mean:{spec}} [{self.low:{spec}}, {self.high:{spec}}]"

    @property
    def above_zero(self) -> bool:
        """Whether the whole interval lies above zero."""
        return self.low > 0


@dataclass(frozen=True)
class Epoch:
    """One line of a training log: what a diagnosis needs of a moment of training.

    `iou` is at the threshold 0.5 (argmax for multi-class), `best_iou` at the best threshold `best_threshold` of the
    same images; `coverage` is predicted over true positive area at 0.5. nan where a quantity does not exist.
    """

    step: int
    train_loss: float
    val_loss: float
    iou: float
    best_iou: float
    best_threshold: float
    coverage: float
    average_precision: float
    boundary_iou: float
    class_iou: tuple[float, ...]
    learning_rate: float
    gradient_norm: float


@dataclass(frozen=True)
class Rung:
    """One rung of the ladder. `reach` in pixels of the working grid: 0 = position only, inf = the whole image."""

    name: str
    family: str
    reach: float
    iou: Interval
    step: Interval | None = None
    control: bool = False
    note: str = ""


class Verdict(Enum):
    """What a check can say."""

    SOUND = "sound"
    CONCERN = "concern"
    UNDETERMINED = "undetermined"


@dataclass(frozen=True)
class Finding:
    """What a check concluded: a claim in one sentence, the numbers it rests on, the images to look at."""

    check: str
    verdict: Verdict
    claim: str
    gain: Interval | None = None
    measured: dict[str, Any] = field(default_factory=dict)
    examples: tuple[str, ...] = ()


@dataclass(frozen=True)
class Remedy:
    """One change with the validation IoU it is predicted to add. `cost` is one of the words in `COSTS`."""

    name: str
    gain: Interval
    cost: str
    evidence: tuple[str, ...]


COSTS = ("minutes", "one training run", "several training runs", "more compute", "annotation work", "new data")
"""Cost classes of a remedy, cheapest first."""
