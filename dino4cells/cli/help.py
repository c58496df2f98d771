"""The list of commands: which there are, for whom, and each in a line."""

from __future__ import annotations

from typing import Any, Final

from typer.core import TyperGroup

SECTIONS: Final = {
    "Commands": {
        "simulate": "Draw cells to try everything on.",
        "data": "Look at a table of cells and its images, or pack them.",
        "train": "Train a model on images, without labels.",
        "extract": "Write the features of every cell.",
        "classify": "Judge features by classifiers, or train a classifier.",
        "predict": "Apply a classifier to new cells.",
        "profiles": "Normalize and aggregate features to profiles.",
        "features": "Write features as one file for other tools.",
        "export": "Write a model as one file for other runtimes.",
        "config": "Print the configuration, or say where it comes from.",
    },
    "The pipeline, and clusters": {
        "run": "Run the whole pipeline on this machine.",
        "pipeline": "Write the pipeline for the Kubeflow UI, or start it.",
        "job": "Train and extract as a PyTorchJob.",
        "doctor": "Say what a job would miss on a cluster.",
    },
}
SUMMARIES: Final = {name: summary for section in SECTIONS.values() for name, summary in section.items()}


class Commands(TyperGroup):
    """The commands, in the order and the sections of `SECTIONS`."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Names in this order, for the help and for the shell."""
        return [name for name in SUMMARIES if name in self.commands]

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the sections."""
        for title, summaries in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl(list(summaries.items()))
