"""What a run of the pipeline on this machine prints: the words of its steps, and not the SDK's own."""

from __future__ import annotations

import io

import pytest

from dino4cells.events import LOG, line_of
from dino4cells.pipelines.local import _StepsAlone
from dino4cells.progress import Relay

PROGRESS = line_of("progress", step="train", done=8, total=16, unit="images", images_per_second=4.0, seconds=2.0, seconds_left=2.0)
PRINTED = f"""\
18:06:24.594 - INFO - Running pipeline: \x1b[95m'dino4cells'\x1b[0m
--------------------------------------------------------------------------------
18:06:24.634 - INFO - Executing task \x1b[96m'train'\x1b[0m
18:06:24.634 - INFO - Streamed logs:

    [KFP Executor 2026-11-26 18:06:30,111 INFO]: Looking for component `train` in --component_module_path `/tmp/ephemeral_component.py`
    [KFP Executor 2026-11-26 18:06:30,112 INFO]: Got executor_input:
    {{
        "inputs": {{
            "parameterValues": {{}}
        }}
    }}
    {PROGRESS}
    a line of a library
    [KFP Executor 2026-11-26 18:07:26,001 INFO]: Wrote executor output file to /tmp/executor_output.json.


    18:07:26.189 - INFO - Task \x1b[96m'train'\x1b[0m finished with status \x1b[92mSUCCESS\x1b[0m
18:07:26.190 - INFO - Task \x1b[96m'train'\x1b[0m outputs:
    model: Model( name='model',
                  metadata={{'data_version': ''}} )
--------------------------------------------------------------------------------
18:07:26.192 - INFO - Executing task \x1b[96m'extract'\x1b[0m
    Traceback (most recent call last):
      File "extract.py", line 1, in <module>
18:07:27.000 - ERROR - Task \x1b[96m'extract'\x1b[0m finished with status \x1b[91mFAILURE\x1b[0m
"""


def test_the_steps_are_heard_and_the_sdk_only_where_something_goes_wrong(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(LOG, "text")
    out = io.StringIO()
    with Relay(out) as relay:
        stream = _StepsAlone(relay)
        for start in range(0, len(PRINTED), 7):  # as pieces arrive, not as lines
            stream.write(PRINTED[start : start + 7])
    assert out.getvalue().splitlines() == [
        "a line of a library",
        "Traceback (most recent call last):",
        '  File "extract.py", line 1, in <module>',
        "Task 'extract' finished with status FAILURE",
    ]
    assert capsys.readouterr().err.splitlines() == [
        "Step 1: train",
        "train    ████████████░░░░░░░░░░░░  50% · 8/16 images · 4.0 images/s · 0:02 left",
        "Step 2: extract",
    ]
