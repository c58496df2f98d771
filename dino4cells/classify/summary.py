"""The small table that training a classifier ends with."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dino4cells.artifacts import open_artifact
from dino4cells.classify.baselines import GUESSING, PROBE
from dino4cells.classify.classifier import KIND, METRICS
from dino4cells.classify.wording import beside, compared
from dino4cells.printable import as_markup, printable

Metrics = dict[str, Any]
"""Of `metrics.json`, or a part of it."""

TITLES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced",
    "macro_f1": "macro F1",
    "micro_f1": "micro F1",
    "macro_f1_at_half": "macro F1\nat 0.5",
    "macro_average_precision": "average\nprecision",
    "micro_average_precision": "micro av.\nprecision",
}
BASELINES = {GUESSING: "guessing", PROBE: "linear probe"}
LISTED_CLASSES = 60


def scores_of(classifier: str) -> Metrics:
    """`metrics.json` of a classifier artifact.

    Raises:
        ArtifactError: it is not complete.
    """
    metrics: Metrics = json.loads(open_artifact(classifier, KIND).read_bytes(METRICS))
    return metrics


def print_scores(classifier: str) -> None:
    """Print the scores of every part, how the cells were split, and where everything is.

    Raises:
        ArtifactError: the artifact is not complete.
    """
    metrics = scores_of(classifier)
    console = Console(width=None if Console().is_terminal else 110, highlight=False)
    facts = Table.grid(padding=(0, 2))
    classes = metrics["classes"]
    facts.add_row("[bold]classes[/bold]", f"{len(classes)}: {as_markup(', '.join(classes[:8]))}{', …' if len(classes) > 8 else ''}")
    facts.add_row("[bold]split[/bold]", as_markup(metrics["split"]))
    facts.add_row("[bold]training[/bold]", f"{metrics['epochs']:.1f} epochs, of which epoch {metrics['kept_epoch']:.1f} is kept")
    console.print()
    console.print(facts)
    console.print()
    console.print(_table(metrics))
    for sentence in _differences(metrics):
        console.print(sentence)
    judged = "test" if "test" in metrics["scores"] else "valid"
    if judged in metrics["by_class"]:
        console.print(f"Intervals: resamples of {as_markup(metrics['resampled'][judged])}.")
        console.print()
        console.print(_by_class(metrics["by_class"][judged], judged))
    for warning in metrics["warnings"]:
        console.print(f"[yellow]note:[/yellow] {as_markup(warning)}")
    print(f"{'classifier:':<16}{classifier}")


def _table(metrics: Metrics) -> Table:
    table = Table(box=None, padding=(0, 1, 1, 0))  # five scores with their intervals fit 80 columns
    table.add_column("cells")
    names = list(next(iter(metrics["scores"].values()), {}))
    for name in names:
        table.add_column(TITLES[name], justify="right", no_wrap=True)
    for part, scores in metrics["scores"].items():
        cells = [beside(scores[name], metrics["intervals"][part].get(name), "\n") for name in names]
        table.add_row(f"{part}, {metrics['judged'][part]:,}", *cells, style="bold" if part == "valid" else None)
        for baseline, found in metrics["baselines"].get(part, {}).items():
            cells = [beside(found["scores"][name], found["intervals"].get(name), "\n") for name in names]
            table.add_row(f"  {BASELINES[baseline]}", *cells)
    return table


def _differences(metrics: Metrics) -> Iterator[str]:
    """A sentence for each part: by how much the head is better than the baselines."""
    for part, by_baseline in metrics["differences"].items():
        sentences = [compared(BASELINES[name], found["macro_f1"]) for name, found in by_baseline.items() if "macro_f1" in found]
        if sentences:
            yield f"{part}, macro F1: {'; '.join(sentences)}"


def _by_class(rows: list[Metrics], part: str) -> Table:
    several = bool(rows) and "average_precision" in rows[0]
    listed = sorted(rows, key=lambda row: -row["cells"])[:LISTED_CLASSES]
    more = f", the {LISTED_CLASSES} largest of {len(rows)}" if len(rows) > LISTED_CLASSES else ""
    title = f"By class, cells of {part}{more}"
    table = Table(title=title, title_justify="left", title_style="bold", box=None, padding=(0, 1, 0, 0))
    table.add_column("class", overflow="fold")
    for name in ("cells", "precision", "recall", "F1", *(["average precision"] if several else [])):
        table.add_column(name, justify="right", no_wrap=True)
    for row in listed:
        cells = [f"{row['cells']:,}", f"{row['precision']:.3f}", f"{row['recall']:.3f}", beside(row["f1"], row["f1_interval"])]
        cells += [beside(row["average_precision"], row["average_precision_interval"])] if several else []
        table.add_row(Text(printable(row["class"])), *cells)
    return table
