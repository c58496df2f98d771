"""Component: features of every cell."""

from kfp import dsl

from dino4cells.components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def extract(
    model: dsl.Input[dsl.Model],
    features: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
    data: str = "",
    baselines: bool = True,
):
    """Write the features of every cell, a row each, in the order of the metadata.

    Args:
        model: The trained model.
        data: Directory or URL (s3://…) that holds a metadata.csv. Empty: the configuration's, else simulated cells.
        baselines: Also write features of the untrained network and intensity statistics, to compare with.
        features: Parquet files with Metadata_* columns and dino_0, dino_1, ….
        metrics: Cells, cells whose image could not be read, images per second.
    """
    from dino4cells import steps
    from dino4cells.cluster.entry import process_of_a_job

    with process_of_a_job():
        place = steps.data_or_simulated(data, steps.configuration_of(model.path, {}))
        card = steps.extract(model.path, data=place, output=features.path, baselines=baselines)
        features.metadata.update(cells=card.rows, dimensions=card.embedding_dim)
        metrics.log_metric("cells", card.rows)
        metrics.log_metric("unreadable images", card.failed_rows)
        metrics.log_metric("images per second", card.images_per_second)
