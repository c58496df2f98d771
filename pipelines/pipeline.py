"""The pipeline: train → extract → classify. The same function is compiled for a cluster and run on a laptop."""

from pathlib import Path
from typing import NamedTuple

from kfp import compiler, dsl

from dino4cells.components import classify, extract, train

COMPILED = Path(__file__).parent / "dino4cells.yaml"


class Outputs(NamedTuple):
    """Artifacts of a run."""

    model: dsl.Model
    features: dsl.Dataset
    classification: dsl.Artifact


@dsl.pipeline(
    name="dino4cells",
    description="Self-supervised features of single cells: train a DINO model, extract every cell, judge the features by classifiers.",
)
def dino4cells_pipeline(
    data: str = "",
    preset: str = "",
    config: str = "",
    overrides: str = "",
    label: str = "",
    group: str = "",
    processes: int = 1,
    launcher: str = "local",
    baselines: bool = True,
) -> Outputs:
    """Train, extract, classify.

    Args:
        data: Directory or URL (s3://…) that holds a metadata.csv (column 'file', a row a cell). Empty: the configuration's, or simulated.
        preset: Settings to start from: 'small', 'small-fluorescence' (brightness says nothing) or 'handbook'. Empty: what suits the data.
        config: A config.yaml of the handbook, its text or its URL; its keys override the preset.
        overrides: Single keys that override both, such as 'epochs=20 model.seed=1'.
        label: Column with the classes. Empty: the configuration's, else protein_location if there, else cell_type.
        group: Column whose values never straddle a train/test split, such as plate. Empty: the configuration's, else none.
        processes: Training processes; one per GPU, or a few that share the cores of a CPU.
        launcher: 'local': in the train step's pod. 'pytorchjob': as a PyTorchJob over several pods (not available yet).
        baselines: Also judge the untrained network and intensity statistics, to compare with.
    """
    trained = train(data=data, preset=preset, config=config, overrides=overrides, processes=processes, launcher=launcher)
    extracted = extract(model=trained.outputs["model"], data=data, baselines=baselines)
    judged = classify(model=trained.outputs["model"], features=extracted.outputs["features"], data=data, label=label, group=group)
    return Outputs(trained.outputs["model"], extracted.outputs["features"], judged.outputs["classification"])


def compile_pipeline(path: Path = COMPILED) -> Path:
    """Write the pipeline as the YAML that the Kubeflow UI takes; returns the path."""
    compiler.Compiler().compile(dino4cells_pipeline, str(path))
    return path
