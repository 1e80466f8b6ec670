"""X and Y come in: sources, checks, the working grid, splits by group, balance, augmentation."""

from unplateau.data.balance import class_areas, class_shares, class_weights, positive_share
from unplateau.data.pictures import read_pictures
from unplateau.data.sources import AbstractSource, FolderSource, SampleSource, open_data
from unplateau.data.splits import Leak, leaking_groups, nested, split
from unplateau.data.tasks import find_task, task_mask
from unplateau.data.transforms import NONE, STANDARD, Augmentation, augment

__all__ = [
    "NONE",
    "STANDARD",
    "AbstractSource",
    "Augmentation",
    "FolderSource",
    "Leak",
    "SampleSource",
    "augment",
    "class_areas",
    "class_shares",
    "class_weights",
    "find_task",
    "leaking_groups",
    "nested",
    "open_data",
    "positive_share",
    "read_pictures",
    "split",
    "task_mask",
]
