"""Frozen characteristics on disk: extracted once, read by every probe, never all in memory at once.

A folder holds the characteristics of one extractor on one set of images, in shards. `index.json` says of each shard
what it was made from and the checksum of its bytes; a shard that is missing, damaged, or made from other images or
another extractor is made again, and no other.

Axes: N images, B images of a batch, C channels, H W pixels, h w cells.
"""

from __future__ import annotations

import hashlib
import json
import time
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import Queue
from threading import Thread
from typing import Self, final

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from unplateau.errors import OutputError
from unplateau.extractors.base import AbstractExtractor
from unplateau.files import writable_folder, write_bytes, write_json
from unplateau.model import pad_to
from unplateau.training.devices import accelerator, native_bf16
from unplateau.types import Characteristics

LAYOUT = 1
"""Version of what a shard holds; shards of another are made again."""

INDEX = "index.json"

SHARD_BYTES = 32 * 2**20
"""About how large a shard is: a few of these are all that is ever in memory."""

BATCH = 16
"""Images that go through the extractor together."""

AHEAD = 2
"""Shards that may wait for the disk before the extractor waits too."""

EVERY = 1.0
"""Seconds between two writings of the index: what a killed process did since is done again."""


@dataclass(frozen=True)
class Shard:
    """One file: the `source` it was made from, its size in bytes and the CRC-32 of these."""

    source: str
    bytes: int
    checksum: int


@dataclass(frozen=True)
class Part:
    """The characteristics of the images from `first` on, in half precision; `computed` when they were not on disk."""

    first: int
    characteristics: Characteristics
    computed: bool

    def __len__(self) -> int:
        return len(self.characteristics.levels[0])


def features(
    extractor: AbstractExtractor, images: Tensor, folder: Path, *, shard_bytes: int = SHARD_BYTES
) -> Iterator[Part]:
    """What `extractor`, in eval mode, gives for images uint8 (N, 3, H, W), shard by shard and in order.

    Sides are padded up to the coarsest stride by repeating the border, as in the model. What is sound on disk is read;
    the rest is computed, handed out, and written by a thread beside the extractor. Values are bfloat16 if the machine
    computes in it or float16 would overflow, else float16.

    Raises:
        OutputError: `folder` cannot be written.
    """
    mark = identity(extractor)
    count = images_per_shard(extractor, images, shard_bytes)
    index = _read_index(folder)
    names = []
    with _Writer(writable_folder(folder), index) as writer:
        for number, first in enumerate(range(0, len(images), count)):
            own = images[first : first + count]
            name, source = f"{number:05d}.safetensors", _source(mark, own)
            names.append(name)
            kept = _sound(folder / name, index.get(name), source)
            if kept is None:
                kept = _extract(extractor, own)
                writer.put(name, source, kept)
            strides = tuple(level.stride for level in extractor.gives)
            yield Part(first, Characteristics(kept, strides), name in writer.written)
        writer.forget(set(index) - set(names))


def identity(extractor: AbstractExtractor) -> str:
    """A hash of everything that decides what an extractor gives: its architecture, levels and all weights."""
    digest = hashlib.sha256(f"{LAYOUT} {extractor.architecture} {extractor.gives}".encode())
    for name, value in extractor.state_dict().items():
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def images_per_shard(extractor: AbstractExtractor, images: Tensor, shard_bytes: int = SHARD_BYTES) -> int:
    """How many images (N, 3, H, W) fill a shard; whole batches, where more than one fits."""
    stride = max(level.stride for level in extractor.gives)
    cells = [-(-side // stride) * stride for side in images.shape[-2:]]
    each = sum(level.channels * (cells[0] // level.stride) * (cells[1] // level.stride) for level in extractor.gives)
    fit = max(1, shard_bytes // (2 * each))
    return fit if fit < BATCH else fit // BATCH * BATCH


def _source(mark: str, images: Tensor) -> str:
    digest = hashlib.sha256(f"{mark} {tuple(images.shape)}".encode())
    digest.update(images.contiguous().numpy().data)
    return digest.hexdigest()


# ---- computing -----------------------------------------------------------------------------------------------


def _extract(extractor: AbstractExtractor, images: Tensor) -> tuple[Tensor, ...]:
    batches = [tuple(map(_halved, forward(extractor, part).levels)) for part in images.split(BATCH)]
    return tuple(_joined(level) for level in zip(*batches, strict=True))


def forward(extractor: AbstractExtractor, images: Tensor) -> Characteristics:
    """The extractor's own forward pass in eval mode, images uint8 (B, 3, H, W), in the arithmetic of the machine."""
    device, mode = accelerator(), extractor.training
    extractor.to(device).train(False)
    batch = images.to(device).float().div(255)
    try:
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=native_bf16(device.type)):
            given: Characteristics = extractor(pad_to(batch, max(level.stride for level in extractor.gives)))
    finally:
        extractor.train(mode)
    return given


def _halved(maps: Tensor) -> Tensor:
    """In half precision, on the CPU; float16 is the finer of the two, bfloat16 the wider."""
    if maps.dtype != torch.bfloat16:  # what was computed in it has no more digits to keep
        fits = max(map(abs, map(float, torch.aminmax(maps)))) <= torch.finfo(torch.float16).max
        maps = maps.to(torch.float16 if fits else torch.bfloat16)
    return maps.cpu()


def _joined(batches: tuple[Tensor, ...]) -> Tensor:
    """The maps of several batches, in bfloat16 where one of them is: 16 bits never become 32."""
    wide = any(each.dtype == torch.bfloat16 for each in batches)
    return torch.cat([each.to(torch.bfloat16) if wide else each for each in batches]).contiguous()


# ---- reading and writing -------------------------------------------------------------------------------------


def _read_index(folder: Path) -> dict[str, Shard]:
    """What the index says of each shard; nothing where it is absent, damaged or of another layout."""
    try:
        content = json.loads((folder / INDEX).read_bytes())
        shards = content["shards"] if content["layout"] == LAYOUT else {}
        return {str(name): Shard(**facts) for name, facts in shards.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}


def _sound(path: Path, said: Shard | None, source: str) -> tuple[Tensor, ...] | None:
    """The maps of a shard, or None when it is missing, damaged or of another source."""
    if said is None or said.source != source:
        return None
    try:
        content = path.read_bytes()
        if len(content) != said.bytes or zlib.crc32(content) != said.checksum:
            return None
        tensors = load(content)
    except (OSError, SafetensorError):
        return None
    return tuple(tensors[str(place)] for place in range(len(tensors)))


@final
class _Writer:
    """Writes shards in a thread; entered, it takes them, and left, all that it took is on disk and in the index."""

    def __init__(self, folder: Path, index: dict[str, Shard]) -> None:
        self.written: set[str] = set()
        self._folder, self._index, self._indexed = folder, dict(index), time.monotonic()
        self._queue: Queue[tuple[str, str, tuple[Tensor, ...]] | None] = Queue(AHEAD)
        self._failed: list[OutputError] = []
        self._thread = Thread(target=self._work, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._queue.put(None)
        self._thread.join()
        if self.written:
            self._save_index()
        self._raise_failed()

    def put(self, name: str, source: str, maps: tuple[Tensor, ...]) -> None:
        """Have a shard written."""
        self._raise_failed()
        self.written.add(name)
        self._queue.put((name, source, maps))

    def forget(self, names: set[str]) -> None:
        """Remove shards past the last image, which no pass over these images reads."""
        for name in names:
            self._index.pop(name, None)
            self.written.add(name)
            with suppress(OSError):
                (self._folder / name).unlink()

    def _work(self) -> None:
        # After a failure the rest is taken and dropped: whoever puts must not wait for ever.
        while (job := self._queue.get()) is not None:
            if not self._failed:
                try:
                    self._write(*job)
                except OutputError as error:
                    self._failed.append(error)

    def _write(self, name: str, source: str, maps: tuple[Tensor, ...]) -> None:
        content = save({str(place): each for place, each in enumerate(maps)})
        write_bytes(self._folder / name, content)
        self._index[name] = Shard(source, len(content), zlib.crc32(content))
        if time.monotonic() - self._indexed > EVERY:
            self._save_index()

    def _save_index(self) -> None:
        shards = {name: asdict(shard) for name, shard in sorted(self._index.items())}
        write_json(self._folder / INDEX, {"layout": LAYOUT, "shards": shards})
        self._indexed = time.monotonic()

    def _raise_failed(self) -> None:
        if self._failed:
            raise self._failed[0]
