"""Recipes as people write them: a file of TOML or JSON, or a few words such as "loss=ce + dice, ema=0.99"."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from unplateau.data.transforms import Augmentation
from unplateau.errors import UnplateauError, nearest
from unplateau.training.recipe import Recipe

STANDARD = "baseline"
"""The name of the recipe that changes nothing."""

SUFFIXES = {".toml": tomllib.loads, ".json": json.loads}
"""How each kind of file is read."""

FIELDS = {each.name: each.type for each in fields(Recipe)}
"""What a recipe may name, and of what kind each is."""

AUGMENTATION = {each.name: each.type for each in fields(Augmentation)}

NEXT = re.compile(r"[,;]\s*(?=[\w.-]+\s*=)")
"""Where the next change begins: "class_weights=1,5, ema=0.9" holds two."""

OWN = "augmentation."
"""How a number of the augmentation is named among words."""


def read_recipe(said: str | Path | Mapping[str, Any] | Recipe | None, base: Recipe | None = None) -> Recipe:
    """The recipe that `said` makes of `base` (None = the default one).

    Args:
        said: None or "baseline" for `base` itself; a path that ends in .toml or .json, or a mapping, whose keys are
            the fields of `Recipe` ("augmentation" is a table of its own); or such fields as words, "loss=ce + 0.5*dice,
            ema=0.99, augmentation.flip=0". A whole `Recipe` is taken as it is.
        base: what holds for every field that is not named.

    Raises:
        UnplateauError: a file that cannot be read, a field that does not exist, or a value that breaks a rule.
    """
    base = base or Recipe()
    if isinstance(said, Recipe):
        return said
    if said is None or said == STANDARD:
        return base
    if isinstance(said, Mapping):
        return _changed(base, said)
    named, where = _named(said)
    try:
        return _changed(base, named)
    except UnplateauError as error:
        raise UnplateauError(f"In {where}: {error}") from error


def recipe_name(said: str | Path | Mapping[str, Any] | Recipe) -> str:
    """What a recipe is called in a table: its file without the ending, else its own words.

    Raises:
        UnplateauError: it has no words of its own.
    """
    if not isinstance(said, (str, Path)):
        raise UnplateauError(
            "`recipes` without words need names; got a value. Give a mapping from names to recipes instead."
        )
    path = Path(said)
    return path.stem if path.suffix in SUFFIXES else re.sub(r"\s+", " ", str(said).strip())


def _named(said: str | Path) -> tuple[dict[str, Any], str]:
    """Fields by name, and where they were named."""
    path = Path(said)
    if path.suffix in SUFFIXES:
        return _from_file(path), repr(str(path))
    return _from_words(str(said)), f"the recipe {str(said)!r}"


def _from_file(path: Path) -> dict[str, Any]:
    try:
        content = SUFFIXES[path.suffix](path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UnplateauError(
            f"`recipe` must be a file of {path.suffix[1:].upper()} that can be read; {str(path)!r} gave: "
            f"{str(error).rstrip('.')}. Mend it or name another."
        ) from error
    if not isinstance(content, dict):
        raise UnplateauError(f"{str(path)!r} must hold fields and values; it holds neither. Write loss = 'ce + dice'.")
    return content


def _from_words(words: str) -> dict[str, Any]:
    named: dict[str, Any] = {}
    for part in NEXT.split(words):
        name, equals, value = (each.strip() for each in part.partition("="))
        if not equals or not value:
            raise UnplateauError(
                f"`recipe` must be {STANDARD!r}, a file that ends in .toml or .json, or changes such as 'ema=0.99, "
                f"loss=ce'; got {words!r}: {nearest(name, [STANDARD, *FIELDS])}"
            )
        name = name.replace("-", "_")
        if name in named:
            raise UnplateauError(f"`{name}` must be said once; got {words!r}. Leave one out.")
        if name.startswith(OWN):
            named.setdefault("augmentation", {})[name.removeprefix(OWN)] = value
        else:
            named[name] = value
    return named


def _changed(base: Recipe, named: Mapping[str, Any]) -> Recipe:
    changes = _valued(named, FIELDS, "")
    if "augmentation" in changes:
        changes["augmentation"] = replace(base.augmentation, **_valued(changes["augmentation"], AUGMENTATION, OWN))
    return replace(base, **changes)


def _valued(named: Mapping[str, Any], known: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """The values by field, each of the kind that its field has."""
    found = {}
    for name, value in named.items():
        field = str(name).replace("-", "_")
        if field not in known:
            raise UnplateauError(f"A recipe has no field `{prefix}{name}`: {nearest(field, known)}")
        found[field] = _value(f"{prefix}{field}", value, str(known[field]))
    return found


def _value(name: str, value: Any, kind: str) -> Any:
    """`value`, from a file or as a word, as what a field of `kind` holds.

    Raises:
        UnplateauError: it is nothing of that kind.
    """
    try:
        return _as(kind, value)
    except (ValueError, TypeError) as error:
        raise UnplateauError(f"`{name}` must be {SAID[kind]}; got {value!r}. Give one.") from error


def _as(kind: str, value: Any) -> Any:
    if kind == "int":
        if isinstance(value, bool) or (isinstance(value, float) and not value.is_integer()):
            raise ValueError
        return int(value)
    if kind == "float":
        if isinstance(value, bool):
            raise ValueError
        return float(value)
    if kind == "str":
        return _text(value)
    if kind == "Augmentation":
        return dict(value)
    if kind == "Size | None":
        return None if value in (None, "none", "None") else tuple(int(each) for each in _pair(value))
    if kind == "tuple[float, float]":
        return tuple(float(each) for each in _pair(value))
    return class_weights(value)


SAID = {
    "int": "a whole number",
    "float": "a number",
    "str": "words",
    "Augmentation": "a table of its own fields",
    "Size | None": "a height and a width, as in 96,128",
    "tuple[float, float]": "two numbers, as in 0.8,1.1",
    "str | tuple[float, ...]": "a name, or numbers as in 1,5",
}
"""What each kind of field holds, in words."""


def class_weights(value: Any) -> str | tuple[float, ...]:
    """A name such as "auto", or a factor for each output: "1,5", 5 or [1, 5]."""
    if isinstance(value, str) and not re.match(r"[-+.\d]", value.strip()):
        return value.strip()
    parts = value.split(",") if isinstance(value, str) else value if isinstance(value, (list, tuple)) else [value]
    return tuple(float(each) for each in parts)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _pair(value: Any) -> tuple[Any, Any]:
    parts = re.split(r"[,x]", value) if isinstance(value, str) else value
    first, second = parts
    return first, second
