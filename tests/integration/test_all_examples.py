"""Every example of every page is run by a test, or is in a short list of what cannot be run here; a new one fails until it is covered."""

from __future__ import annotations

import importlib
import re
import shlex
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
import test_classifiers_page
import test_command_line_page
import test_data_page
import test_features_guide
import test_handbook
import test_kubernetes_page
import test_pages
import typer
from test_pages import ALL_PAGES, ROOT

from dino4cells.cli.app import app
from dino4cells.cli.options import overrides_of
from tests.conftest import Finished

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", flags=re.DOTALL | re.MULTILINE)
SHELL = ("sh", "bash")

CONFIG = ("dino4cells config --config config.yaml", "dino4cells config --config config.yaml --explain")

RUN: dict[str, Iterable[str]] = {
    **{page: test_pages.commands(page) for page in test_pages.PAGES},
    "docs/classifiers.md": test_classifiers_page.commands(),
    "docs/command-line.md": [test_command_line_page.INSTALL],
    "docs/data.md": test_data_page.commands(),
    "docs/features.md": test_features_guide.commands(),
    "docs/handbook.md": test_handbook.commands(),
    "docs/kubernetes.md": test_kubernetes_page.COMMANDS,
    "docs/configuration.md": CONFIG,
}
"""The commands that a test of a page runs, as they stand there."""

OTHERS = {
    ("README.md", "python", 1): "test_pages.test_the_example_works",
    ("docs/python.md", "python", 8): "test_pages.test_the_example_works",
    ("docs/features.md", "python", 3): "test_features_guide.test_the_commands_and_examples_run_in_the_order_of_the_page",
    ("docs/handbook.md", "python", 1): "test_handbook.test_the_python_of_the_document_reads_them",
    ("CONTRIBUTING.md", "python", 1): "test_pages.test_the_transform_of_contributing_is_one",
    ("docs/handbook.md", "yaml", 1): "test_handbook.test_training_leaves_the_files_that_the_document_lists",
    ("docs/channels.md", "yaml", 1): "test_pages.test_the_example_of_a_configuration_is_one",
    ("docs/configuration.md", "yaml", 2): "test_all_examples.test_the_page_about_configuration_explains_its_own_files",
    ("docs/kubernetes.md", "yaml", 1): "test_kubernetes_page.test_the_settings_of_the_page_are_read_and_every_key_is_explained",
    ("docs/command-line.md", "json", 1): "",  # a line of a log, shown
    ("README.md", "", 1): "",  # a tree of files
}
"""How many blocks of a language a page has, and the test that uses all of them; none where there is nothing to run."""

NEEDED = {"kubectl": "a cluster", "docker": "docker"}
"""Programs whose commands cannot be run here, and what they need. What they are given of this repository is looked at."""

NOT_RUN = {
    "make demo": "run by CI",
    "make demo DATA=path/to/cells GROUP=plate": "run by CI on other cells",
    "make test": "what runs this",
    "make lint": "run by CI",
    "make bench ONLY=views": "measures, for a minute",
    "dino4cells run --data cells --group plate --epochs 1": "make demo is this command",
    "dino4cells export model --output net.onnx": "run by test_export, which has the extra",
    "dino4cells train --config config.yaml": "a network and images of the published size; run on docs/handbook.md at a smaller one",
    "dino4cells extract --config config.yaml": "as before it",
    "make kind-up": "a cluster",
    "export KUBECONFIG=$PWD/.kind/kubeconfig": "a cluster",
    "make e2e": "a cluster",
    "make kind-down": "a cluster",
    "make image IMAGE=registry.example/lab/dino4cells:0.1.0": "docker",
}
"""Commands that no test of a page runs, and why; their options, targets and files are looked at here."""


def blocks(page: str) -> list[tuple[str, str]]:
    return BLOCK.findall((ROOT / page).read_text(encoding="utf-8"))


def commands(page: str) -> list[str]:
    """The commands of the shell blocks of a page, without comments, a continued one in one line."""
    found = []
    for language, text in blocks(page):
        if language in SHELL:
            lines = (re.split(r"\s+#", line)[0].strip() for line in re.sub(r"\s*\\\n\s*", " ", text).splitlines())
            found += [line for line in lines if line]
    return found


@pytest.mark.parametrize("page", ALL_PAGES)
def test_every_command_of_the_page_is_run_or_cannot_be(page: str) -> None:
    run = {re.split(r"\s+#", line)[0].strip() for line in RUN.get(page, ())}
    cannot_be = [command for command in commands(page) if command in NOT_RUN or command.split()[0] in NEEDED]
    assert [command for command in commands(page) if command not in run and command not in cannot_be] == []


@pytest.mark.parametrize("page", ALL_PAGES)
def test_every_other_block_of_the_page_is_used_by_a_test(page: str) -> None:
    languages = [language for language, _ in blocks(page) if language not in SHELL]
    assert {(page, language, languages.count(language)) for language in languages} == {known for known in OTHERS if known[0] == page}


def test_the_tests_that_are_named_exist() -> None:
    for named in filter(None, OTHERS.values()):
        module, test = named.split(".")
        assert callable(getattr(importlib.import_module(module), test))


def test_what_is_not_run_is_on_a_page_and_nowhere_run() -> None:
    shown = {command for page in ALL_PAGES for command in commands(page)}
    assert [command for command in NOT_RUN if command not in shown] == []


@pytest.mark.parametrize("command", [command for command in NOT_RUN if command.startswith("dino4cells ")])
def test_options_of_what_is_not_run_are_known(command: str) -> None:
    parser = typer.main.get_command(app)
    words = shlex.split(command)
    context = parser.make_context(words[0], words[1:2])
    _, verb, rest = parser.resolve_command(context, words[1:])
    overrides_of(verb.make_context(verb.name, rest, parent=context))


@pytest.mark.parametrize("page", ALL_PAGES)
def test_targets_and_files_that_commands_name_exist(page: str) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for command in commands(page):
        if command.startswith("make "):
            assert re.search(rf"^(?:[a-z-]+ )*{command.split()[1]}(?: [a-z-]+)*:", makefile, flags=re.MULTILINE), command
        for path in re.findall(r"(?<![\w./])manifests/[\w/-]+", command):
            assert (ROOT / path / "kustomization.yaml").is_file(), command


@pytest.mark.parametrize("text", [text for language, text in blocks("docs/configuration.md") if language == "yaml"])
def test_the_page_about_configuration_explains_its_own_files(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dino4cells: Callable[..., Finished]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("config.yaml").write_text(text)
    for command in CONFIG:
        ended = dino4cells(*shlex.split(command)[1:])
        assert (ended.code, "RandomResizedCrop" in ended.out) == (0, True), ended.err
