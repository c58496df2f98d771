"""The README and the pages for users, run as they stand there, one command and one block of Python after another in one directory.

`make demo` and `make test` are run by CI; docs/handbook.md, kubernetes.md and scaling.md have tests of their own.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest
import torch
import yaml

from dino4cells.augment import registry
from dino4cells.augment.draws import Draws
from dino4cells.augment.registry import build_transform, check_transforms
from dino4cells.cli import main
from dino4cells.config import parse_config

ROOT = Path(__file__).resolve().parents[2]
PAGES = (
    "README.md",
    "docs/tutorial.md",
    "docs/channels.md",
    "docs/troubleshooting.md",
    "docs/python.md",
)  # each goes on from the one before
TEXTS = {page: (ROOT / page).read_text(encoding="utf-8") for page in (*PAGES, "CONTRIBUTING.md")}
ALL_PAGES = sorted(["README.md", "CONTRIBUTING.md", *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))])

# What makes the examples small: as many cells, epochs and pixels as a minute allows.
SMALLER = {"simulate cells": "simulate cells --cells 84 --size 32", "--epochs 4": "--epochs 1"}
RUN_ELSEWHERE = ("run", "export")
"""`make demo`, which CI runs, is the one; test_export runs the other."""


def blocks(page: str, *languages: str) -> list[tuple[str, str]]:
    """Language and text of the blocks of a page."""
    return re.findall(rf"```({'|'.join(languages)})\n(.*?)```", TEXTS[page], flags=re.DOTALL)


def smaller(command: str) -> str:
    for long, short in SMALLER.items():
        command = re.sub(rf"{re.escape(long)}(?!\S)", short, command)
    return command


def commands(page: str) -> list[str]:
    """The commands of a page that are run here, as they stand there."""
    lines = [re.split(r"\s+#", line)[0].strip() for _, text in blocks(page, "sh") for line in text.splitlines()]
    return [line for line in lines if line.split()[:1] == ["dino4cells"] and line.split()[1] not in RUN_ELSEWHERE]


def examples() -> list[tuple[str, str, str]]:
    """(page, language, text): a command, or a block of Python; a command that an earlier page has run is not run again."""
    found: list[tuple[str, str, str]] = []
    known = set()
    for page in PAGES:
        for language, text in blocks(page, "sh", "python"):
            if language == "python":
                found.append((page, language, text))
                continue
            for line in text.splitlines():
                command = re.split(r"\s+#", line)[0].strip()
                if command in commands(page) and smaller(command) not in known:
                    known.add(smaller(command))
                    found.append((page, language, smaller(command)))
    return found


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    place = tmp_path_factory.mktemp("pages")
    ((_, smears),) = blocks("docs/channels.md", "yaml")
    (place / "smears.yaml").write_text(smears)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setitem(sys.modules, "umap", None)  # principal components do: the compilation of UMAP takes longer than all that is here
        yield place


@pytest.fixture(scope="module")
def namespaces() -> dict[str, dict[str, object]]:
    """What the blocks of Python of each page have defined so far."""
    return {page: {"__name__": page} for page in PAGES}


@pytest.mark.parametrize(("page", "language", "text"), examples())
def test_the_example_works(
    page: str,
    language: str,
    text: str,
    directory: Path,
    namespaces: dict[str, dict[str, object]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if language == "python":
        exec(compile(text, page, "exec"), namespaces[page])
        return
    words = shlex.split(text)
    monkeypatch.setattr("sys.argv", words)
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code


def test_the_readmes_features_are_all_cells(directory: Path, namespaces: dict[str, dict[str, object]]) -> None:
    features = namespaces["README.md"]["features"]
    assert isinstance(features, pd.DataFrame)
    assert len(features) == len(pd.read_csv(directory / "cells" / "metadata.csv"))


def test_everything_that_is_made_smaller_is_on_a_page() -> None:
    assert [long for long in SMALLER if not any(long in text for text in TEXTS.values())] == []


LINKED = [*ALL_PAGES, "SECURITY.md", *(f"benchmarks/{path.name}" for path in (ROOT / "benchmarks").glob("*.md"))]


@pytest.mark.parametrize("page", LINKED)
def test_links_lead_to_files_and_headings_that_exist(page: str) -> None:
    text = re.sub(r"```.*?```", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", text):
        path, _, heading = target.partition("#")
        place = (ROOT / page).parent / path if path else ROOT / page
        assert place.exists(), target
        if heading:
            titles = re.findall(r"^#+ (.*)$", place.read_text(encoding="utf-8"), flags=re.MULTILINE)
            assert heading in [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles], target


def test_every_page_is_linked_from_the_readme() -> None:
    linked = set(re.findall(r"\]\(([\w/-]+\.md)\)", TEXTS["README.md"]))
    assert {page for page in ALL_PAGES if page.startswith("docs/")} - linked == set()


def test_pages_that_code_and_files_name_exist() -> None:
    folders = ("dino4cells", "components", "pipelines", "manifests", "docker", "benchmarks", "tests")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.suffix in (".py", ".yaml", ".md", ".sh")]
    texts = [(path, path.read_text(encoding="utf-8")) for path in (*files, ROOT / "Makefile", ROOT / "SECURITY.md")]
    named = {(name, path.name) for path, text in texts for name in re.findall(r"(?<![\w/])docs/[\w-]+\.(?:md|py)", text)}
    assert len(named) > 10
    assert [(name, file) for name, file in sorted(named) if not (ROOT / name).exists()] == []


def test_pictures_are_small() -> None:
    pictures = list((ROOT / "docs" / "images").iterdir())
    assert pictures
    assert [picture.name for picture in pictures if picture.stat().st_size > 150_000] == []
    shown = {name for text in TEXTS.values() for name in re.findall(r"!\[[^\]]*\]\([\w/]*images/([\w.-]+)\)", text)}
    assert shown == {picture.name for picture in pictures}


def test_every_make_target_that_a_page_names_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = {target for names in re.findall(r"^([a-z][a-z -]*):(?!=)", makefile, flags=re.MULTILINE) for target in names.split()}
    named = {name for text in TEXTS.values() for name in re.findall(r"(?:^|`)make ([a-z-]+)", text, flags=re.MULTILINE)}
    assert named
    assert named - targets == set()


def test_ci_runs_the_readmes_two_commands() -> None:
    assert re.search(r"^demo:.*\n.*dino4cells run ", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert re.search(r"^make demo\b", script, flags=re.MULTILINE)
    assert re.search(r"^make test$", script, flags=re.MULTILINE)


def test_the_words_that_troubleshooting_quotes_are_said_by_the_code() -> None:
    code = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "dino4cells").rglob("*.py"))
    said = re.sub(r"\{[^{}]*\}", "", re.sub(r'"\s*\n\s*f?"', "", code))
    theirs = {"dino4cells: command not found", "RuntimeError", "DataLoader worker is killed", "out_dim"}  # the shell's, PyTorch's, a key
    rows = [line for line in TEXTS["docs/troubleshooting.md"].splitlines() if line.startswith("| ") and not line.startswith("| ---")]
    quoted = {words for row in rows for words in re.findall(r"`([^`]+)`", row.split(" | ")[0])} - theirs
    assert len(quoted) > 15
    squeezed = " ".join(said.split())
    assert [words for words in sorted(quoted) if words not in squeezed] == []


def test_the_example_of_a_configuration_is_one() -> None:
    ((_, text),) = blocks("docs/channels.md", "yaml")
    config = parse_config(text)
    check_transforms(config)
    assert yaml.safe_load(text)["preset"] == "small"
    assert "remove_channel" not in [name for name, _ in config.section("flip_and_color_jitter_transforms")]


def test_files_that_contributing_names_exist() -> None:
    rooms = "dino4cells|tests|docs|components|pipelines|manifests|augment|models|training|cluster"
    named = set(re.findall(rf"`((?:{rooms})/[\w/.]*)`", TEXTS["CONTRIBUTING.md"]))
    assert len(named) > 25
    assert [name for name in sorted(named) if not (ROOT / name).exists() and not (ROOT / "dino4cells" / name).exists()] == []


def test_the_transform_of_contributing_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    ((_, code),) = blocks("CONTRIBUTING.md", "python")
    contributed = ModuleType("contributed")
    monkeypatch.setitem(sys.modules, contributed.__name__, contributed)  # where a dataclass looks for its module
    exec(compile(code, "CONTRIBUTING.md", "exec"), contributed.__dict__)
    monkeypatch.setitem(registry.TRANSFORMS, "Invert", contributed.Invert)
    transform = build_transform("Invert", {"p": 0.25}, lambda *_: "global_aug1")
    views = torch.rand(2000, 2, 3, 3, generator=torch.Generator().manual_seed(0))
    after = transform.apply(views, Draws(torch.arange(2000)))
    changed = (after != views).flatten(1).any(dim=1)
    assert float(changed.double().mean()) == pytest.approx(0.25, abs=0.04)
    assert torch.equal(after[changed], 1 - views[changed])
