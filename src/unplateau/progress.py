"""A progress bar for the many small trainings, and a line each where there is no terminal to draw it on."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

Told = Callable[[int, int, str], None]
"""Called after each training with how many are done, of how many, and the name of the last."""


@final
class Bar:
    """Entering it gives the function that moves it. Where the console is no terminal it says a line for each training,
    so that the log of a run in the background tells how far it is.

    An error takes the bar away, so that its sentence stands alone.
    """

    def __init__(self, console: Console) -> None:
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
        self._console = console
        self._progress = Progress(*columns, console=console)
        self._task = self._progress.add_task("training", total=None)
        self._start = time.monotonic()

    def __enter__(self) -> Told:
        if not self._console.is_terminal:
            return self._line
        self._progress.start()
        return self._told

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        if not self._console.is_terminal:
            return
        if error is None:
            self._progress.stop()
        else:
            self._progress.live.transient = True
            self._progress.live.stop()

    def _told(self, done: int, total: int, name: str) -> None:
        self._progress.update(self._task, completed=done, total=total, description=f"trained {name}")

    def _line(self, done: int, total: int, name: str) -> None:
        minutes, seconds = divmod(round(time.monotonic() - self._start), 60)
        self._console.print(
            f"{done} of {total}: trained {name} ({minutes}:{seconds:02d})", highlight=False, markup=False
        )
