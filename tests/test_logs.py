"""Logs from elsewhere become our records, whatever wrote them; what is no log is refused in one sentence."""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from unplateau import api, cli
from unplateau.errors import DataError
from unplateau.measures.curves import CurveType, curve_type, read_curve
from unplateau.training.log_columns import class_columns, find_columns
from unplateau.training.logs import read_epochs
from unplateau.types import Epoch

COUNT = 12
IOU = [round(0.5 - 0.4 * 0.6**place, 6) for place in range(COUNT)]
TRAIN, VAL = [1 / (place + 1) for place in range(COUNT)], [1.2 / (place + 1) for place in range(COUNT)]
RATE = 0.001
STEPS = [10 * (place + 1) for place in range(COUNT)]


def as_csv(folder: Path) -> Path:
    rows = [f"{s},{t},{v},{i},{RATE}" for s, t, v, i in zip(STEPS, TRAIN, VAL, IOU, strict=True)]
    (folder / "run.csv").write_text("Step,train_loss,val_loss,Val/IoU,lr\n" + "\n".join(rows) + "\n")
    return folder / "run.csv"


def as_lightning(folder: Path) -> Path:
    """As Lightning's CSVLogger: a row for the rate, one for the validation, one for the epoch's loss after it."""
    text = "epoch,lr-AdamW,step,train_loss_epoch,train_loss_step,val_jaccard,val_loss\n"
    for place, step in enumerate(STEPS):
        text += f",{RATE},{step - 5},,,,\n{place},,{step - 5},,{TRAIN[place]},,\n"
        text += f"{place},,{step},,,{IOU[place]},{VAL[place]}\n{place},,{step},{TRAIN[place]},,,\n"
    (folder / "metrics.csv").write_text(text)
    return folder


def as_percent(folder: Path) -> Path:
    rows = [f"{s};{t};{v};{100 * i};{RATE}" for s, t, v, i in zip(STEPS, TRAIN, VAL, IOU, strict=True)]
    (folder / "run.csv").write_text("iter; loss; eval_loss; mIoU; learning_rate\n" + "\n".join(rows))
    return folder / "run.csv"


def as_trainer_state(folder: Path) -> Path:
    """As the Trainer of transformers."""
    history: list[dict[str, float]] = []
    for place, step in enumerate(STEPS):
        epoch = (place + 1) / 2
        history += [{"epoch": epoch, "step": step, "loss": TRAIN[place], "learning_rate": RATE, "grad_norm": 2.0}]
        history += [{"epoch": epoch, "step": step, "eval_loss": VAL[place], "eval_mean_iou": IOU[place]}]
    (folder / "trainer_state.json").write_text(json.dumps({"log_history": history}))
    return folder


def as_json_lines(folder: Path) -> Path:
    rows = zip(STEPS, TRAIN, VAL, IOU, strict=True)
    lines = [
        {"step": s, "train_loss": t, "val": {"x": 1}, "val_loss": v, "val_miou": i, "lr": RATE} for s, t, v, i in rows
    ]
    (folder / "run.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return folder / "run.jsonl"


def as_mlruns(folder: Path) -> Path:
    run = folder / "mlruns" / "0" / "abc123"
    for name, values in {"val/iou": IOU, "train_loss": TRAIN, "val_loss": VAL, "lr": [RATE] * COUNT}.items():
        (run / "metrics" / name).parent.mkdir(parents=True, exist_ok=True)
        lines = [
            f"17000000{place:02d} {value} {step}" for place, (value, step) in enumerate(zip(values, STEPS, strict=True))
        ]
        (run / "metrics" / name).write_text("\n".join(lines) + "\n")
    (run / "meta.yaml").write_text("run_id: abc123\n")
    return folder / "mlruns"


def as_database(folder: Path, *runs: str) -> Path:
    database = sqlite3.connect(folder / "mlflow.db")
    database.execute(
        "CREATE TABLE metrics (key TEXT, value DOUBLE, timestamp BIGINT, run_uuid TEXT, step BIGINT, is_nan BOOLEAN)"
    )
    for run in runs or ("abc",):
        for name, values in {"val_iou": IOU, "loss": TRAIN, "val_loss": VAL, "lr": [RATE] * COUNT}.items():
            rows = [(name, value, place, run, STEPS[place], 0) for place, value in enumerate(values)]
            database.executemany("INSERT INTO metrics VALUES (?, ?, ?, ?, ?, ?)", rows)
    database.commit()
    database.close()
    return folder / "mlflow.db"


def as_tensorboard(folder: Path) -> Path:
    pytest.importorskip("tensorboard", reason="tensorboard is not here")
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(folder / "runs" / "one") as writer:
        for place, step in enumerate(STEPS):
            for tag, value in {"eval/iou": IOU, "train/loss": TRAIN, "eval/loss": VAL}.items():
                writer.add_scalar(tag, value[place], step)
            writer.add_scalar("train/learning_rate", RATE, step)
    return folder / "runs"


def as_ours(folder: Path) -> Path:
    api.curve(as_csv(folder), out=folder / "ours")
    return folder / "ours"


WAYS: dict[str, Callable[[Path], Path]] = {
    "CSV": as_csv,
    "Lightning": as_lightning,
    "semicolons and percent": as_percent,
    "trainer_state.json": as_trainer_state,
    "JSON lines": as_json_lines,
    "mlruns": as_mlruns,
    "mlflow.db": as_database,
    "TensorBoard": as_tensorboard,
    "ours": as_ours,
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("way", WAYS)
def test_a_run_is_the_same_whoever_logged_it(way, tmp_path):
    epochs = read_epochs(WAYS[way](tmp_path)).epochs
    assert [epoch.step for epoch in epochs] == STEPS
    for name, wanted in {"iou": IOU, "train_loss": TRAIN, "val_loss": VAL, "learning_rate": [RATE] * COUNT}.items():
        assert [getattr(epoch, name) for epoch in epochs] == pytest.approx(wanted, rel=1e-5), name
    assert curve_type(epochs) is CurveType.CONVERGED


def test_what_was_never_logged_is_not_a_number(tmp_path):
    epochs = read_epochs(as_csv(tmp_path)).epochs
    assert all(math.isnan(epoch.best_iou) and math.isnan(epoch.gradient_norm) for epoch in epochs)


def test_what_is_logged_each_step_is_averaged_and_a_silent_number_stays_what_it_was(tmp_path):
    log = tmp_path / "a.csv"
    log.write_text("step,loss,lr,iou\n1,4,0.1,\n2,2,,0.1\n3,1,,\n4,nan,,0.2\n6,,,0.3\n")
    epochs = read_epochs(log).epochs
    assert [epoch.train_loss for epoch in epochs] == pytest.approx([3.0, math.nan, math.nan], nan_ok=True)
    assert [epoch.learning_rate for epoch in epochs] == [0.1, 0.1, 0.1]


def test_the_rows_of_a_resumed_run_take_the_place_of_those_before_it(tmp_path):
    log = tmp_path / "a.csv"
    log.write_text("step,val_iou\n10,0.1\n20,0.2\n30,0.3\n20,0.25\n30,0.35\n40,0.4\n")
    assert [epoch.iou for epoch in read_epochs(log).epochs] == [0.1, 0.25, 0.35, 0.4]


def test_without_a_step_or_with_half_epochs_the_order_tells_the_time(tmp_path):
    log = tmp_path / "a.csv"
    log.write_text("epoch,val_iou\n0.5,0.1\n1.0,0.2\n1.5,0.3\n")
    assert [(epoch.step, epoch.iou) for epoch in read_epochs(log).epochs] == [(0, 0.1), (1, 0.2), (2, 0.3)]


def test_mlflow_metrics_without_a_step_keep_their_order(tmp_path):
    run = tmp_path / "run"
    (run / "metrics").mkdir(parents=True)
    (run / "metrics" / "val_iou").write_text("1 0.1 0\n2 0.2 0\n3 0.3 0\n")
    assert [epoch.iou for epoch in read_epochs(run).epochs] == [0.1, 0.2, 0.3]


# ---- columns -------------------------------------------------------------------------------------------------

USUAL = {
    "val_iou": "iou",
    "val/IoU": "iou",
    "valid_iou_score": "iou",
    "eval_mean_iou": "iou",
    "validation/mIoU": "iou",
    "metrics/mIoU(val)": "iou",
    "val_mean_io_u": "iou",
    "val_JaccardIndex": "iou",
    "val_iou_epoch": "iou",
    "jaccard": "iou",
    "mIoU": "iou",
}


@pytest.mark.parametrize("column", USUAL)
def test_a_usual_name_is_known(column):
    assert find_columns(["train_iou", "epoch", column], {}, "log") == {"iou": column}


def test_a_held_out_number_goes_before_a_bare_one_and_that_before_the_test_set():
    assert find_columns(["test_iou", "iou", "val_iou"], {}, "log")["iou"] == "val_iou"
    assert find_columns(["test_iou", "iou"], {}, "log")["iou"] == "iou"
    assert find_columns(["test_iou", "train_iou"], {}, "log")["iou"] == "test_iou"


def test_a_best_iou_without_its_threshold_is_the_best_so_far_and_not_taken():
    assert "best_iou" not in find_columns(["iou", "best_iou"], {}, "log")
    assert find_columns(["iou", "best_iou", "best_threshold"], {}, "log")["best_iou"] == "best_iou"


def test_the_user_may_name_any_column():
    found = find_columns(["step", "iou", "crack/J", "mine"], {"iou": "crack/J", "best_iou": "mine"}, "log")
    assert found == {"iou": "crack/J", "best_iou": "mine"}
    assert class_columns(["class_iou_10", "val/class_iou_2", "iou"]) == ["val/class_iou_2", "class_iou_10"]


@pytest.mark.parametrize(
    ("columns", "given", "said"),
    [
        (["step", "dice"], {}, "must hold a validation IoU, and no column looks like one; it has 'step', 'dice'"),
        (["val_iou"], {"iou": "val_iuo"}, "'val_iuo' is none: did you mean 'val_iou'"),
        (["val_iou"], {"uio": "val_iou"}, "'uio' is none: did you mean"),
    ],
)
def test_a_column_that_is_not_there_is_named_with_those_that_are(columns, given, said):
    with pytest.raises(DataError, match=said):
        find_columns(columns, given, "log")


# ---- what is refused -----------------------------------------------------------------------------------------

BAD = {
    "words": ("a.csv", "epoch,val_iou\n0,0.1\n1,oops\n", "line 3 holds 'oops'"),
    "no iou": ("a.csv", "epoch,acc\n0,0.1\n", "no column looks like one"),
    "no rows": ("a.csv", "epoch,val_iou\n", "hold a row an evaluation; it holds 0 rows"),
    "prose": ("a.txt", "it went well\nit went badly\n", "begin with a line of column names"),
    "empty": ("a.csv", "", "begin with a line of column names"),
    "beyond percent": ("a.csv", "epoch,val_iou\n0,130\n1,140\n", "run from 130 to 140"),
    "negative": ("a.csv", "epoch,val_iou\n0,-1\n1,0.5\n", "run from -1 to 0.5"),
    "never finite": ("a.csv", "epoch,val_iou\n0,nan\n1,nan\n", "none of its values is finite"),
    "no json": ("a.json", "{", "must be JSON"),
    "another json": ("a.json", '{"a": 1}', "must hold a list of records"),
    "no database": ("a.db", "hello hello hello", "must be a database that MLflow wrote"),
    "no events": ("events.out.tfevents.1", "", "none can be read"),
}


@pytest.mark.parametrize("what", BAD)
def test_what_is_no_log_is_refused_in_one_sentence(what, tmp_path, capsys):
    name, text, said = BAD[what]
    if name.startswith("events"):
        pytest.importorskip("tensorboard", reason="tensorboard is not here")
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=said):
        read_epochs(tmp_path / name)
    assert cli.main(["curve", str(tmp_path / name)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert name in error


def test_what_is_not_there_is_refused(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        read_epochs(tmp_path / "nowhere.csv")
    with pytest.raises(DataError, match="holds none of these"):
        read_epochs(tmp_path)
    (tmp_path / "a.csv").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(DataError, match="must be a log of text"):
        read_epochs(tmp_path / "a.csv")


def test_of_several_runs_one_must_be_named(tmp_path):
    database = as_database(tmp_path, "one", "two")
    with pytest.raises(DataError, match="holds 2, as 'one' and 'two'"):
        read_epochs(database)
    assert len(read_epochs(database / "two").epochs) == COUNT
    as_mlruns(tmp_path)
    twin = tmp_path / "mlruns" / "0" / "other"
    (twin / "metrics").mkdir(parents=True)
    (twin / "meta.yaml").write_text("")
    with pytest.raises(DataError, match="Give one of them"):
        read_epochs(tmp_path / "mlruns")
    assert len(read_epochs(tmp_path / "mlruns" / "0" / "abc123").epochs) == COUNT


def test_a_damaged_metric_names_its_line(tmp_path):
    (tmp_path / "run" / "metrics").mkdir(parents=True)
    (tmp_path / "run" / "metrics" / "iou").write_text("1 0.5 0\nhello\n")
    with pytest.raises(DataError, match="line 2 is 'hello'"):
        read_epochs(tmp_path / "run")


# ---- the type, from records alone ----------------------------------------------------------------------------


def epochs_of(ious: list[float], **more: list[float]) -> tuple[Epoch, ...]:
    blank = dict.fromkeys(
        ["train_loss", "val_loss", "best_iou", "best_threshold", "coverage", "average_precision", "boundary_iou"],
        math.nan,
    )
    blank |= {"learning_rate": math.nan, "gradient_norm": math.nan}
    return tuple(
        Epoch(step=place, iou=iou, class_iou=(), **{**blank, **{name: values[place] for name, values in more.items()}})
        for place, iou in enumerate(ious)
    )


FALL = [*np.linspace(0.3, 0.7, 8).tolist(), *np.linspace(0.69, 0.6, 4).tolist()]


def test_without_losses_a_falling_curve_cannot_be_told_apart():
    assert curve_type(epochs_of(FALL)) is CurveType.UNDETERMINED
    assert curve_type(epochs_of(FALL, train_loss=np.linspace(1, 0.1, 12).tolist())) is CurveType.OVERFITTING
    assert curve_type(epochs_of(FALL, val_loss=np.linspace(0.5, 1, 12).tolist())) is CurveType.OVERFITTING


def test_without_the_best_threshold_no_wobble_of_it_is_claimed():
    swing = [0.7 - 0.1 * (place % 2) for place in range(12)]
    assert curve_type(epochs_of(swing)) is not CurveType.WOBBLING
    assert curve_type(epochs_of(swing, best_iou=[0.72] * 12)) is CurveType.WOBBLING


def test_a_score_that_is_lost_at_the_end_diverges():
    assert curve_type(epochs_of([*IOU[:-1], math.nan])) is CurveType.DIVERGING
    assert curve_type(epochs_of([math.nan] * 12)) is CurveType.UNDETERMINED


def test_a_reading_names_the_best_moment():
    reading = read_curve(epochs_of(FALL))
    assert (reading.best, reading.best_step, reading.evaluations) == (pytest.approx(0.7), 7, 12)
    nothing = read_curve(())
    assert (nothing.type, nothing.best_step, nothing.evaluations) == (CurveType.UNDETERMINED, -1, 0)


def test_curve_says_what_it_read(tmp_path, capsys):
    log = as_percent(tmp_path)
    said = api.curve(log, columns={"val_loss": "loss"})
    assert (said["type"], said["best_step"], said["columns"]["val_loss"]) == ("converged", STEPS[-1], "loss")
    assert "percentage" in said["notes"][0]
    assert cli.main(["curve", str(log), "--columns", "iou=mIoU", "--out", str(tmp_path / "out")]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "The curve is converged over 12 evaluations." in printed
    assert "iou from 'mIoU'" in printed
    assert [epoch.iou for epoch in read_epochs(tmp_path / "out").epochs] == pytest.approx(IOU)
    assert cli.main(["curve", str(log), "--columns", "iou"]) == 2
    assert "must look like iou=val/jac" in capsys.readouterr().err
