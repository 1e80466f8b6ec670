"""Writing results: whole or not at all, and an error that says where and why."""

from __future__ import annotations

import json
import math
import os
from dataclasses import asdict, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any
from uuid import uuid4

from unplateau.errors import OutputError


def writable_folder(path: Path) -> Path:
    """`path` as a folder that exists and takes files.

    Raises:
        OutputError: it is a file, or cannot be made or written.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / f".probe-{uuid4().hex}"
        probe.write_bytes(b"probe")
        probe.unlink()
    except OSError as error:
        raise OutputError(
            f"`out` must be a folder that can be written; {str(path)!r} gave: {why(error)}. Give another."
        ) from error
    return path


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file in one stroke: it is there whole or not at all, also when the disk fills or the power goes.

    Raises:
        OutputError: it cannot be written.
    """
    part = path.with_name(f".{path.name}.{uuid4().hex[:8]}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _refuse_device(path)
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise unwritten(path, error) from error
    finally:
        # Also after Ctrl-C: what was half written is nobody's.
        _discard(part)


def write_json(path: Path, value: Any) -> None:
    """Write a value of dataclasses, enums, numbers and containers as JSON; numbers that do not exist become null."""
    write_bytes(path, (json.dumps(plain(value), indent=1, allow_nan=False) + "\n").encode())


def plain(value: Any) -> Any:
    """The value with nothing in it but dicts, lists, strings, finite numbers, booleans and None."""
    if isinstance(value, Enum):
        return value.value
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, dict):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    if isinstance(value, bool) or value is None or isinstance(value, (str, int)):
        return value
    number = float(value)
    return number if math.isfinite(number) else None


def unwritten(path: Path, error: OSError) -> OutputError:
    """What to say when `path` could not be written."""
    return OutputError(
        f"{str(path)!r} must be written; that gave: {why(error)}. What is finished is kept: "
        "free some space or give another `out`, and run the same command again."
    )


def why(error: OSError) -> str:
    """The system's reason in its own words."""
    return (error.strerror or str(error)).rstrip(".")


def _refuse_device(path: Path) -> None:
    """A rename would put a plain file in place of /dev/stdout or the like."""
    if path.exists() and not path.is_file() and not path.is_dir():
        raise OutputError(f"{str(path)!r} must be a plain file or a new one; it is a device or a pipe. Name another.")


def _discard(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return
