"""A progress bar for the many small trainings."""

from __future__ import annotations

from collections.abc import Callable
from typing import final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

Told = Callable[[int, int, str], None]
"""Called after each training with how many are done, of how many, and the name of the last."""


@final
class Bar:
    """Entering it gives the function that moves it. Where the console is no terminal only its last state is shown.

    An error takes the bar away, so that its sentence stands alone.
    """

    def __init__(self, console: Console) -> None:
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
        self._progress = Progress(*columns, console=console)
        self._task = self._progress.add_task("training", total=None)

    def __enter__(self) -> Told:
        self._progress.start()
        return self._told

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        if error is None:
            self._progress.stop()
        else:
            self._progress.live.transient = True
            self._progress.live.stop()

    def _told(self, done: int, total: int, name: str) -> None:
        self._progress.update(self._task, completed=done, total=total, description=f"trained {name}")
