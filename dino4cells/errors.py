"""What a user can fix. Every message is one sentence: what is wrong, where it is, and what to do about it."""

from __future__ import annotations

import os

from dino4cells.printable import printable
from dino4cells.redaction import redacted


class Dino4CellsError(Exception):
    """Base of all errors that a user can fix; the command line prints the message and exits with `exit_code`.

    Args:
        sentence: the message; secrets in it are hidden, wherever it goes on to, and names of files and labels, whoever chose them, move no
            cursor and turn no text round.
    """

    exit_code = 2

    def __init__(self, sentence: str = "") -> None:
        super().__init__(printable(redacted(sentence), keep="\n"))


class ConfigError(Dino4CellsError):
    """A value in the configuration or on the command line is wrong."""


class DataError(Dino4CellsError):
    """The metadata or the images are not what was announced."""


class StorageError(Dino4CellsError):
    """A URL cannot be read, listed or written."""


class MissingFileError(StorageError):
    """There is no file at a URL."""


class StoreRefused(StorageError):
    """A store refuses all that is asked of it: the credentials, or the bucket; asking again is in vain until somebody mends that."""


class StoreUnavailable(StorageError):
    """A store that fails for the moment has failed for longer than it is waited for; the same command may succeed later."""

    exit_code = os.EX_TEMPFAIL


class ArtifactError(Dino4CellsError):
    """A model, feature or classification directory is incomplete, damaged or of another kind."""


class CheckpointError(Dino4CellsError):
    """A checkpoint cannot be read or belongs to another network."""


class JobFailed(Dino4CellsError):
    """A job that a launcher started did not succeed; the message holds the reason that the job gave.

    Args:
        sentence: that reason.
        exit_code: of the job's own process, where that says that the same command may succeed later.
    """

    def __init__(self, sentence: str = "", exit_code: int = Dino4CellsError.exit_code) -> None:
        super().__init__(sentence)
        self.exit_code = exit_code


class Interrupted(SystemExit):
    """A signal asked this process to stop, and it has; the message says how to go on, the exit code is the shell's for that signal."""

    def __init__(self, sentence: str, signal: int) -> None:
        super().__init__(128 + signal)
        self.sentence, self.exit_code = sentence, 128 + signal

    def __str__(self) -> str:
        return self.sentence
