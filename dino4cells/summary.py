"""The small table that a run ends with."""

from __future__ import annotations

import json

from rich.console import Console
from rich.table import Table

from dino4cells import storage
from dino4cells.artifacts import open_artifact
from dino4cells.classify.evaluate import KIND, METRICS, REPORT
from dino4cells.features.store import load_features_card
from dino4cells.models.artifact import artifact_of, load_card

ROWS = {"trained": "trained network", "untrained": "same network, untrained", "intensity": "intensity statistics"}


def print_summary(classification: str, *, features: str, model: str | None, seconds: float | None = None) -> None:
    """Print what came out: cells, channels, classes, loss, scores beside the baselines, and where everything is.

    Raises:
        ArtifactError: one of the artifacts is not complete.
    """
    metrics = json.loads(open_artifact(classification, KIND).read_bytes(METRICS))
    card = load_features_card(features)
    console = Console(width=None if Console().is_terminal else 110, highlight=False)
    facts = [
        ("cells", f"{card.rows:,}" + (f", {card.failed_rows:,} unreadable" if card.failed_rows else "")),
        ("channels", f"{len(card.channels)}: {', '.join(card.channels)}" if card.channels else "not known"),
        ("classes", f"{len(metrics['classes'])} ({metrics['label']}): {', '.join(metrics['classes'])}"),
    ]
    trained = artifact_of(model) if model else None
    if trained:
        training = load_card(trained).training
        facts.append(("loss", f"{training.loss_start:.3f} → {training.loss_end:.3f} over {training.epochs:.1f} epochs"))
        facts.append(("training", f"{training.images_per_second:,.0f} images/s, {training.seconds:,.0f} s, {training.processes} processes"))
    facts.append(("split", metrics["split"]))
    console.print()
    table = Table.grid(padding=(0, 2))
    for name, value in facts:
        table.add_row(f"[bold]{name}[/bold]", value)
    console.print(table)
    console.print()
    console.print(_scores(metrics))
    for warning in metrics["warnings"]:
        console.print(f"[yellow]note:[/yellow] {warning}")
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


def _scores(metrics: dict[str, dict[str, dict[str, dict[str, float]]]]) -> Table:
    table = Table(title="Cross-validated on cells that the classifier has not seen", title_justify="left", title_style="bold")
    table.add_column("features")
    for classifier in ("10-NN", "linear probe"):
        for score in ("accuracy", "balanced", "macro F1"):
            table.add_column(f"{classifier}\n{score}", justify="right")
    for name, results in metrics["results"].items():
        scores = [results[kind][score] for kind in ("knn", "linear") for score in ("accuracy", "balanced_accuracy", "macro_f1")]
        table.add_row(ROWS[name], *(f"{value:.3f}" for value in scores), style="bold" if name == "trained" else None)
    return table
