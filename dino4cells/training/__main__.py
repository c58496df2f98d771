"""`torchrun -m dino4cells.training`: one process of a training job."""

from __future__ import annotations

import argparse

from dino4cells import steps
from dino4cells.cluster.entry import process_of_a_job, read_job_config


def main() -> None:
    """Train in this process, with the others of the job."""
    parser = argparse.ArgumentParser(prog="dino4cells.training", description=__doc__)
    parser.add_argument("--data", help="directory or URL that holds a metadata.csv; the configuration's when not given")
    parser.add_argument("--output", required=True, help="URL of the model artifact")
    parser.add_argument("--config", help="path or URL of the configuration")
    parser.add_argument("--config-text", help="the configuration itself, as YAML")
    parser.add_argument("--overwrite", action="store_true", help="replace a finished artifact that is at the output")
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    arguments = parser.parse_args()
    with process_of_a_job():
        config = read_job_config(arguments.config, arguments.config_text)
        steps.train(config, data=arguments.data, output=arguments.output, overwrite=arguments.overwrite, device=arguments.device)


if __name__ == "__main__":
    main()
