"""Training a classifier: each class against the rest, validated after every epoch (HANDBOOK, classification).

Dimensions: B batch of this process, N cells, K classes.
"""

from __future__ import annotations

import copy
import time

import numpy as np
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from dino4cells.classify.classifier import Classifier
from dino4cells.classify.inputs import LabelledInputs
from dino4cells.classify.labels import Task
from dino4cells.classify.logits import logits_of
from dino4cells.classify.losses import LOSSES, balanced_weights
from dino4cells.classify.resume import Progressed, Record, ResumePlace
from dino4cells.classify.scores import Floats, HeadScores, head_scores
from dino4cells.config import ClassificationConfig
from dino4cells.data.sampler import SampleOrder, SampleStream
from dino4cells.errors import ConfigError
from dino4cells.progress import Progress
from dino4cells.training.batch_norm import synchronize_batch_norm
from dino4cells.training.distributed import ProcessGroup, sum_over_ranks
from dino4cells.training.interruption import CHECK_EVERY, any_process, stop_signal
from dino4cells.training.optimizer import set_rates
from dino4cells.training.precision import mixed_precision
from dino4cells.training.schedules import Cosine

WORTH_SAVING = 60.0
"""Seconds of training after which its end is saved too."""


def sample_order(targets_NK: Floats, balance: bool) -> SampleOrder:
    """Which training cells an epoch draws: every class equally often (a class, then one of its cells), or every cell once.

    Balanced, a cell without any label is never drawn, as in the paper's script.
    """
    if not balance:
        return SampleOrder.of_rows(len(targets_NK))
    rows_M, classes_M = np.nonzero(targets_NK)
    return SampleOrder.balanced(rows_M, np.unique(classes_M, return_inverse=True)[1])


class HeadTraining:
    """A run: what learns, from what, and by which settings.

    Args:
        classifier: on the device of `group`.
        task: what it predicts.
        train, valid: the cells; the training cells' labels are all known.
        settings: section `classification`.
        group: the processes; a step's cells are shared by them.
        precision: arithmetic of the backbone.
    """

    def __init__(
        self,
        classifier: Classifier,
        task: Task,
        train: LabelledInputs,
        valid: LabelledInputs,
        settings: ClassificationConfig,
        group: ProcessGroup,
        precision: torch.dtype = torch.float32,
    ) -> None:
        self.classifier, self.task, self.train, self.valid = classifier, task, train, valid
        self.settings, self.group, self.precision = settings, group, precision
        self.targets_NK = torch.from_numpy(train.targets_NK).to(group.device)
        self.weights_NK = balanced_weights(self.targets_NK, task.several) if _weighs_classes(settings) else None
        self.order = sample_order(train.targets_NK, settings.balance)
        self.batch_size = _batch_size(settings, len(self.order), group)
        total = self._stream(0).total
        # As in the paper's script, by the batch that is configured, also where the cells are fewer.
        peak = settings.lr * settings.batch_size_per_gpu * group.world_size / 256
        flat = settings.schedule == "Flat"
        self.lr = Cosine(peak, peak if flat else min(settings.min_lr, peak), total)
        self.weight_decay = Cosine(settings.wd, settings.wd if flat else settings.wd_end, total)
        synchronize_batch_norm(classifier, group)
        self.optimizer = _optimizer(classifier, settings)
        self._over_ranks: nn.Module = classifier
        if group.world_size > 1:
            ids = [group.device] if group.device.type == "cuda" else None
            self._over_ranks = DistributedDataParallel(classifier, device_ids=ids)

    def _stream(self, start: int) -> SampleStream:
        settings, group = self.settings, self.group
        return SampleStream(self.order, settings.epochs, self.batch_size, settings.seed, start, group.rank, group.world_size)

    def step(self, inputs: torch.Tensor, rows_B: torch.Tensor, seen: int) -> torch.Tensor:
        """One step on the cells of this process, after `seen` samples over all processes.

        Returns:
            The mean loss over the cells of all processes, detached, up to a factor whose mean over the processes is 1.
        """
        torch.manual_seed(hash((self.settings.seed, seen, self.group.rank)) & 0xFFFFFFFF)  # dropout, stochastic depth
        self.classifier.train()
        with mixed_precision(self.group.device, self.precision):
            logits_BK = self._over_ranks(inputs)
        losses_BK = LOSSES[self.settings.loss](logits_BK, self.targets_NK[rows_B])
        if self.weights_NK is not None:
            losses_BK = losses_BK * self.weights_NK[rows_B]
        # DDP takes a plain mean over processes; every cell weighs the same, also where one has fewer, because images could not be read.
        cells = sum_over_ranks(torch.tensor(float(len(rows_B)), device=self.group.device)).clamp(min=1)
        loss = losses_BK.sum() / losses_BK.shape[1] * self.group.world_size / cells
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        set_rates(self.optimizer, self.lr(seen), self.weight_decay(seen))
        self.optimizer.step()
        return loss.detach()

    def run(self, resume: ResumePlace | None = None) -> Progressed:
        """Train to the end, or until validation has not improved for `early_stopping` epochs; the classifier has the kept epoch's weights.

        Raises:
            ConfigError: the loss is no number.
            Interrupted: the run was asked to stop; a checkpoint was written.
        """
        state = resume.resume(self.classifier, self.optimizer, self.group) if resume is not None else Progressed()
        stream, epoch_length = self._stream(state.seen), len(self.order)
        begun = saved = time.monotonic()
        is_over = self._is_stuck(state)
        with (
            Progress("classify", stream.total, done=state.seen, unit="cells", enabled=self.group.is_first) as progress,
            stop_signal() as stop,
        ):
            steps = () if is_over else self.train.inputs.steps(stream)
            for number, (inputs, rows_B) in enumerate(steps, start=1):
                state.losses.append(self.step(inputs, rows_B, state.seen))
                before, state.seen = state.seen, state.seen + self.batch_size
                last, note = number == len(stream), None
                if last or state.seen // epoch_length > before // epoch_length:
                    record = self._validate(state)
                    note = f"epoch {record['epoch']:.0f}/{self.settings.epochs} · loss {record['loss']:.3f}"
                    note = f"{note} · F1 {record['valid_macro_f1']:.3f}"
                    last = last or self._is_stuck(state)
                progress.advance(self.batch_size, note)
                if last:
                    break
                if resume is not None and number % CHECK_EVERY[self.group.device.type] == 0:
                    asked, late = any_process(stop(), time.monotonic() - saved > 60 * resume.minutes, self.group)
                    if asked or late:
                        resume.save(state, self.classifier, self.optimizer, self.group)
                        saved = time.monotonic()
                    if asked:
                        raise stop.interrupted(state.seen, stream.total, resume.directory, "cells")
            # What comes after it, the judgement of all cells, may be interrupted too.
            if resume is not None and any_process(False, time.monotonic() - begun > WORTH_SAVING, self.group)[1]:
                resume.save(state, self.classifier, self.optimizer, self.group)
        if state.best_weights is not None:
            self.classifier.load_state_dict(state.best_weights)
        return state

    def _validate(self, state: Progressed) -> Record:
        """Judge the validation cells and remember the epoch."""
        losses, state.losses = torch.stack(state.losses), []
        summed = sum_over_ranks(torch.stack([losses.sum(), torch.tensor(float(len(losses)), device=self.group.device)]))
        loss = float(summed[0] / summed[1])
        if not np.isfinite(loss):
            raise ConfigError(
                f"classification.lr: the loss is {loss} after {state.seen:,} cells, so training cannot go on; lower classification.lr "
                f"({self.settings.lr})."
            )
        valid_loss, scores = self.judge(self.valid)
        epoch = state.seen / len(self.order)
        record = {
            "samples": float(state.seen),
            "epoch": round(epoch, 4),
            "loss": loss,
            "lr": self.lr(state.seen),
            "weight_decay": self.weight_decay(state.seen),
            "valid_loss": valid_loss,
            **{f"valid_{name}": value for name, value in scores.values.items()},
        }
        state.records.append(record)
        if self.settings.early_stopping < 0:
            state.best_epoch = epoch
        elif scores.main > state.best_score:
            state.best_score, state.best_epoch = scores.main, epoch
            state.best_weights = copy.deepcopy({name: value.cpu() for name, value in self.classifier.state_dict().items()})
        return record

    def _is_stuck(self, state: Progressed) -> bool:
        patience = self.settings.early_stopping
        return patience >= 0 and state.seen / len(self.order) - state.best_epoch >= max(1, patience)

    def judge(self, part: LabelledInputs) -> tuple[float, HeadScores]:
        """Mean loss and scores of cells, of those whose label is known and whose image could be read."""
        logits_NK = logits_of(self.classifier, part.inputs, len(self.task.classes), self.group, self.precision)
        judged_N = part.known_N & np.isfinite(logits_NK).all(axis=1)
        logits, targets = logits_NK[judged_N], part.targets_NK[judged_N]
        losses = LOSSES[self.settings.loss](torch.from_numpy(logits), torch.from_numpy(targets))
        return float(losses.mean()) if len(losses) else float("nan"), head_scores(self.task, logits, targets)


def _batch_size(settings: ClassificationConfig, epoch: int, group: ProcessGroup) -> int:
    """Cells of a step over all processes: as configured, at most an epoch, the same for every process."""
    largest = epoch // group.world_size * group.world_size
    if not largest:
        raise ConfigError(f"--processes: {group.world_size} processes share {epoch} training cells of an epoch; start at most {epoch}.")
    return min(settings.batch_size_per_gpu * group.world_size, largest)


def _weighs_classes(settings: ClassificationConfig) -> bool:
    if settings.class_weights == "balanced" and settings.balance:
        raise ConfigError(
            "classification.class_weights is balanced and classification.balance is true, which draws every class equally often already; "
            "set balance to false, or class_weights to none."
        )
    return settings.class_weights == "balanced"


def _optimizer(classifier: Classifier, settings: ClassificationConfig) -> torch.optim.Optimizer:
    """AdamW or plain gradient descent; weights decay, and biases and norms do not."""
    learning = [parameter for parameter in classifier.parameters() if parameter.requires_grad]
    groups: list[dict[str, object]] = [
        {"params": [parameter for parameter in learning if parameter.ndim > 1], "decays": True},
        {"params": [parameter for parameter in learning if parameter.ndim <= 1], "decays": False, "weight_decay": 0.0},
    ]
    groups = [entry for entry in groups if entry["params"]]
    return torch.optim.SGD(groups, lr=0.0) if settings.optimizer == "SGD" else torch.optim.AdamW(groups, lr=0.0)
