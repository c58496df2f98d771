"""`torchrun -m dino4cells.features`: one process of an extraction job."""

from __future__ import annotations

import argparse

from dino4cells import steps
from dino4cells.cluster.entry import process_of_a_job, read_job_config


def main() -> None:
    """Extract this process's share of the rows."""
    parser = argparse.ArgumentParser(prog="dino4cells.features", description=__doc__)
    parser.add_argument("--model", required=True, help="URL of the model artifact")
    parser.add_argument("--data", help="directory or URL that holds a metadata.csv; the configuration's when not given")
    parser.add_argument("--output", required=True, help="URL of the features artifact")
    parser.add_argument("--config", help="path or URL of the configuration")
    parser.add_argument("--config-text", help="the configuration itself, as YAML")
    parser.add_argument("--overwrite", action="store_true", help="replace a finished artifact that is at the output")
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    arguments = parser.parse_args()
    with process_of_a_job():
        config = read_job_config(arguments.config, arguments.config_text)
        steps.extract(
            arguments.model,
            config=config,
            data=arguments.data,
            output=arguments.output,
            overwrite=arguments.overwrite,
            device=arguments.device,
        )


if __name__ == "__main__":
    main()
