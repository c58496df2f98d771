"""The command line."""

from dino4cells.cli.app import app, main

__all__ = ["app", "main"]
