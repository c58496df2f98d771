"""The page of a training: whether the network learned, how fast, and what was trained."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import dino4cells
from dino4cells import storage
from dino4cells.models.artifact import ModelCard
from dino4cells.report.curves import loss_caption, loss_over_images, schedule_curves, speed_curve
from dino4cells.report.elements import Fact, document, fact_table, folded, plot, rate, summary
from dino4cells.report.findings import plateau_warnings, summarize_loss
from dino4cells.report.scripts import page_scripts

Records = Sequence[Mapping[str, float]]


def training_page(card: ModelCard, log: Records, *, plateau: float | None = None, settings: str = "") -> str:
    """The whole page as HTML, self-contained; every text from the data is escaped.

    Args:
        card: `model.json`.
        log: Records of `log.jsonl`, one per logged step.
        plateau: Loss of a network whose outputs are uniform, ln(out_dim), where known.
        settings: Resolved configuration as text.
    """
    title = f"Training on {storage.name(storage.parent(card.data)) or card.data}"
    facts, warnings = _facts(card, log), _warnings(card, log, plateau)
    sections = [summary(title, _headline(card, log), facts, warnings), _curves(log, plateau), _speed(log), _trained(card, settings)]
    footer = f"dino4cells {dino4cells.__version__}, configuration {card.config_fingerprint[:12]}, data {card.data_fingerprint[:12]}"
    return document(title, sections, footer, page_scripts())


def _headline(card: ModelCard, log: Records) -> str:
    training, loss = card.training, summarize_loss(log)
    channels = _count(len(card.channels), "channel")
    sentence = f"{card.arch} was trained on {training.images:,} images of {channels} for {_epochs(training.epochs)}"
    if loss is None:
        return f"{sentence}."
    change = f"went from {loss.start:.2f} to {loss.end:.2f}" if len(log) > 1 else f"was {loss.end:.2f} in the only step that was logged"
    return f"{sentence}; the loss {change}."


def _facts(card: ModelCard, log: Records) -> list[Fact]:
    training, loss = card.training, summarize_loss(log)
    return [
        Fact("Loss, start → end", f"{loss.start:.2f} → {loss.end:.2f}" if loss else "–"),
        Fact("Images seen", f"{training.samples_seen:,}", f"{_epochs(training.epochs)} of {training.images:,}"),
        Fact("Images per second", rate(training.images_per_second), _count(training.processes, "process", "processes")),
        *_use_of_the_machine(card),
        Fact("Time", _duration(training.seconds), "since it was last resumed" if _resumed(card) else ""),
        Fact("Channels", f"{len(card.channels)}", ", ".join(card.channels)),
    ]


def _use_of_the_machine(card: ModelCard) -> list[Fact]:
    training, found = card.training, []
    if training.data_wait is not None:
        found.append(Fact("Waiting for images", f"{training.data_wait:.0%}", "of the time"))
    if training.memory_gib is not None:
        found.append(Fact("Memory", f"{training.memory_gib:.1f} GiB", "the most that a process held"))
    return found


def _warnings(card: ModelCard, log: Records, plateau: float | None) -> list[str]:
    found, bad = [], card.training.bad_images
    if bad:
        found.append(
            f"{bad:,} of {card.training.images:,} images could not be read and were left out; the log of this step lists the first of "
            "them, and 'dino4cells data validate' lists all."
        )
    if not log:
        found.append("The artifact holds no records of the training, so there are no curves.")
    return found + plateau_warnings(log, plateau)


def _curves(log: Records, plateau: float | None) -> str:
    if summarize_loss(log) is None:
        return ""
    loss = loss_over_images(log, plateau)
    html = "<h2>Loss</h2>\n" + plot(loss, "svg+xml", "Loss over the images seen", loss_caption(plateau), wide=True)
    schedules = schedule_curves(log)
    if schedules:
        html += "\n<h3>Schedules</h3>\n" + plot(
            schedules, "svg+xml", "Learning rate, weight decay, momentum and temperature of the teacher over the images seen", "", wide=True
        )
    return html


def _speed(log: Records) -> str:
    picture = speed_curve(log)
    if picture is None:
        return ""
    caption = "Between two logged steps; a slow beginning is the first reading of the images."
    if any("data_wait" in record for record in log):
        caption += " Time spent waiting for images would be saved by more reading processes (model.num_workers) or a nearer store."
    return "<h2>Throughput</h2>\n" + plot(picture, "svg+xml", "Images per second over the images seen", caption, wide=True)


def _trained(card: ModelCard, settings: str) -> str:
    training = card.training
    unread = f"of which {training.bad_images:,} could not be read" if training.bad_images else "all readable"
    rows = {
        "Architecture": f"{card.arch}, patches of {card.patch_size} px" if card.arch.startswith("vit") else card.arch,
        "Features": f"{card.embedding_dim} a cell",
        "Channels": ", ".join(card.channels),
        "Image mode": card.image_mode + ("" if card.in_channels is None else f", {_count(card.in_channels, 'channel')} to the network"),
        "Data": card.data,
        "Images": f"{training.images:,}, {unread}",
        "Images seen": f"{training.samples_seen:,} ({_epochs(training.epochs)})",
        "Processes": f"{training.processes:,}, on {training.device}",
        "Starting weights": "; ".join(card.init) or f"random, seed {card.seed}",
        "Versions": ", ".join(f"{name} {version}" for name, version in card.versions.items()),
        "Data fingerprint": card.data_fingerprint,
        "Configuration fingerprint": card.config_fingerprint,
    }
    return "<h2>What was trained</h2>\n" + fact_table(rows) + folded("Settings", settings)


def _resumed(card: ModelCard) -> bool:
    """Whether time and speed are of the last part of the run alone: they do not explain all images seen."""
    training = card.training
    return training.images_per_second * training.seconds < 0.99 * training.samples_seen


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"


def _duration(seconds: float) -> str:
    """ "40 s", "12 min", "3 h 20 min"."""
    if not math.isfinite(seconds):
        return "–"
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60:,} h {minutes % 60} min"


def _epochs(count: float) -> str:
    return "1 epoch" if count == 1 else f"{count:,.3g} epochs"
