"""Metrics of an MLflow run, from its folder of plain files or from its SQLite database; MLflow itself is not needed."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from unplateau.errors import DataError
from unplateau.training.series import Series

METRICS = "metrics"
DATABASES = (".db", ".sqlite", ".sqlite3")


def is_mlflow(path: Path) -> bool:
    """Whether `path` is a run's folder, one above it (`mlruns`), a database, or a run within a database."""
    if path.is_dir():
        return bool(_runs_below(path))
    return path.suffix.lower() in DATABASES or (not path.exists() and path.parent.suffix.lower() in DATABASES)


def read_mlflow(path: Path) -> Series:
    """Every metric of one run, by step.

    `path` is the folder of a run, any folder above just one, a database with just one run, or `mlflow.db/RUN_ID`.

    Raises:
        DataError: there are several runs, or the files or the database cannot be read.
    """
    return _of_folder(path) if path.is_dir() else _of_database(path)


def _of_folder(path: Path) -> Series:
    run = _only([str(each) for each in _runs_below(path)], path)
    series = Series(str(path))
    metrics = Path(run) / METRICS
    for file in sorted(each for each in metrics.rglob("*") if each.is_file()):
        # A metric called val/iou lies in a folder val.
        _add_lines(series, file.relative_to(metrics).as_posix(), file)
    return series


def _add_lines(series: Series, name: str, file: Path) -> None:
    """Lines of time in milliseconds, value and step; old versions wrote no step."""
    rows = [text.split() for text in file.read_text(encoding="utf-8", errors="replace").splitlines()]
    # Who logs without a step leaves a row of zeros: then the order tells the time.
    stepped = len({words[-1] for words in rows if len(words) == 3}) > 1 or len(rows) == 1
    for line, words in enumerate(rows, start=1):
        if len(words) not in (2, 3) or not (words[2:] or ["0"])[0].lstrip("-").isdecimal():
            raise DataError(
                f"{str(file)!r} must hold lines of time, value and step, as MLflow writes them; line {line} is "
                f"{' '.join(words)[:60]!r}. Give another run."
            )
        series.add(name, int(words[2]) if stepped and len(words) == 3 else line, words[1], line)


def _runs_below(path: Path) -> list[Path]:
    if (path / METRICS).is_dir():
        return [path]
    return sorted(folder.parent for folder in path.rglob(METRICS) if folder.is_dir() and _is_run(folder.parent))


def _is_run(folder: Path) -> bool:
    return (folder / "meta.yaml").is_file()


def _of_database(path: Path) -> Series:
    file, wanted = (path, "") if path.suffix.lower() in DATABASES else (path.parent, path.name)
    if not file.is_file():
        raise DataError(f"`log` must be a file or folder that exists; {str(file)!r} does not. Check the path.")
    try:
        with closing(sqlite3.connect(f"file:{file.resolve()}?mode=ro", uri=True)) as database:
            known = [str(row[0]) for row in database.execute("SELECT DISTINCT run_uuid FROM metrics ORDER BY run_uuid")]
            run = _only([each for each in known if wanted in ("", each)], path)
            rows = database.execute(
                "SELECT key, step, value, is_nan FROM metrics WHERE run_uuid = ? ORDER BY timestamp", (run,)
            ).fetchall()
    except sqlite3.Error as error:
        raise DataError(f"{str(file)!r} must be a database that MLflow wrote; {error}. Give another.") from error
    series = Series(str(path))
    steps: dict[str, list[int]] = {}
    for name, step, *_ in rows:
        steps.setdefault(str(name), []).append(int(step))
    for place, (name, step, value, is_nan) in enumerate(rows):
        stepped = len(set(steps[name])) > 1 or len(steps[name]) == 1
        series.add(str(name), int(step) if stepped else place, float("nan") if is_nan else value)
    return series


def _only(runs: list[str], path: Path) -> str:
    if len(runs) == 1:
        return runs[0]
    if not runs:
        raise DataError(f"`log` must hold an MLflow run with metrics; {str(path)!r} holds none. Give another.")
    raise DataError(
        f"`log` must be one run; {str(path)!r} holds {len(runs)}, as {runs[0]!r} and {runs[1]!r}. Give one of them"
        + ("." if path.is_dir() else f": {path}/{runs[0]}.")
    )
