"""Component: classifiers on the features, and the report."""

from kfp import dsl

from dino4cells.components.image import IMAGE
from dino4cells.components.parameters import described


@dsl.component(base_image=IMAGE, install_kfp_package=False)
@described
def classify(
    model: dsl.Input[dsl.Model],
    features: dsl.Input[dsl.Dataset],
    classification: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
    confusion: dsl.Output[dsl.ClassificationMetrics],
    report: dsl.Output[dsl.HTML],
    data: str,
    metadata: str,
    label: str,
    group: str,
    endpoint: str,
):
    """Cross-validate a k-NN classifier and a linear probe on the features, beside two baselines, and write the report.

    Args:
        model: The trained model, for the loss curve.
        features: The features of every cell.
        classification: The fitted classifiers, metrics.json, predictions.parquet and report.html.
        metrics: Accuracy, balanced accuracy and macro F1 of the trained features and of the baselines, with 95 % intervals by bootstrap.
        confusion: Confusion matrix of the linear probe.
        report: The report, one page.
    """
    from dino4cells import steps, storage
    from dino4cells.classify.evaluate import REPORT
    from dino4cells.cluster.entry import process_of_a_job
    from dino4cells.cluster.launchers import open_store

    with process_of_a_job():
        open_store(features.uri, endpoint)
        resolved = steps.configuration_of(model.path, {"classification.label": label, "classification.group": group}, own=True)
        evaluation = steps.classify(
            features.path,
            config=resolved,
            output=classification.path,
            data=steps.data_or_simulated("" if metadata else data, resolved),
            model=model.path,
        )
        for name, results in evaluation.results.items():
            for result in results.values():
                for score in ("accuracy", "balanced_accuracy", "macro_f1"):
                    figure, (low, high) = f"{name}, {result.name}, {score}", result.pooled.intervals[score]
                    metrics.log_metric(figure, getattr(result.pooled, score))
                    metrics.log_metric(f"{figure}, 95 % from", low)
                    metrics.log_metric(f"{figure}, 95 % to", high)
        pooled = evaluation.results["trained"]["linear"].pooled
        confusion.log_confusion_matrix(list(pooled.classes), [list(row) for row in pooled.confusion])
        storage.write_text(report.path, storage.read_text(storage.join(classification.path, REPORT)))
