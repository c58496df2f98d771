"""docs/command-line.md: its table has every command, options and variables are those of the code, completion works in a real bash."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from typer.main import get_command

from dino4cells.cli.app import app
from dino4cells.cli.completion import EVERYWHERE
from dino4cells.errors import StoreUnavailable

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")
INSTALL = "dino4cells --install-completion"


def _verbs(command: Any, name: str = "") -> list[str]:
    below = getattr(command, "commands", None)
    return [name] if below is None else [verb for word, inner in below.items() for verb in _verbs(inner, f"{name} {word}".strip())]


def _rows(heading: str) -> list[str]:
    """The first cells of the table below a heading."""
    section = PAGE.split(heading)[1].split("\n## ")[0]
    return [line.split(" | ")[0].removeprefix("| ") for line in section.splitlines() if line.startswith("| ")][2:]


def test_the_table_has_every_command_and_no_other() -> None:
    named = [name for row in _rows("# The command line") for name in re.findall(r"`([^`]+)`", row)]
    assert sorted(named) == sorted(_verbs(get_command(app)))


def test_options_variables_and_codes_are_those_of_the_code() -> None:
    options = {option for row in _rows("## While it works") for option in re.findall(r"--\w+", row)}
    assert options == set(EVERYWHERE)
    sources = "".join(path.read_text(encoding="utf-8") for name in ("dino4cells", "pipelines") for path in (ROOT / name).rglob("*.py"))
    variables = [name for row in _rows("## Environment") for name in re.findall(r"`(\w+)`", row)]
    assert len(variables) == 8
    assert [name for name in variables if name not in sources] == []
    codes = [code for row in _rows("## How it ends") for code in row.split(", ")]
    assert codes == ["0", "1", "2", str(StoreUnavailable.exit_code), "130", "143"]


def test_what_completion_installs_works_in_bash(tmp_path: Path) -> None:
    environment = {**os.environ, "HOME": str(tmp_path), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    named = {**environment, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}  # the shell is this test's word, not its parent process
    installed = subprocess.run([*INSTALL.split(), "bash"], env=named, capture_output=True, text=True)
    assert installed.returncode == 0, installed.stderr
    ask = 'COMP_WORDS=(dino4cells train --pres); COMP_CWORD=2; $(complete -p dino4cells | sed "s/.*-F //; s/ .*//") dino4cells'
    script = f'shopt -s expand_aliases; source "{tmp_path}/.bashrc"; {ask}; echo "${{COMPREPLY[@]}}"'
    asked = subprocess.run(["bash", "--norc", "-c", script], env=environment, capture_output=True, text=True)
    assert asked.stdout.strip() == "--preset", asked.stderr
