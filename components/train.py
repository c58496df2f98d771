"""Component: train a model."""

from kfp import dsl

from dino4cells.components.image import IMAGE
from dino4cells.components.parameters import described


@dsl.component(base_image=IMAGE, install_kfp_package=False)
@described
def train(
    model: dsl.Output[dsl.Model],
    metrics: dsl.Output[dsl.Metrics],
    report: dsl.Output[dsl.HTML],
    data: str,
    metadata: str,
    data_version: str,
    preset: str,
    config: str,
    overrides: str,
    arch: str,
    epochs: int,
    launcher: str,
    image: str,
    nodes: int,
    processes: int,
    gpus: int,
    queue: str,
    secret: str,
    endpoint: str,
    pull_secret: str,
    tolerations: list,
    node_selector: dict,
    settings: str,
):
    """Train a vision transformer on images of single cells, without labels (DINO).

    Args:
        model: The trained model.
        metrics: Loss at the start and at the end, images per second, seconds per step, share of waiting for data, memory.
        report: The loss curve and the throughput, one page.
    """
    from dino4cells import steps, storage
    from dino4cells.cluster.entry import process_of_a_job
    from dino4cells.cluster.launchers import JobParameters, launch_of

    with process_of_a_job():
        job = JobParameters(nodes, processes, gpus, image, queue, secret, endpoint, pull_secret, tolerations, node_selector, settings)
        launch = launch_of(launcher, model.uri, model.path, job)
        overrides = steps.overrides_with(overrides, arch=arch, epochs=epochs, metadata=metadata, data=data)
        resolved = steps.configuration(config, steps.preset_for(preset, config, data or metadata), overrides)
        card = steps.train(
            resolved,
            data=launch.data(steps.data_or_simulated("" if metadata else data, resolved)),
            output=launch.output,
            checkpoints=launch.checkpoints,
            processes=launch.processes,
        )
        model.metadata.update(arch=card.arch, channels=", ".join(card.channels), epochs=card.training.epochs)
        model.metadata.update(data=card.data, data_fingerprint=card.data_fingerprint, data_version=data_version)
        for name, value in card.training.metrics().items():
            metrics.log_metric(name, value)
        storage.write_text(report.path, steps.training_report(launch.output))
