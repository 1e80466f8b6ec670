"""The feature cache: characteristics once on disk are read, and what is not sound there is made again, and no more."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from unplateau.errors import OutputError
from unplateau.extractors.catalogue import build_extractor
from unplateau.types import Characteristics, Level
from unplateau.upgrades import cache
from unplateau.upgrades.cache import INDEX, Part, features, forward, identity

SHARD = 2 * 2 * 16 * 24 * 24
"""Bytes of two images under "reach-5" at 24 x 24."""


def extractor(seed: int = 0):
    torch.manual_seed(seed)
    return build_extractor("reach-5")


def images(count: int = 7, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, 24, 24), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def passed(folder: Path, *, net=None, shown: torch.Tensor | None = None) -> list[Part]:
    return list(features(net or extractor(), images() if shown is None else shown, folder, shard_bytes=SHARD))


def computed(parts: list[Part]) -> list[int]:
    return [number for number, part in enumerate(parts) if part.computed]


def maps(parts: list[Part]) -> torch.Tensor:
    return torch.cat([part.characteristics.levels[0] for part in parts])


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """A folder that holds four shards, the last of one image."""
    assert computed(passed(tmp_path / "kept")) == [0, 1, 2, 3]
    return tmp_path / "kept"


def shards(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors"))


def test_what_is_read_is_what_the_extractor_gives_in_half_precision(kept):
    net = extractor()
    again = passed(kept)
    assert computed(again) == []
    assert [part.first for part in again] == [0, 2, 4, 6]
    expected = torch.cat([forward(net, images()[first : first + 2]).levels[0] for first in range(0, 7, 2)])
    assert maps(again).dtype in (torch.float16, torch.bfloat16)
    assert torch.equal(maps(again), expected.to(maps(again).dtype))
    assert net.training


def test_a_flipped_byte_is_found_and_only_its_shard_made_again(kept):
    whole = maps(passed(kept))
    content = bytearray(shards(kept)[1].read_bytes())
    content[-5] ^= 1
    shards(kept)[1].write_bytes(content)
    again = passed(kept)
    assert computed(again) == [1]
    assert torch.equal(maps(again), whole)
    assert computed(passed(kept)) == []


def test_a_truncated_shard_is_found_and_only_it_made_again(kept):
    shards(kept)[2].write_bytes(shards(kept)[2].read_bytes()[:100])
    assert computed(passed(kept)) == [2]
    assert computed(passed(kept)) == []


def test_a_missing_shard_is_made_again(kept):
    shards(kept)[3].unlink()
    assert computed(passed(kept)) == [3]
    assert computed(passed(kept)) == []


def test_another_extractor_makes_every_shard_again(kept):
    other, before = extractor(seed=1), maps(passed(kept))
    again = passed(kept, net=other)
    assert computed(again) == [0, 1, 2, 3]
    assert not torch.equal(maps(again), before)
    assert computed(passed(kept, net=other)) == []


def test_a_single_changed_weight_is_another_extractor():
    changed = extractor()
    with torch.no_grad():
        next(changed.parameters())[0, 0, 0, 0] += 1e-3
    assert identity(changed) != identity(extractor()) == identity(extractor())


def test_a_changed_image_makes_its_own_shard_again(kept):
    changed = images()
    changed[4, 0, 0, 0] ^= 1
    assert computed(passed(kept, shown=changed)) == [2]


def test_another_grid_makes_every_shard_again(kept):
    assert len(computed(passed(kept, shown=images()[:, :, :, :16]))) == len(passed(kept, shown=images()[:, :, :, :16]))


def test_fewer_images_leave_no_shard_behind(kept):
    assert computed(passed(kept, shown=images()[:4])) == []
    assert len(shards(kept)) == 2
    assert set(json.loads((kept / INDEX).read_text())["shards"]) == {path.name for path in shards(kept)}


@pytest.mark.parametrize("content", ["", "{", "[]", '{"layout": 0, "shards": {}}', '{"layout": 1, "shards": {"a": 3}}'])
def test_a_damaged_index_makes_all_again(kept, content):
    (kept / INDEX).write_text(content)
    assert computed(passed(kept)) == [0, 1, 2, 3]
    assert computed(passed(kept)) == []


def test_a_pass_that_is_left_keeps_what_it_finished(tmp_path):
    stream = features(extractor(), images(), tmp_path, shard_bytes=SHARD)
    assert [next(stream).first for _ in range(3)] == [0, 2, 4]
    stream.close()
    assert computed(passed(tmp_path)) == [3]


def test_two_probes_share_one_extraction(tmp_path, monkeypatch):
    passes = []
    monkeypatch.setattr(cache, "forward", lambda net, part: passes.append(len(part)) or forward(net, part))
    passed(tmp_path)
    passed(tmp_path)
    assert sum(passes) == 7


class Wide(torch.nn.Module):
    """Not one of the catalogue: a map whose values float16 cannot hold."""

    gives, architecture = (Level(3, 1),), "wide"

    def forward(self, shown: torch.Tensor) -> Characteristics:
        return Characteristics((shown * 1e6,), (1,))


@pytest.mark.parametrize("native", [True, False])
def test_precision_is_that_of_the_machine(kept, tmp_path, monkeypatch, native):
    monkeypatch.setattr(cache, "native_bf16", lambda _: native)
    assert maps(passed(tmp_path)).dtype == (torch.bfloat16 if native else torch.float16)


def test_values_past_float16_are_kept_as_bfloat16(tmp_path):
    part = next(iter(features(Wide(), images(2), tmp_path)))
    assert part.characteristics.levels[0].dtype == torch.bfloat16
    assert torch.isfinite(part.characteristics.levels[0]).all()


def test_no_more_than_a_few_shards_wait_for_the_disk(tmp_path, monkeypatch):
    """The extractor must wait for a slow disk rather than fill the memory."""
    gate, held = threading.Event(), threading.Event()
    write = cache.write_bytes

    def slow(path: Path, content: bytes) -> None:
        held.set()
        gate.wait(5)
        write(path, content)

    monkeypatch.setattr(cache, "write_bytes", slow)
    stream: Iterator[Part] = features(extractor(), images(16), tmp_path, shard_bytes=SHARD)
    reached = []
    thread = threading.Thread(target=lambda: reached.extend(part.first for part in stream))
    thread.start()
    held.wait(5)
    thread.join(0.5)
    # One at the disk, `AHEAD` in the queue, and one that waits to be put: the next was not yet handed out.
    assert thread.is_alive()
    assert len(reached) <= cache.AHEAD + 1
    gate.set()
    thread.join(5)
    assert reached == list(range(0, 16, 2))


def test_a_folder_that_cannot_be_written_is_refused_in_a_sentence(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="folder that can be written"):
        passed(tmp_path / "file")


def test_a_disk_that_fills_stops_the_pass_with_a_sentence(tmp_path, monkeypatch):
    def full(path: Path, _: bytes) -> None:
        raise OutputError(f"{path} is full.")

    monkeypatch.setattr(cache, "write_bytes", full)
    with pytest.raises(OutputError, match="is full"):
        passed(tmp_path)
