"""The command line."""

from __future__ import annotations

import signal

__all__ = ["main"]


def main() -> None:
    """Entry point of the command `dino4cells`; Ctrl-C while it is still imported ends it without a traceback."""
    try:
        from dino4cells.cli.app import main as run
    except KeyboardInterrupt:
        raise SystemExit(128 + signal.SIGINT) from None
    run()
