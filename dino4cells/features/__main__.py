"""`torchrun -m dino4cells.features`: one process of an extraction job."""

from __future__ import annotations

from dino4cells import steps
from dino4cells.cluster.entry import job_parser, process_of_a_job, read_job_config


def main() -> None:
    """Extract this process's share of the rows."""
    parser = job_parser("dino4cells.features", __doc__)
    parser.add_argument("--model", required=True, help="URL of the model artifact")
    parser.add_argument("--reuse", action="store_true", help="take complete features of the very same extraction for the result")
    arguments = parser.parse_args()
    with process_of_a_job():
        steps.extract(
            arguments.model,
            config=read_job_config(arguments.config, arguments.config_text),
            data=arguments.data,
            output=arguments.output,
            overwrite=arguments.overwrite,
            device=arguments.device,
            reuse=arguments.reuse,
        )


if __name__ == "__main__":
    main()
