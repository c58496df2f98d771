"""`python -m dino4cells.classify`: the classification step as a process of a job.

With `train_protein` or `train_cell_type` in the configuration the processes train a classifier together; without, one judges features.
"""

from __future__ import annotations

from dino4cells import steps
from dino4cells.cluster.entry import job_parser, process_of_a_job, read_job_config
from dino4cells.errors import ConfigError


def main() -> None:
    """Train a classifier, or judge the features and write the report."""
    parser = job_parser("dino4cells.classify", __doc__)
    parser.add_argument("--features", help="URL of the features")
    parser.add_argument("--model", help="URL of the model: the backbone of a classifier of images, or for the report's loss curve")
    arguments = parser.parse_args()
    with process_of_a_job():
        config = read_job_config(arguments.config, arguments.config_text)
        if config.classification.train_protein or config.classification.train_cell_type:
            steps.train_classifier(
                config,
                features=arguments.features,
                data=arguments.data,
                model=arguments.model,
                output=arguments.output,
                overwrite=arguments.overwrite,
                device=arguments.device,
            )
            return
        if not arguments.features:
            raise ConfigError("--features: is not given; name the features to judge.")
        steps.classify(
            arguments.features,
            config=config,
            output=arguments.output,
            data=arguments.data,
            model=arguments.model,
            overwrite=arguments.overwrite,
        )


if __name__ == "__main__":
    main()
