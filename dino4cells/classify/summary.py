"""The small table that training a classifier ends with."""

from __future__ import annotations

import json

from rich.console import Console
from rich.table import Table

from dino4cells.artifacts import open_artifact
from dino4cells.classify.classifier import KIND, METRICS

TITLES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced",
    "macro_f1": "macro F1",
    "micro_f1": "micro F1",
    "macro_f1_at_half": "macro F1\nat 0.5",
    "macro_average_precision": "average\nprecision",
}


def print_scores(classifier: str) -> None:
    """Print the scores of every part, how the cells were split, and where everything is.

    Raises:
        ArtifactError: the artifact is not complete.
    """
    metrics = json.loads(open_artifact(classifier, KIND).read_bytes(METRICS))
    console = Console(width=None if Console().is_terminal else 110, highlight=False)
    facts = Table.grid(padding=(0, 2))
    classes = metrics["classes"]
    facts.add_row("[bold]classes[/bold]", f"{len(classes)}: {', '.join(classes[:8])}{', …' if len(classes) > 8 else ''}")
    facts.add_row("[bold]split[/bold]", metrics["split"])
    facts.add_row("[bold]training[/bold]", f"{metrics['epochs']:.1f} epochs, of which epoch {metrics['kept_epoch']:.1f} is kept")
    console.print()
    console.print(facts)
    console.print()
    console.print(_table(metrics))
    for warning in metrics["warnings"]:
        console.print(f"[yellow]note:[/yellow] {warning}")
    print(f"{'classifier:':<16}{classifier}")


def _table(metrics: dict[str, dict[str, dict[str, float]]]) -> Table:
    table = Table()
    table.add_column("cells")
    table.add_column("judged", justify="right")
    names = list(next(iter(metrics["scores"].values()), {}))
    for name in names:
        table.add_column(TITLES[name], justify="right")
    for part, scores in metrics["scores"].items():
        judged = metrics["judged"][part]
        table.add_row(part, f"{judged:,}", *(f"{scores[name]:.3f}" for name in names), style="bold" if part == "valid" else None)
    return table
