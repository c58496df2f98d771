"""The steps of a run one after the other, and what comes between them: looking up together, records, checkpoints, the end."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from dino4cells.data.dataset import Batch, CellImages
from dino4cells.data.loading import load_batches
from dino4cells.data.metadata import Metadata
from dino4cells.data.sampler import SampleStream
from dino4cells.lease import Lease
from dino4cells.progress import Progress
from dino4cells.training import checkpoint as checkpoints
from dino4cells.training.checkpoint import CheckpointWriter
from dino4cells.training.divergence import RecentSteps, diverged
from dino4cells.training.interruption import Looks, StopSignal, stop_signal
from dino4cells.training.loop import DINO
from dino4cells.training.resume import RunIdentity
from dino4cells.training.run_log import Record, RunLog
from dino4cells.training.tensorboard import LiveEvents
from dino4cells.training.throughput import Stopwatch

RECORDS = 200  # lines of log.jsonl that a run aims at
SHOWN = ("epoch", "loss", "data_wait", "memory_gib")  # of a record, beside the progress


@dataclass
class Run:
    """A run as one process sees it.

    Attributes:
        dino: the networks, and their step.
        stream: the samples that are left.
        metadata: the table of cells, for messages.
        log: of the run so far.
        watch: its clock.
        identity: of the run, which its checkpoints hold.
        directory: URL where they go.
        lease: of the output, in the process that writes.
        on_record: called with (DINO, samples seen, seconds so far) at every record.
        seen: samples of all processes since the beginning.
    """

    dino: DINO
    stream: SampleStream
    metadata: Metadata
    log: RunLog
    watch: Stopwatch
    identity: RunIdentity
    directory: str
    lease: Lease | None = None
    on_record: Callable[[DINO, int, float], None] | None = None
    seen: int = field(init=False)

    def __post_init__(self) -> None:
        self.seen, self._saved = self.stream.start, time.monotonic()
        self._looks, self._recent = Looks(self.dino.group), RecentSteps()

    def go(self, images: CellImages, progress: Progress) -> None:
        """Take all steps.

        Raises:
            ConfigError: the loss is no finite number any more.
            DataError: too many images cannot be read.
            LeaseLost: another run has taken the output over.
            Interrupted: the run was asked to stop; a checkpoint was written.
        """
        group, stream = self.dino.group, self.stream
        every = max(1, stream.total // stream.batch_size // RECORDS)
        # On a CPU the reading processes would only compete with the training ones.
        workers = self.dino.config.num_workers if group.device.type == "cuda" else 0
        reading, events = iter(load_batches(images, stream, workers, group.device)), LiveEvents(self.directory)
        with stop_signal() as stop, CheckpointWriter(self.directory, self.lease) as writer, reading as batches:
            for number in range(1, len(stream) + 1):
                group.doing(f"reading images after {self.seen:,}")
                with stop.waiting(partial(self._save, writer)):
                    batch = next(batches)
                self._step(batch, len(images))
                writer.check()
                if self.lease is not None:
                    self.lease.check()
                last, recorded = number == len(stream), self.seen // stream.batch_size % every == 0
                copied, asked, late = not last and self._passed_a_copy(), False, False
                if self._looks.due() or last or copied or recorded:
                    asked, late = self._look(stop, writer, last=last, copied=copied)
                note, record = None, None
                if asked or late or last or recorded:
                    note, record = self._record(batches.waited_seconds, len(images), events)
                if asked or late:
                    self._save(writer)
                    self._saved = time.monotonic()
                if group.is_first and copied:
                    writer.keep_copy(self.state())
                if asked:
                    writer.wait()
                    raise stop.interrupted(self.seen, stream.total, self.directory)
                progress.advance(stream.batch_size, note, record and {key: record[key] for key in SHOWN})
            group.doing("")

    def state(self) -> checkpoints.Checkpoint:
        """The checkpoint of the networks, and what a run knows besides."""
        run = {"log": self.log.records, "failures": self.log.failures, "init": self.log.init, **self.identity.stamp()}
        return {**self.dino.checkpoint(self.seen, self.seen // len(self.stream.order)), **run}

    def _step(self, batch: Batch, length: int) -> None:
        """One step, of a table of `length` images."""
        self.dino.group.doing(f"computing the step after {self.seen:,} images")
        self.log.note_failures(batch, length, self.dino.config.max_bad_images)
        loss = self.dino.step(batch, self.seen)
        self.log.losses.append(loss)
        self._recent.add(self.seen, batch, loss)
        self.seen += self.stream.batch_size

    def _passed_a_copy(self) -> bool:
        """Whether the last step ended an epoch after which a checkpoint is to stay."""
        every = len(self.stream.order) * self.dino.config.saveckp_freq
        return bool(every) and self.seen // every > (self.seen - self.stream.batch_size) // every

    def _look(self, stop: StopSignal, writer: CheckpointWriter, *, last: bool, copied: bool) -> tuple[bool, bool]:
        """Look up with all processes: whether the run is asked to stop, and whether a checkpoint is due."""
        is_late = time.monotonic() - self._saved > 60 * self.dino.config.checkpoint_minutes
        asked, late, lost = self._looks.look(asked=stop(), late=is_late, lost=self._recent.lost(self.dino.group.device))
        # After the last step the model itself is written.
        asked, late = asked and not last, late and not last
        # A step with a finite loss may still have spoilt the weights.
        if lost or ((asked or late or copied or last) and not self.dino.is_finite()):
            writer.wait()
            raise diverged(self._recent, self.metadata, self.dino.config, checkpoints.latest(self.directory))
        self._recent.forget()
        return asked, late

    def _save(self, writer: CheckpointWriter) -> None:
        if self.dino.group.is_first and self.seen > self.stream.start:
            writer.save(self.state())

    def _record(self, waited_seconds: float, length: int, events: LiveEvents) -> tuple[str, Record]:
        """Add a line to log.jsonl; a sentence for the progress, and the line.

        Records of older runs, which a resumed one keeps, know no time (seconds since 1970), and images_per_second alone, as the mean since
        the start.
        """
        schedules, config, group, seen = self.dino.schedules, self.dino.config, self.dino.group, self.seen
        epoch, loss = seen / len(self.stream.order), self.log.mean_loss(group.device)
        throughput = self.watch.lap(seen, waited_seconds)  # after the loss, which waits for the device
        record: Record = {
            "samples": seen,
            "time": round(time.time(), 3),
            "epoch": round(epoch, 4),
            "loss": loss,
            "lr": schedules.lr(seen),
            "weight_decay": schedules.weight_decay(seen),
            "momentum": schedules.momentum(seen),
            "teacher_temp": schedules.teacher_temperature(seen),
            **throughput.record(),
        }
        self.log.records.append(record)
        self.log.share_failures(length, config.max_bad_images, group.device)
        if group.is_first:
            events.update(self.log.records)
        if self.on_record:
            self.on_record(self.dino, seen, self.watch.seconds)
        return f"epoch {epoch:.1f}/{config.epochs} · loss {loss:.3f} · {throughput}", record
