"""A run's records as an event file of TensorBoard, which Kubeflow's opens in the model artifact, with the samples seen as steps."""

from __future__ import annotations

import io
import logging
import time
from collections.abc import Sequence

from dino4cells import storage
from dino4cells.errors import StorageError
from dino4cells.training.run_log import Record

EVENTS = "tensorboard/events.out.tfevents.dino4cells"
"""Name of the file in the model artifact, and meanwhile beside the checkpoints; TensorBoard knows such a file by `tfevents`."""

TAGS = {
    "loss": "loss",
    "lr": "schedules/learning rate",
    "weight_decay": "schedules/weight decay",
    "momentum": "schedules/momentum of the teacher",
    "teacher_temp": "schedules/temperature of the teacher",
    "images_per_second": "throughput/images per second",
    "step_seconds": "throughput/seconds per step",
    "data_wait": "throughput/share of waiting for data",
    "memory_gib": "throughput/memory in GiB",
}
"""What TensorBoard calls a value of a record."""

LIVE_SECONDS = 30.0
logger = logging.getLogger(__name__)


def dump_events(records: Sequence[Record]) -> bytes | None:
    """The event file of records, or None: the extra `tensorboard` is not installed.

    The same records give the same bytes, and more records begin with the bytes of fewer, so that a TensorBoard that reads a file which
    grows, also over an interruption, finds what is new.
    """
    try:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.record_writer import RecordWriter
    except ModuleNotFoundError:
        logger.debug("No event file for TensorBoard; pip install 'dino4cells[tensorboard]' gives one.")
        return None
    file = io.BytesIO()
    writer = RecordWriter(file)
    began = records[0].get("time", 0.0) if records else 0.0
    writer.write(Event(wall_time=began, file_version="brain.Event:2").SerializeToString())
    for record in records:
        values = [Summary.Value(tag=tag, simple_value=record[key]) for key, tag in TAGS.items() if key in record]
        event = Event(wall_time=record.get("time", 0.0), step=int(record["samples"]), summary=Summary(value=values))
        writer.write(event.SerializeToString())
    return file.getvalue()


class LiveEvents:
    """Keeps the event file beside the checkpoints up to date while a run goes on, now and then.

    Args:
        directory: of the checkpoints.
    """

    def __init__(self, directory: str) -> None:
        self._url: str | None = storage.join(directory, EVENTS)
        self._next = time.monotonic() + LIVE_SECONDS

    def update(self, records: Sequence[Record]) -> None:
        """Write the file, unless it was written just now; what cannot be written is no reason to end a run."""
        now = time.monotonic()
        if self._url is None or now < self._next:
            return
        self._next = now + LIVE_SECONDS
        content = dump_events(records)
        if content is None:
            self._url = None
            return
        try:
            storage.write_bytes(self._url, content)
        except StorageError as error:
            logger.warning("%s; TensorBoard shows this run when it has ended.", str(error).rstrip("."))
            self._url = None


def clear_events(directory: str) -> None:
    """Delete the event file beside the checkpoints; the model has it."""
    url = storage.join(directory, EVENTS)
    storage.remove(url)
    storage.remove_empty(storage.parent(url))
