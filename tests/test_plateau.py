"""Trainings that others run are recorded as ours are, in bounded memory, and typed as they go."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from unplateau.callbacks import LightningPlateau, PlateauLog, TransformersPlateau
from unplateau.errors import DataError, MissingExtra, OutputError, UnplateauError
from unplateau.measures.curves import CurveType
from unplateau.measures.epochs import edge_counts, epoch_of
from unplateau.measures.scoring import score_images
from unplateau.training.logs import read_epochs
from unplateau.types import Epoch

SIZE = (12, 16)


def batch(count: int = 4, classes: int = 1, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    masks = rng.integers(0, max(2, classes), (count, *SIZE)).astype(np.uint8)
    scores = rng.random((count, classes, *SIZE)).astype(np.float32)
    return (scores if classes == 1 else scores / scores.sum(1, keepdims=True)), masks


def at(step: int, iou: float, train_loss: float = 0.1) -> Epoch:
    numbers = dict.fromkeys(["val_loss", "best_threshold", "coverage", "average_precision", "boundary_iou"], 0.5)
    return Epoch(
        step, train_loss, iou=iou, best_iou=iou, class_iou=(iou,), learning_rate=0.0, gradient_norm=0.0, **numbers
    )


# ---- counts --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [1, 3])
def test_batches_add_up_to_the_record_of_all_images_at_once(classes, tmp_path):
    log = PlateauLog(tmp_path / "log.csv")
    batches = [batch(classes=classes, seed=seed) for seed in range(3)]
    for scores, masks in batches:
        log.add(torch.from_numpy(scores), torch.from_numpy(masks).long())
    scores, masks = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    wanted = epoch_of(score_images(scores, masks), edge_counts(scores, masks))
    assert repr(log.measured()) == repr(wanted)


def test_what_is_kept_does_not_grow_with_the_number_of_images(tmp_path):
    log = PlateauLog(tmp_path / "log.csv")
    sizes = []
    for seed in range(3):
        log.add(*batch(count=8, seed=seed))
        table, edges = log._counts
        sizes.append(table.histograms.nbytes + table.argmax.nbytes + edges.nbytes)
    assert len(set(sizes)) == 1


@pytest.mark.parametrize(
    "given",
    [
        lambda scores, masks: (torch.from_numpy(scores[:, 0]), torch.from_numpy(masks)[:, None]),
        lambda scores, masks: (torch.from_numpy(scores).double(), torch.from_numpy(masks).float()),
        lambda scores, masks: (scores, np.where(masks == 7, -1, masks.astype(np.int64))),
    ],
)
def test_the_usual_forms_of_a_batch_say_the_same(given, tmp_path):
    scores, masks = batch()
    logs = [PlateauLog(tmp_path / f"{name}.csv", ignore=-1) for name in "ab"]
    logs[0].add(scores, masks)
    logs[1].add(*given(scores, masks))
    assert repr(logs[0].measured()) == repr(logs[1].measured())


def test_what_is_ignored_is_not_counted(tmp_path):
    masks = batch()[1]
    wrong = np.where(masks == 1, 0.0, 1.0).astype(np.float32)[:, None]
    log = PlateauLog(tmp_path / "log.csv", ignore=-100)
    half = masks.astype(np.int64)
    half[:, :6] = -100
    mixed = np.where(half[:, None] == -100, wrong, masks[:, None]).astype(np.float32)
    log.add(mixed, half)
    assert log.measured().iou == 1.0


BAD = {
    "logits": (lambda s, m: (s * 8 - 4, m), "Apply the sigmoid"),
    "another size": (lambda s, m: (s[..., :8], m), "as large as `masks`"),
    "one map alone": (lambda s, m: (s[0, 0], m), "one map an image"),
    "three axes too many": (lambda s, m: (s, m[..., None, None]), "`masks` must be"),
    "ids beyond the channels": (lambda s, m: (s, m * 7), "ids below 2 for 1 channels; they hold 7"),
    "shares as ids": (lambda s, m: (s, m * 0.5), "hold 0.5"),
    "negative ids": (lambda s, m: (s, m.astype(int) - 1), "hold -1"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_batch_that_cannot_be_counted_is_refused_in_one_sentence(what, tmp_path):
    make, said = BAD[what]
    with pytest.raises(DataError, match=said):
        PlateauLog(tmp_path / "log.csv").add(*make(*batch()))


def test_answers_that_are_no_numbers_are_an_evaluation_without_a_score(tmp_path):
    log = PlateauLog(tmp_path / "log.csv", say=(said := []).append)
    for step in range(7):
        log.record(at(step, 0.5))
    scores, masks = batch()
    scores[0, 0, 0, 0] = np.nan
    log.add(scores, masks)
    assert math.isnan((epoch := log.measured()).iou)
    assert log.record(replace(epoch, step=7)) is CurveType.DIVERGING
    assert said[-1].startswith("Step 7: the curve is diverging.")
    log.add(*batch())
    assert math.isfinite(log.measured().iou)


def test_an_evaluation_without_a_batch_is_refused(tmp_path):
    with pytest.raises(UnplateauError, match="none was"):
        PlateauLog(tmp_path / "log.csv").measured()


# ---- the file and the type -----------------------------------------------------------------------------------


def test_a_line_is_said_when_the_type_changes_and_only_then(tmp_path):
    said: list[str] = []
    log = PlateauLog(tmp_path / "log.csv", say=said.append)
    for step, iou in enumerate([*np.linspace(0.1, 0.6, 8), *[0.6] * 8]):
        log.record(at(step, float(iou)))
    assert [line.partition(". ")[0] for line in said] == [
        "Step 5: the curve is still rising",
        f"Step {said[1].split(':')[0].split()[1]}: the curve is converged",
    ]
    assert log.type is CurveType.CONVERGED


def test_by_default_the_line_goes_to_the_logger_of_the_package(tmp_path, caplog):
    log = PlateauLog(tmp_path / "log.csv")
    for step in range(6):
        log.record(at(step, 0.5))
    assert [record.name for record in caplog.records] == ["unplateau"]


@pytest.mark.parametrize("ending", ["csv", "json"])
def test_a_run_that_goes_on_goes_on_in_its_log(ending, tmp_path):
    path = tmp_path / f"log.{ending}"
    first = PlateauLog(path)
    for step in range(5):
        first.record(replace(at(step, 0.1 * step), gradient_norm=math.nan))
    second = PlateauLog(path)
    assert repr(second.epochs) == repr(first.epochs)
    second.record(at(3, 0.9))
    assert [(epoch.step, epoch.iou) for epoch in read_epochs(path).epochs] == [(0, 0.0), (1, 0.1), (2, 0.2), (3, 0.9)]
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_the_json_names_the_type(tmp_path):
    log = PlateauLog(tmp_path / "log.json", say=lambda _: None)
    for step in range(6):
        log.record(at(step, 0.5))
    assert json.loads((tmp_path / "log.json").read_text())["type"] == "converged"


def test_a_log_that_cannot_be_is_refused(tmp_path):
    with pytest.raises(DataError, match="must end in"):
        PlateauLog(tmp_path / "log.txt")
    (tmp_path / "log.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="Move it away"):
        PlateauLog(tmp_path / "log.csv")
    (tmp_path / "log.json").write_text('{"epochs": [{"step": 1}]}')
    with pytest.raises(DataError, match="Move it away"):
        PlateauLog(tmp_path / "log.json")
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        PlateauLog(tmp_path / "file" / "log.csv").record(at(0, 0.5))


# ---- several processes ---------------------------------------------------------------------------------------


def of_rank(rank: int, folder: Path) -> None:
    """One of two processes: it sees its own batch, and the first one writes."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    log = PlateauLog(folder / "log.csv")
    log.add(*batch(seed=rank))
    log.record(replace(log.measured(), step=1))
    torch.distributed.destroy_process_group()


def test_two_processes_record_what_one_would(tmp_path):
    context = torch.multiprocessing.get_context("fork")
    processes = [context.Process(target=of_rank, args=(rank, tmp_path)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    alone = PlateauLog(tmp_path / "alone.csv")
    for rank in range(2):
        alone.add(*batch(seed=rank))
    alone.record(replace(alone.measured(), step=1))
    assert (tmp_path / "log.csv").read_text() == (tmp_path / "alone.csv").read_text()


# ---- Lightning -----------------------------------------------------------------------------------------------


def discs(count: int = 8) -> TensorDataset:
    """A bright half on noise."""
    generator = torch.Generator().manual_seed(0)
    masks = torch.zeros(count, *SIZE, dtype=torch.long)
    masks[:, :, 8:] = 1
    images = torch.rand(count, 3, *SIZE, generator=generator) * 0.5 + 0.5 * masks[:, None]
    return TensorDataset(images, masks)


class Plain(L.LightningModule):
    """A user's module, which knows nothing of us."""

    def __init__(self, gives: str = "dict") -> None:
        super().__init__()
        self.net, self.gives = nn.Conv2d(3, 1, 1), gives

    def training_step(self, batch: Any, _: int) -> Any:
        return F.binary_cross_entropy_with_logits(self.net(batch[0])[:, 0], batch[1].float())

    def validation_step(self, batch: Any, _: int) -> Any:
        logits = self.net(batch[0])
        self.log("val_loss", F.binary_cross_entropy_with_logits(logits[:, 0], batch[1].float()))
        answers = {"probabilities": logits.sigmoid(), "masks": batch[1]}
        return {"dict": answers, "tuple": tuple(answers.values()), "nothing": None}[self.gives]

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=2.0)


def lightning_run(folder: Path, callback: Any, module: Plain, epochs: int = 7) -> None:
    torch.manual_seed(0)
    loader = DataLoader(discs(), batch_size=4)
    trainer = L.Trainer(
        max_epochs=epochs,
        callbacks=[callback],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        accelerator="cpu",
        default_root_dir=folder,
    )
    trainer.fit(module, loader, loader)


@pytest.mark.filterwarnings("ignore::Warning")
def test_a_lightning_training_is_logged_and_typed(tmp_path):
    said: list[str] = []
    callback = LightningPlateau(tmp_path / "log.csv", say=said.append)
    lightning_run(tmp_path, callback, Plain())
    epochs = read_epochs(tmp_path / "log.csv").epochs
    assert [epoch.step for epoch in epochs] == [2, 4, 6, 8, 10, 12, 14]
    assert epochs[-1].iou > epochs[0].iou
    assert epochs[-1].val_loss < epochs[0].val_loss
    assert all(math.isfinite(epoch.train_loss) and epoch.learning_rate == 2.0 for epoch in epochs)
    assert said
    assert said[0].startswith("Step 12: ")


@pytest.mark.filterwarnings("ignore::Warning")
def test_a_lightning_module_may_give_a_tuple_or_be_read_otherwise(tmp_path):
    logs = [
        LightningPlateau(tmp_path / "a.csv"),
        LightningPlateau(tmp_path / "b.csv", read=lambda out, _: (out[0], out[1])),
    ]
    for callback in logs:
        torch.manual_seed(1)
        lightning_run(tmp_path, callback, Plain("tuple"), epochs=1)
    assert repr(logs[0].plateau.epochs) == repr(logs[1].plateau.epochs)
    with pytest.raises(DataError, match="it returned a NoneType"):
        lightning_run(tmp_path, LightningPlateau(tmp_path / "c.csv"), Plain("nothing"), epochs=1)


# ---- transformers --------------------------------------------------------------------------------------------


class Segmenter(nn.Module):
    """A user's model for the Trainer: logits at half the size, as SegFormer gives them at a quarter."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Conv2d(3, 2, 2, stride=2)

    def forward(self, pixel_values: Any, labels: Any = None) -> dict[str, Any]:
        logits = self.net(pixel_values)
        large = F.interpolate(logits, size=labels.shape[-2:], mode="bilinear")
        return {"loss": F.cross_entropy(large, labels), "logits": logits}


@pytest.mark.filterwarnings("ignore::Warning")
@pytest.mark.parametrize("by_batch", [True, False])
def test_a_training_of_transformers_is_logged_and_typed(by_batch, tmp_path):
    transformers = pytest.importorskip("transformers", reason="transformers is not here")
    pytest.importorskip("accelerate", reason="accelerate is not here")
    torch.manual_seed(0)
    rows = [{"pixel_values": image, "labels": mask} for image, mask in discs()]
    said: list[str] = []
    plateau = TransformersPlateau(tmp_path / "log.csv", say=said.append)
    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path / "out"),
        num_train_epochs=7,
        per_device_train_batch_size=4,
        per_device_eval_batch_size=4,
        eval_strategy="epoch",
        logging_steps=1,
        learning_rate=0.3,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
        batch_eval_metrics=by_batch,
    )
    model = Segmenter()
    trainer = transformers.Trainer(
        model=model,
        args=arguments,
        train_dataset=rows,
        eval_dataset=rows,
        callbacks=[plateau.callback()],
        compute_metrics=plateau.compute_metrics,
        preprocess_logits_for_metrics=plateau.score_batch,
    )
    trainer.train()
    epochs = read_epochs(tmp_path / "log.csv").epochs
    assert [epoch.step for epoch in epochs] == [2, 4, 6, 8, 10, 12, 14]
    assert all(math.isfinite(epoch.train_loss) and math.isfinite(epoch.val_loss) for epoch in epochs)
    images, masks = discs().tensors
    with torch.inference_mode():
        answers = F.interpolate(model(images, masks)["logits"], size=SIZE, mode="bilinear").softmax(1).numpy()
    wanted = epoch_of(score_images(answers, masks.numpy().astype(np.uint8)), np.zeros((1, 2, 3), np.int64))
    assert epochs[-1].iou == pytest.approx(wanted.iou)
    assert [row["eval_iou"] for row in trainer.state.log_history if "eval_iou" in row][-1] == pytest.approx(wanted.iou)
    assert said


def test_a_trainer_that_does_not_count_is_told_how(tmp_path):
    plateau = TransformersPlateau(tmp_path / "log.csv")
    with pytest.raises(UnplateauError, match="pass its `compute_metrics`"):
        plateau.record(1, {}, [])
    assert plateau.compute_metrics(None, compute_result=False) == {}


def test_without_transformers_the_callback_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtra, match="pip install transformers"):
        TransformersPlateau(tmp_path / "log.csv").callback()


def test_a_callback_of_another_name_is_none():
    import unplateau.callbacks

    with pytest.raises(AttributeError, match="no attribute 'KerasPlateau'"):
        _ = unplateau.callbacks.KerasPlateau
