"""Checkpoint files: read them without running code in them, and never load one that fits badly."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from unplateau.errors import Doubt, PieceError

SUFFIXES = (".safetensors", ".pt", ".pth", ".ckpt", ".bin")
"""File names that are read as checkpoints."""

COUNTER = "num_batches_tracked"
"""End of the name of a tensor that counts steps and decides nothing in eval mode."""

ENOUGH = 0.95
"""Share of a network's parameters, by tensors and by values, that a checkpoint must hold."""


@dataclass(frozen=True)
class TensorFile:
    """What a checkpoint holds: tensors by dotted name, and the architecture its metadata names ("" if none)."""

    path: Path
    tensors: dict[str, Tensor]
    architecture: str = ""


@dataclass(frozen=True)
class Match:
    """How a checkpoint fits a network; names are the network's own, `unexpected` are the file's.

    `chosen` says which tensor of the file goes where, `misshapen` which would if it had the right shape. `values` is
    the share of the network's values (0..1) that the file holds. `strays` are unexpected names beside expected
    ones, as a deeper network of the same kind would have.
    """

    chosen: dict[str, str]
    missing: tuple[str, ...]
    misshapen: dict[str, str]
    unexpected: tuple[str, ...]
    strays: tuple[str, ...]
    values: float

    @property
    def share(self) -> float:
        """Matched share of the network, 0..1: the smaller of the share of tensors and the share of values."""
        wanted = len(self.chosen) + len(self.missing) + len(self.misshapen)
        return min(self.values, len(self.chosen) / max(wanted, 1))


# ---- reading -------------------------------------------------------------------------------------------------


def read_tensors(path: Path) -> TensorFile:
    """The tensors of a file that ends in one of `SUFFIXES`, on the CPU; none is allowed to run code.

    Raises:
        PieceError: nothing is there, the name ends otherwise, the file is damaged or text, or it holds no tensors.
    """
    if not path.is_file():
        found = "a folder" if path.is_dir() else "nothing"
        raise PieceError(f"A checkpoint must be a file; {found} is at {str(path)!r}. Check the path.")
    if path.suffix not in SUFFIXES:
        raise PieceError(
            f"A checkpoint must end in {', '.join(SUFFIXES)}; got {str(path)!r}. Save its state_dict as .safetensors."
        )
    file = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    if not file.tensors:
        raise PieceError(f"A checkpoint must hold tensors; {str(path)!r} holds none. Save the state_dict of the model.")
    return file


def named_by(path: Path) -> str:
    """The architecture that a .safetensors file names, without reading its tensors; "" for any other, or none."""
    if path.suffix != ".safetensors" or not path.is_file():
        return ""
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            return (file.metadata() or {}).get("architecture", "")
    except (SafetensorError, OSError):
        return ""  # whoever reads the tensors says what is wrong


def _read_safetensors(path: Path) -> TensorFile:
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise PieceError(
            f"{str(path)!r} must be a whole .safetensors file; reading it says: {_first_line(error)}. "
            "Copy or download it again."
        ) from error
    return TensorFile(path, tensors, metadata.get("architecture", ""))


def _read_torch(path: Path) -> TensorFile:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a file that is no checkpoint makes the unpickler fail in any way whatever
        raise PieceError(
            f"{str(path)!r} must be a whole file of tensors and nothing else; reading it says: {_first_line(error)}. "
            "Copy it again, or save it again with torch.save(model.state_dict(), path)."
        ) from error
    tensors = dict(_flat(content, ""))
    architecture = content.get("architecture", "") if isinstance(content, Mapping) else ""
    return TensorFile(path, tensors, architecture if isinstance(architecture, str) else "")


def _flat(content: Any, prefix: str) -> Iterator[tuple[str, Tensor]]:
    """Tensors of nested dicts by dotted name: {"teacher": {"w": t}} gives "teacher.w"."""
    if isinstance(content, Tensor):
        yield prefix, content
    elif isinstance(content, Mapping):
        for name, inner in content.items():
            yield from _flat(inner, f"{prefix}.{name}" if prefix else str(name))


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")[:160]


# ---- matching ------------------------------------------------------------------------------------------------


def match(net: nn.Module, file: TensorFile) -> Match:
    """Which tensors of `file` go where in `net`, whatever wrapper the file was saved through. Changes nothing."""
    wanted = {name: each for name, each in net.state_dict().items() if not name.endswith(COUNTER)}
    plain = {name: _plain(name.removeprefix("model.")) for name in wanted}
    source = {_plain(name): name for name in file.tensors if not name.endswith(COUNTER)}
    prefix = _wrapper(set(plain.values()), source)
    named = {name: source[prefix + plain[name]] for name in wanted if prefix + plain[name] in source}
    chosen = {name: origin for name, origin in named.items() if file.tensors[origin].shape == wanted[name].shape}
    unexpected = tuple(name for name in source.values() if name not in set(named.values()))
    return Match(
        chosen=chosen,
        missing=tuple(name for name in wanted if name not in named),
        misshapen={name: origin for name, origin in named.items() if name not in chosen},
        unexpected=unexpected,
        strays=_strays(unexpected, prefix, set(plain.values())),
        values=sum(wanted[name].numel() for name in chosen) / max(sum(each.numel() for each in wanted.values()), 1),
    )


def load(net: nn.Module, file: TensorFile, said: str) -> Match:
    """Put the tensors of `file` into `net`; `said` is what the error calls the network.

    Warns when a few parameters are missing, so that they keep their random start, or when the file is deeper
    than the network.

    Raises:
        PieceError: a tensor has another shape, or less than `ENOUGH` of the parameters are there.
    """
    found = match(net, file)
    _refuse(net, file, found, said)
    if found.missing:
        warnings.warn(
            f"{file.path.name} lacks {_some(found.missing)} of {said}; they stay random.", Doubt, stacklevel=3
        )
    if found.strays:
        warnings.warn(f"{file.path.name} holds {_some(found.strays)}, which {said} does not use.", Doubt, stacklevel=3)
    state = net.state_dict() | {name: file.tensors[origin] for name, origin in found.chosen.items()}
    net.load_state_dict(state)
    return found


def _refuse(net: nn.Module, file: TensorFile, found: Match, said: str) -> None:
    total = len(found.chosen) + len(found.missing) + len(found.misshapen)
    if found.share < ENOUGH and not found.misshapen:
        raise PieceError(
            f"{str(file.path)!r} must hold at least {ENOUGH:.0%} of the parameters of {said}; it holds "
            f"{len(found.chosen)} of {total} tensors and lacks {_some(found.missing)}. "
            "Name the architecture that it was saved from."
        )
    if found.misshapen:
        name, origin = next(iter(found.misshapen.items()))
        got, wanted = tuple(file.tensors[origin].shape), tuple(net.state_dict()[name].shape)
        raise PieceError(
            f"{str(file.path)!r} must have the shapes of {said}; {len(found.misshapen)} of {total} tensors differ, "
            f"first {origin!r}: {got} in the file, {wanted} in the network. "
            "Name the architecture that it was saved from."
        )


def _plain(name: str) -> str:
    """A name that survives timm's feature wrappers, which turn stages.0 into stages_0."""
    return name.replace("_", ".")


def _wrapper(wanted: set[str], source: Mapping[str, str]) -> str:
    """What stands before the network's names in the file ("", "module.", "teacher.backbone.", ...), by majority.

    A self-supervised checkpoint holds student and teacher; the teacher, an average of students, is the better one.
    """
    votes: Counter[str] = Counter()
    for name in source:
        parts = name.split(".")
        votes.update(".".join([*parts[:cut], ""]) for cut in range(len(parts)) if ".".join(parts[cut:]) in wanted)
    return max(votes, key=lambda each: (votes[each], "teacher" in each or "ema" in each, -len(each)), default="")


def _strays(unexpected: tuple[str, ...], prefix: str, wanted: set[str]) -> tuple[str, ...]:
    rows = {_row(name) for name in wanted} - {""}
    inside = {name: _plain(name).removeprefix(prefix) for name in unexpected if _plain(name).startswith(prefix)}
    return tuple(name for name, each in inside.items() if _row(each) in rows)


def _row(name: str) -> str:
    """What stands before the last number: the row of blocks that a tensor belongs to ("" if none)."""
    parts = name.split(".")
    numbers = [index for index, part in enumerate(parts) if part.isdigit()]
    return ".".join(parts[: numbers[-1]]) if numbers else ""


def _some(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(repr(name) for name in names[:3]) + more
