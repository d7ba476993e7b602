"""What the training loops of all stages share: their arguments, where they go on, their progress and curves."""

import csv
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback
from transformers.trainer_utils import get_last_checkpoint

from penstock.models.train.plan import Plan, Stage

CURVES = "curves.csv"
COLUMNS = ("stage", "step", "loss", "learning_rate", "seconds")
LOG_EVERY = 10
BETA2, DECAY, CLIP = 0.98, 0.01, 1.0
"""AdamW's second moment over fewer steps than usual, since there are few; weight decay; largest gradient norm."""


def arguments(plan: Plan, stage: Stage, folder: Path, keep: int) -> dict[str, Any]:
    """For the trainers of transformers and sentence-transformers alike. ``keep`` checkpoints stay on disk."""
    return {
        "output_dir": str(folder),
        "max_steps": stage.steps,
        "per_device_train_batch_size": stage.batch,
        "learning_rate": stage.rate,
        "lr_scheduler_type": "cosine",
        "warmup_steps": max(1, round(stage.steps * stage.warmup)),
        "adam_beta2": BETA2,
        "weight_decay": DECAY,
        "max_grad_norm": CLIP,
        "bf16": plan.precision == "bf16",
        "use_cpu": not torch.cuda.is_available(),
        "save_steps": stage.save_every,
        "save_total_limit": keep,
        "logging_steps": LOG_EVERY,
        "seed": plan.seed,
        "data_seed": plan.seed,
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": torch.cuda.is_available(),
    }


def last_checkpoint(folder: Path) -> str | None:
    """Where an interrupted stage goes on."""
    checkpoint: str | None = get_last_checkpoint(str(folder)) if folder.is_dir() else None
    return checkpoint


def checkpoints(folder: Path) -> list[Path]:
    """All that are left, the oldest first."""
    return sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))


class Progress(TrainerCallback):  # type: ignore[misc]  # Any, to mypy
    """Moves a progress bar and writes the curves, one line per ``LOG_EVERY`` steps."""

    def __init__(self, curves: Path, stage: str, advance: Callable[[int], None]) -> None:
        self._curves, self._stage, self._advance = curves, stage, advance
        self._started, self._step = time.monotonic(), 0

    def on_train_begin(self, _args: Any, state: Any, _control: Any, **_: Any) -> None:
        """A stage that goes on has steps behind it; what was logged after its checkpoint is done again."""
        self._step = state.global_step
        self._advance(state.global_step)
        rows: list[tuple[str, ...]] = [COLUMNS]
        if self._curves.is_file():
            with self._curves.open(newline="") as file:
                old = list(csv.reader(file))[1:]
            rows += [tuple(row) for row in old if row[0] != self._stage or int(row[1]) <= state.global_step]
        with self._curves.open("w", newline="") as file:
            csv.writer(file).writerows(rows)

    def on_step_end(self, _args: Any, state: Any, _control: Any, **_: Any) -> None:
        """One more."""
        self._advance(state.global_step - self._step)
        self._step = state.global_step

    def on_log(self, _args: Any, state: Any, _control: Any, logs: Any = None, **_: Any) -> None:
        """The mean loss since the last line."""
        if logs and "loss" in logs:
            seconds = round(time.monotonic() - self._started, 1)
            with self._curves.open("a", newline="") as file:
                csv.writer(file).writerow(
                    [self._stage, state.global_step, logs["loss"], logs["learning_rate"], seconds]
                )
