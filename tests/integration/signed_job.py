"""A launcher, and a process of its job, that are quicker than usual to give up; for `test_abandoned_job.py`.

python signed_job.py launch URL_OF_THE_API TOKEN SIGN: follow a job, and change the sign every 0.2 seconds.
python signed_job.py train CONFIG DATA OUTPUT CHECKPOINTS: train, and give a launcher up after 2 seconds.
"""

from __future__ import annotations

import sys
import time

from dino4cells.cluster.entry import process_of_a_job
from dino4cells.cluster.job import JobSpec
from dino4cells.cluster.sign import Patience

JOB = JobSpec("train", "dino4cells.training", image="registry.example/dino4cells:0.1.0")
PATIENCE = Patience(every=0.2, gone=2.0, grace=0.3, grace_every=0.1)


def launch(url: str, token: str, sign: str) -> None:
    """Start the job or take it over, and follow it."""
    # Here, since it takes a process that trains a second.
    from kubernetes.client import ApiClient, Configuration
    from kubernetes_server import NAMESPACE

    from dino4cells.cluster.launcher import LauncherSettings, PyTorchJobLauncher

    def connect() -> ApiClient:
        configuration = Configuration(host=url)
        configuration.api_key = {"authorization": f"Bearer {token}"}
        configuration.retries = False
        return ApiClient(configuration)

    settings = LauncherSettings(NAMESPACE, run="run-1", round_seconds=1, sign=sign, sign_seconds=0.2)
    PyTorchJobLauncher(settings, connect, sleep=lambda seconds: time.sleep(min(seconds, 0.1))).run(JOB)


def train(config: str, data: str, output: str, checkpoints: str) -> None:
    """As `dino4cells.training` does."""
    with process_of_a_job(PATIENCE):
        print("starts", flush=True)
        from dino4cells import steps

        steps.train(steps.configuration(config), data=data, output=output, checkpoints=checkpoints, device="cpu")


if __name__ == "__main__":
    {"launch": launch, "train": train}[sys.argv[1]](*sys.argv[2:])
