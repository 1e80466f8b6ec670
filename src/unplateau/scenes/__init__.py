"""Planted scenes: images whose deciding family of characteristics is known, because we put it there."""

from unplateau.scenes.base import Builder, Difficulty, Planted
from unplateau.scenes.catalogue import ALONE, SCENES, plant, scenes
from unplateau.scenes.context import mixture
from unplateau.scenes.folder import write_folder

__all__ = ["ALONE", "SCENES", "Builder", "Difficulty", "Planted", "mixture", "plant", "scenes", "write_folder"]
