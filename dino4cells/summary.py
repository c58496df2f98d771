"""The small table that a run ends with."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.table import Table

from dino4cells import storage
from dino4cells.artifacts import open_artifact
from dino4cells.classify.evaluate import KIND, METRICS, REPORT
from dino4cells.classify.wording import beside, compared
from dino4cells.features.store import load_features_card
from dino4cells.models.artifact import CLASSIFIER, artifact_of, load_card
from dino4cells.models.artifact import KIND as MODEL
from dino4cells.printable import as_markup

Metrics = dict[str, Any]
"""Of `metrics.json`, or a part of it."""
SCORES = ("accuracy", "balanced_accuracy", "macro_f1")
ROWS = {"trained": "trained network", "untrained": "same network, untrained", "intensity": "intensity statistics"}


def metrics_of(classification: str) -> Metrics:
    """`metrics.json` of a classification artifact.

    Raises:
        ArtifactError: it is not complete.
    """
    metrics: Metrics = json.loads(open_artifact(classification, KIND).read_bytes(METRICS))
    return metrics


def print_summary(classification: str, *, features: str, model: str | None, seconds: float | None = None) -> None:
    """Print what came out: cells, channels, classes, loss, scores beside the baselines, and where everything is.

    Raises:
        ArtifactError: one of the artifacts is not complete.
    """
    metrics = metrics_of(classification)
    card = load_features_card(features)
    console = Console(width=None if Console().is_terminal else 110, highlight=False)
    facts = [
        ("cells", f"{card.rows:,}" + (f", {card.failed_rows:,} unreadable" if card.failed_rows else "")),
        ("channels", f"{len(card.channels)}: {as_markup(', '.join(card.channels))}" if card.channels else "not known"),
        ("classes", f"{len(metrics['classes'])} ({as_markup(metrics['label'])}): {as_markup(', '.join(metrics['classes']))}"),
    ]
    trained = artifact_of(model) if model else None
    if trained and open_artifact(trained, MODEL, CLASSIFIER).manifest.kind == MODEL:
        training = load_card(trained).training
        facts.append(("loss", f"{training.loss_start:.3f} → {training.loss_end:.3f} over {training.epochs:.1f} epochs"))
        processes = f"{training.processes} process{'es' * (training.processes != 1)}"
        facts.append(("training", f"{training.images_per_second:,.0f} images/s, {training.seconds:,.0f} s, {processes}"))
    facts.append(("split", as_markup(metrics["split"])))
    console.print()
    table = Table.grid(padding=(0, 2))
    for name, value in facts:
        table.add_row(f"[bold]{name}[/bold]", value)
    console.print(table)
    console.print()
    console.print(_scores(metrics))
    for sentence in _differences(metrics):
        console.print(sentence)
    console.print(f"Intervals: resamples of {as_markup(metrics['resampled'])}.")
    if metrics["nearest_not_same"]:
        console.print()
        console.print(_nearest(metrics["nearest_not_same"]))
    for warning in metrics["warnings"]:
        console.print(f"[yellow]note:[/yellow] {as_markup(warning)}")
    console.print()
    places = [
        ("report", storage.join(classification, REPORT)),
        ("model", model),
        ("features", features),
        ("classification", classification),
    ]
    for name, url in places:
        if url:
            print(f"{name + ':':<16}{url}")
    if seconds is not None:
        print(f"{'took:':<16}{seconds // 60:.0f} min {seconds % 60:.0f} s")


def _scores(metrics: Metrics) -> Table:
    table = Table(
        title="On cells that the classifier has not seen, with intervals of 95 %", title_justify="left", title_style="bold", show_lines=True
    )
    table.add_column("features")
    table.add_column("classifier")
    for score in ("accuracy", "balanced", "macro F1"):
        table.add_column(score, justify="right", no_wrap=True)
    for name, results in metrics["results"].items():
        for kind, title in (("knn", f"{metrics['neighbours']}-NN"), ("linear", "linear probe")):
            cells = [beside(results[kind][score], results[kind]["intervals"][score], "\n") for score in SCORES]
            table.add_row(ROWS[name], title, *cells, style="bold" if name == "trained" else None)
    return table


def _nearest(nearest: Metrics) -> Table:
    table = Table(
        title=f"Nearest profile that differs in {as_markup(' and '.join(nearest['columns']))}", title_justify="left", title_style="bold"
    )
    table.add_column("features")
    table.add_column("has the same class", justify="right")
    table.add_column("trained is better by", justify="right")
    for name, found in nearest["results"].items():
        better = nearest["differences"].get(name)
        cells = beside(found["accuracy"], found["interval"]), beside(better["value"], better["interval"]) if better else ""
        table.add_row(ROWS[name], *cells, style="bold" if name == "trained" else None)
    table.add_row("chance", f"{nearest['chance']:.3f}", "")
    table.caption = f"{nearest['judged']:,} profiles judged, {nearest['not_judged']:,} whose class occurs nowhere else are not"
    table.caption_justify = "left"
    return table


def _differences(metrics: Metrics) -> Iterator[str]:
    """A sentence for each classifier: by how much the trained features are better than every baseline."""
    for kind, title in (("knn", f"{metrics['neighbours']}-NN"), ("linear", "linear probe")):
        sentences = [
            compared(ROWS[name], by_classifier[kind]["balanced_accuracy"]) for name, by_classifier in metrics["differences"].items()
        ]
        if sentences:
            yield f"{title}, balanced accuracy: {'; '.join(sentences)}"
