"""A step as Kubeflow Pipelines runs it in a pod: the program of the compiled pipeline, with the executor of the SDK.

python step_of_pipeline.py COMPILED_YAML STEP EXECUTOR_INPUT ROOT: where a pod has `/minio/…` and `/s3/…`, here is ROOT.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import yaml
from kfp.dsl import executor_main
from kfp.dsl.types import artifact_types


def main() -> None:
    compiled, step, executor_input, root = sys.argv[1:]
    artifact_types._MINIO_LOCAL_MOUNT_PREFIX = f"{root}/minio/"
    artifact_types._S3_LOCAL_MOUNT_PREFIX = f"{root}/s3/"
    pipeline = next(iter(yaml.safe_load_all(Path(compiled).read_text())))
    source = pipeline["deploymentSpec"]["executors"][f"exec-{step}"]["container"]["command"][-1]
    program = Path(tempfile.mkdtemp(dir=root), "ephemeral_component.py")
    program.write_text(source)
    words = ["--component_module_path", str(program), "--executor_input", executor_input, "--function_to_execute", step]
    sys.argv = [sys.argv[0], *words]
    executor_main.executor_main()


if __name__ == "__main__":
    main()
