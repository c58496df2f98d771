"""Names of jobs: derived from what a job is, so that the same job has the same name, and what Kubernetes allows."""

from __future__ import annotations

import re

from dino4cells.cluster.job import JobSpec

LONGEST_NAME = 50
"""Pods and Services of a job add to its name (`-worker-12`), and theirs must stay within the 63 characters of a DNS label."""

_HASH = 10
_LABEL = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")


def is_job_name(name: str) -> bool:
    """Whether the name is a DNS-1035 label that leaves room for those derived from it."""
    return len(name) <= LONGEST_NAME and _LABEL.fullmatch(name) is not None


def job_name(job: JobSpec, run: str = "") -> str:
    """`<name>-<hash>`: the same for the same specification in the same run, and another for any other.

    Args:
        job: what to run.
        run: identifier of the run that the job belongs to, or nothing.

    Example:
        >>> job_name(JobSpec("train", "dino4cells.training"))[:6]
        'train-'
    """
    suffix = job.fingerprint()[:_HASH]
    words = re.sub(r"[^a-z0-9]+", "-", "-".join(word for word in (job.name, run) if word).lower()).strip("-")
    words = words if words[:1].isalpha() else f"job-{words}"
    return f"{words[: LONGEST_NAME - _HASH - 1].strip('-')}-{suffix}"
