"""`torchrun -m dino4cells.training`: one process of a training job."""

from __future__ import annotations

from dino4cells import steps
from dino4cells.cluster.entry import job_parser, process_of_a_job, read_job_config


def main() -> None:
    """Train in this process, with the others of the job."""
    parser = job_parser("dino4cells.training", __doc__)
    parser.add_argument("--checkpoints", help="URL of what an interrupted job goes on from; beside the output when not given")
    arguments = parser.parse_args()
    with process_of_a_job():
        steps.train(
            read_job_config(arguments.config, arguments.config_text),
            data=arguments.data,
            output=arguments.output,
            checkpoints=arguments.checkpoints,
            overwrite=arguments.overwrite,
            device=arguments.device,
        )


if __name__ == "__main__":
    main()
