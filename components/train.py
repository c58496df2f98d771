"""Component: train a model."""

from kfp import dsl

from dino4cells.components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def train(
    model: dsl.Output[dsl.Model],
    metrics: dsl.Output[dsl.Metrics],
    data: str = "",
    preset: str = "",
    config: str = "",
    overrides: str = "",
    processes: int = 1,
    launcher: str = "local",
):
    """Train a vision transformer on images of single cells, without labels (DINO).

    Args:
        data: Directory or URL (s3://…) that holds a metadata.csv (column 'file', a row a cell). Empty: the configuration's, or simulated.
        preset: Settings to start from: 'small', 'small-fluorescence' (brightness says nothing) or 'handbook'. Empty: what suits the data.
        config: A config.yaml of the handbook, its text or its URL; its keys override the preset.
        overrides: Single keys that override both, such as 'epochs=20 model.seed=1'.
        processes: Training processes; one per GPU, or a few that share the cores of a CPU.
        launcher: 'local': in this step's pod. 'pytorchjob': as a PyTorchJob over several pods (not available yet).
        model: The trained model.
        metrics: Loss at the start and at the end, and images per second.
    """
    from dino4cells import steps
    from dino4cells.cluster.entry import process_of_a_job
    from dino4cells.cluster.launchers import processes_of

    with process_of_a_job():
        resolved = steps.configuration(config, steps.preset_for(preset, config, data), overrides)
        card = steps.train(
            resolved,
            data=steps.data_or_simulated(data, resolved),
            output=model.path,
            processes=processes_of(launcher, processes),
        )
        model.metadata.update(arch=card.arch, channels=", ".join(card.channels), epochs=card.training.epochs)
        metrics.log_metric("loss at start", card.training.loss_start)
        metrics.log_metric("loss at end", card.training.loss_end)
        metrics.log_metric("images per second", card.training.images_per_second)
