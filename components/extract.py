"""Component: features of every cell."""

from kfp import dsl

from dino4cells.components.image import IMAGE
from dino4cells.components.parameters import described


@dsl.component(base_image=IMAGE, install_kfp_package=False)
@described
def extract(
    model: dsl.Input[dsl.Model],
    features: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
    report: dsl.Output[dsl.HTML],
    data: str,
    metadata: str,
    baselines: bool,
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
    """Write the features of every cell, a row each, in the order of the metadata.

    Args:
        model: The trained model.
        features: Parquet files with Metadata_* columns and dino_0, dino_1, ….
        metrics: Cells, cells whose image could not be read, images per second.
        report: A map of the features and pictures of cells, one page.
    """
    from dino4cells import steps, storage
    from dino4cells.cluster.entry import process_of_a_job
    from dino4cells.cluster.launchers import JobParameters, launch_of

    with process_of_a_job():
        job = JobParameters(nodes, processes, gpus, image, queue, secret, endpoint, pull_secret, tolerations, node_selector, settings)
        launch = launch_of(launcher, features.uri, features.path, job)
        resolved = steps.configuration_of(model.path, {}, own=True)
        place = steps.data_or_simulated("" if metadata else data, resolved)
        card = steps.extract(
            launch.artifact(model.uri, model.path),
            config=resolved,
            data=launch.data(place),
            output=launch.output,
            baselines=baselines,
            processes=launch.processes,
        )
        features.metadata.update(cells=card.rows, dimensions=card.embedding_dim)
        metrics.log_metric("cells", card.rows)
        metrics.log_metric("unreadable images", card.failed_rows)
        metrics.log_metric("images per second", card.images_per_second)
        outside = resolved.model.files_outside_root
        storage.write_text(report.path, steps.features_report(launch.output, model.path, data=place, files_outside_root=outside))
