"""The verb `train`."""

from __future__ import annotations

from functools import partial

from dino4cells import storage
from dino4cells.artifacts import is_complete, open_artifact
from dino4cells.cluster.entry import leave
from dino4cells.cluster.job import JobSpec, Processes
from dino4cells.config import Config
from dino4cells.data.metadata import Metadata, read_table
from dino4cells.lease import lease_url
from dino4cells.models.artifact import KIND, ModelCard, load_card
from dino4cells.steps.inputs import check_output, job_inputs, required
from dino4cells.steps.writing import sole_writer
from dino4cells.training.distributed import process_group
from dino4cells.training.fit import clean_up, fit


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
    returned as it is. While a run goes on no other one may write the output (`dino4cells.lease`).

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
    finished = None if overwrite else _finished(config, metadata, output)
    # A lease beside it is of a run that overwrites it, or was killed when it cleaned up.
    if finished is not None and (processes is not None or not storage.exists(lease_url(output))):
        return finished
    if processes is None:
        check = partial(check_output, output, overwrite) if finished is None else None
        with process_group(device, at_hang=leave) as group, sole_writer(output, check) as lease:
            finished = None if overwrite else _finished(config, metadata, output)
            if finished is not None:
                if group.is_first:
                    clean_up(resume_directory)
                return finished
            return fit(config, metadata, output, group, resume_directory=resume_directory, lease=lease)
    check_output(output, overwrite)
    arguments = ["--output", output, "--device", device, *job_inputs(config, data, overwrite)]
    arguments += ["--checkpoints", checkpoints] if checkpoints else []
    processes.launcher.run(JobSpec("train", "dino4cells.training", tuple(arguments), processes.nodes, processes.per_node))
    open_artifact(output, KIND).verify()
    return load_card(output)


def _finished(config: Config, metadata: Metadata, output: str) -> ModelCard | None:
    """The model that is at the output already, if it is of the same configuration and data."""
    card = load_card(output) if is_complete(output) else None
    same = card is not None and (card.config_fingerprint, card.data_fingerprint) == (config.fingerprint(), metadata.fingerprint)
    return card if same else None
