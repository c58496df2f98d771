"""Flags of the published scripts (`run_dino.py`, `main_dino.py`, `run_get_features.py`, `run_end_to_end.py`) that are no keys here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from dino4cells.errors import ConfigError

OTHER_FLAGS: Final = {
    "extract": {"output_prefix": "embedding.output_path", "dataset": "embedding.df_path"},
}
"""By command: what a flag is called in the configuration."""

_OF_THE_LAUNCHER: Final = ("dist_url", "local_rank", "master_port", "nproc_per_node")
_SAID_BY_OTHER_KEYS: Final = ("loader", "root_dir_path", "rgbmode", "scale_factor", "global_crops_scale", "whole")
NOT_USED: Final = (*_OF_THE_LAUNCHER, *_SAID_BY_OTHER_KEYS)
"""Flags that mean nothing here, in lower case."""

WITHOUT_VALUE: Final = ("whole",)

_SWITCHES: Final = {"on": "auto", "true": "auto", "1": "auto", "off": "float32", "false": "float32", "0": "float32"}


def precision_of(use_fp16: str) -> str:
    """`model.precision` for the published `--use_fp16`.

    Raises:
        ConfigError: neither true nor false.
    """
    precision = _SWITCHES.get(use_fp16.lower())
    if precision is None:
        raise ConfigError(f"--use_fp16: must be true or false, not '{use_fp16}'; or write --precision bfloat16.")
    return precision


def plain_switches(words: Sequence[str]) -> list[str]:
    """The command line with `--overwrite True` as the switch `--overwrite`, and without `--overwrite False`.

    The published scripts take every key with a value; here this one is a switch.
    """
    plain: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        flag, equals, value = word.partition("=")
        if flag == "--overwrite" and (equals or (rest and rest[0].lower() in ("true", "false"))):
            value = value or rest.pop(0)
            if value.lower() not in ("true", "false"):
                raise ConfigError(f"--overwrite: must be true or false, not '{value}'.")
            plain += [flag] if value.lower() == "true" else []
        else:
            plain.append(word)
    return plain
