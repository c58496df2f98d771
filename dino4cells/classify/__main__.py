"""`python -m dino4cells.classify`: the classification step as a job of one process."""

from __future__ import annotations

from dino4cells import steps
from dino4cells.cluster.entry import job_parser, process_of_a_job, read_job_config


def main() -> None:
    """Judge the features and write the report."""
    parser = job_parser("dino4cells.classify", __doc__)
    parser.add_argument("--features", required=True, help="URL of the features artifact")
    parser.add_argument("--model", help="URL of the model artifact, for the report's loss curve")
    arguments = parser.parse_args()
    with process_of_a_job():
        steps.classify(
            arguments.features,
            config=read_job_config(arguments.config, arguments.config_text),
            output=arguments.output,
            data=arguments.data,
            model=arguments.model,
            overwrite=arguments.overwrite,
        )


if __name__ == "__main__":
    main()
