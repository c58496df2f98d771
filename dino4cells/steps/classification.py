"""The verb `classify`: judge features, or train a head or a whole network."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from dino4cells import storage
from dino4cells.artifacts import ArtifactWriter
from dino4cells.cluster.entry import leave
from dino4cells.cluster.job import JobSpec, Processes
from dino4cells.config import Config
from dino4cells.features.store import read_features
from dino4cells.lease import held
from dino4cells.steps.inputs import check_output, job_inputs, pictured, required, trained_model
from dino4cells.steps.writing import sole_writer
from dino4cells.training.distributed import process_group

# Imported where they are used: scikit-learn, skops and matplotlib take seconds, which every process of a training job would wait.
if TYPE_CHECKING:
    from dino4cells.classify.evaluate import Evaluation


def classify(
    features: str,
    *,
    config: Config,
    output: str,
    data: str | None = None,
    model: str | None = None,
    overwrite: bool = False,
) -> Evaluation:
    """Cross-validate classifiers on features and write the classification artifact with its report.

    A run that was interrupted goes on with the folds that are not judged, where judging them takes long.

    Args:
        features: URL of a features artifact, or of a file (`.pth`) in the published layout.
        config: `classification` is used; for a file, which labels it holds (`embedding`, `model.datatype`); and whether the table of `data`
            may name files elsewhere (`model.files_outside_root`).
        output: URL of the classification artifact.
        data: directory or URL of the images, for the report's pictures of cells, or None: a report without.
        model: URL of the model artifact, for the report's loss curve, or None: a report without.
        overwrite: replace another classification that is at `output`.

    Raises:
        Dino4CellsError: what the user can fix.
    """
    from dino4cells.classify import evaluate as judge
    from dino4cells.report.compose import compose_report

    output = storage.absolute(output)
    check_output(output, overwrite)
    table = read_features(features, config)
    trained = trained_model(model) if model else None
    metadata = pictured(table, data, trained, files_outside_root=config.model.files_outside_root)
    kept = judge.kept_at(output, table, config.classification)
    evaluation = judge.evaluate(table, config.classification, kept)
    with held(output) as lease, ArtifactWriter(output, judge.KIND) as writer:
        writer.write_text(judge.METRICS, evaluation.metrics_json(table.card))
        evaluation.predictions(table).to_parquet(writer.path(judge.PREDICTIONS), index=False)
        for name, content in judge.fitted_classifiers(table, evaluation, config.classification, kept).items():
            writer.write_bytes(name, content)
        artifacts = {"model": model or table.card.model, "features": features, "classification": output}
        writer.write_text(judge.REPORT, compose_report(table, evaluation, metadata, trained, artifacts))
        lease.confirm()
    kept.clear()
    return evaluation


def train_classifier(
    config: Config,
    *,
    features: str | None = None,
    data: str | None = None,
    model: str | None = None,
    output: str | None = None,
    overwrite: bool = False,
    processes: Processes | None = None,
    device: str = "auto",
) -> str:
    """Train a classifier head on features, or a backbone and a head on images, and write the classifier (handbook, classification).

    A run that was interrupted continues from the checkpoints beside its output.

    Args:
        config: `classification` says what is learnt, from which cells and how.
        features: URL of the features of all cells; `embedding.output_path` when None.
        data: directory or URL of the images of all cells; `model.data_path` when None.
        model: URL of the model whose backbone images pass; `feature_extractor_state_dict` comes first.
        output: URL of the artifact; `classification.output_dir` and `output_prefix` when None.
        overwrite: replace another classifier that is at `output`; `classification.overwrite` does too.
        processes: start a job of many processes; None trains in this one (or in the job that it belongs to).
        device: `auto`, `cpu` or `cuda`.

    Returns:
        URL of the artifact.

    Raises:
        Dino4CellsError: what the user can fix.
    """
    from dino4cells.classify import train as training

    wanted = config.classification
    place = output or (storage.join(wanted.output_dir, wanted.output_prefix or "") if wanted.output_dir else None)
    output = storage.absolute(required(place, "classification.output_dir", "--output", "where the classifier goes")).rstrip("/")
    overwrite = overwrite or wanted.overwrite
    backbone = None if wanted.use_pretrained_features else wanted.feature_extractor_state_dict or model
    if processes is None:
        trained = trained_model(backbone, config) if backbone else None
        check = partial(check_output, output, overwrite)
        with process_group(device, at_hang=leave) as group, sole_writer(output, check) as lease:
            training.train_classifier(
                config, output, group,
                features=features, data=data, model=trained, resume_directory=f"{output}.checkpoints", lease=lease,
            )  # fmt: skip
        return output
    check_output(output, overwrite)
    inputs = [word for name, url in (("--features", features), ("--model", backbone)) if url for word in (name, storage.absolute(url))]
    arguments = ["--output", output, "--device", device, *inputs, *job_inputs(config, data, overwrite)]
    processes.launcher.run(JobSpec("classify", "dino4cells.classify", tuple(arguments), processes.nodes, processes.per_node))
    return output
