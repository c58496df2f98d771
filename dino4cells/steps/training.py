"""The verb `train`."""

from __future__ import annotations

from dino4cells import storage
from dino4cells.artifacts import is_complete, open_artifact
from dino4cells.cluster.job import JobSpec, Processes
from dino4cells.config import Config
from dino4cells.data.metadata import read_table
from dino4cells.models.artifact import KIND, ModelCard, load_card
from dino4cells.steps.inputs import check_output, job_inputs, required
from dino4cells.training.distributed import process_group
from dino4cells.training.fit import fit


def train(
    config: Config,
    *,
    data: str | None = None,
    output: str | None = None,
    checkpoints: str | None = None,
    overwrite: bool = False,
    processes: Processes | None = None,
    device: str = "auto",
) -> ModelCard:
    """Train a DINO model on the cells of a table and write the model artifact.

    A run that was interrupted continues from the checkpoints beside its output; a finished run of the same configuration and data is
    returned as it is.

    Args:
        config: the resolved configuration.
        data: directory or URL that holds a `metadata.csv`; `model.data_path` and `model.root` when None.
        output: URL of the model artifact; `model.output_dir` when None.
        checkpoints: URL of the directory that an interrupted run goes on from; beside the output when None.
        overwrite: replace another model that is at `output`.
        processes: start a job of many processes; None trains in this one (or in the job that it belongs to).
        device: `auto`, `cpu` or `cuda`.

    Raises:
        Dino4CellsError: what the user can fix.
    """
    output = storage.absolute(required(output or config.model.output_dir, "model.output_dir", "--output", "where the model goes"))
    resume_directory = checkpoints or f"{output.rstrip('/')}.checkpoints"
    metadata = read_table(config, data)
    if is_complete(output) and not overwrite:
        card = load_card(output)
        if (card.config_fingerprint, card.data_fingerprint) == (config.fingerprint(), metadata.fingerprint):
            return card
    if processes is None:
        with process_group(device) as group:
            if group.is_first:
                check_output(output, overwrite)
            return fit(config, metadata, output, group, resume_directory=resume_directory)
    check_output(output, overwrite)
    arguments = ["--output", output, "--device", device, *job_inputs(config, data, overwrite)]
    arguments += ["--checkpoints", checkpoints] if checkpoints else []
    processes.launcher.run(JobSpec("train", "dino4cells.training", tuple(arguments), processes.nodes, processes.per_node))
    open_artifact(output, KIND).verify()
    return load_card(output)
