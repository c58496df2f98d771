"""What the image is built from, the workflows that build and test it, and the exceptions that are made: all agree with each other."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # which pytest brings there

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "docker" / "Dockerfile").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
(EXTRAS,) = re.findall(r"^ARG EXTRAS=(.*)$", DOCKERFILE, re.MULTILINE)
IMAGE_WORKFLOW = ROOT / ".github" / "workflows" / "image.yml"
# By the calendar, or a major number that means nothing (pyproject.toml says so of each).
WITHOUT_UPPER_BOUND = {
    *("fsspec", "s3fs", "pyarrow", "tifffile", "pillow", "imagecodecs", "kubernetes-validate", "setuptools", "pandas-stubs"),
}


def requirements(*extras: str) -> list[Requirement]:
    """Of the package, or of some of its extras, those that these name among them."""
    words = [word for extra in extras for word in PROJECT["optional-dependencies"][extra]] if extras else PROJECT["dependencies"]
    found = [Requirement(word) for word in words]
    own = [extra for one in found if one.name == PROJECT["name"] for extra in sorted(one.extras)]
    return [one for one in found if one.name != PROJECT["name"]] + (requirements(*own) if own else [])


def pinned(file: str) -> dict[str, str]:
    """Versions by name."""
    text = (ROOT / "docker" / file).read_text()
    return {canonicalize_name(name): version for name, version in re.findall(r"^([\w.-]+)==([^\s;\\]+)", text, re.MULTILINE)}


CONSTRAINTS, LOCK = pinned("constraints.txt"), pinned("requirements.txt")
# tiff's codecs are an extra that neither the tests nor the image have.
ALL = [*requirements(), *requirements(*(extra for extra in PROJECT["optional-dependencies"] if extra != "tiff"))]
OF_IMAGE = [*requirements(), *requirements(*EXTRAS.split(","))]


@pytest.mark.parametrize("requirement", ALL, ids=lambda one: one.name)
def test_every_dependency_is_bounded_and_was_tested_within_its_bounds(requirement: Requirement) -> None:
    name = canonicalize_name(requirement.name)
    operators = {one.operator for one in requirement.specifier}

    assert ">=" in operators, f"{requirement}: no lower bound"
    assert ("<" in operators) == (name not in WITHOUT_UPPER_BOUND), requirement
    if name != "setuptools":  # pip does not list it
        assert requirement.specifier.contains(CONSTRAINTS[name]), f"{requirement}: tested with {CONSTRAINTS[name]}; run make lock"


@pytest.mark.parametrize("requirement", OF_IMAGE, ids=lambda one: one.name)
def test_every_dependency_of_the_image_is_locked_within_its_bounds(requirement: Requirement) -> None:
    assert requirement.specifier.contains(LOCK[canonicalize_name(requirement.name)]), f"{requirement}: run make lock"


def test_the_image_has_the_versions_that_were_tested() -> None:
    others = {name: version for name, version in LOCK.items() if name in CONSTRAINTS and CONSTRAINTS[name] != version}

    assert others == {}, "run make lock"
    # What builds this package, and what another system than Linux wants.
    assert LOCK.keys() - CONSTRAINTS.keys() == {"setuptools", "colorama"}


def test_every_package_of_the_lock_has_hashes_and_comes_from_no_place_of_its_own() -> None:
    text = (ROOT / "docker" / "requirements.txt").read_text()
    blocks = [block for block in re.split(r"\n(?=[A-Za-z])", text.partition("\n")[2]) if block.strip()]

    assert len(blocks) == len(LOCK) > 100
    for block in blocks:
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", block), block
    for name in ("requirements.txt", "constraints.txt"):
        assert not re.search(r"--(extra-)?index-url|--find-links|://", (ROOT / "docker" / name).read_text()), name


def test_the_image_is_built_from_the_lock() -> None:
    assert "--require-hashes" in DOCKERFILE
    assert "docker/requirements.txt" in DOCKERFILE
    assert re.findall(r"^ARG LOCKED=(.*)$", DOCKERFILE, re.MULTILINE) == [EXTRAS]
    for line in re.findall(r"pip install (.*)", DOCKERFILE):
        assert "--require-hashes" in line or "--constraint" in line or "--no-deps" in line, line
    assert "!docker/requirements.txt" in (ROOT / ".dockerignore").read_text().splitlines()


# Workflows


def steps(workflow: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for job in workflow["jobs"].values():
        yield from job["steps"]


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.stem)
def test_a_workflow_has_few_rights_and_an_end_and_runs_what_it_names(file: Path) -> None:
    workflow = yaml.safe_load(file.read_text())

    assert workflow["permissions"] == {"contents": "read"}
    assert workflow["concurrency"]["group"]
    assert "secrets." not in file.read_text()
    assert "pull_request_target" not in file.read_text()
    for job in workflow["jobs"].values():
        assert 0 < job["timeout-minutes"] <= 90
    for step in steps(workflow):
        if "uses" in step:
            assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", step["uses"]), f"{step['uses']}: name the commit"
            assert re.search(rf"{re.escape(step['uses'])} # v\d+\.\d+\.\d+$", file.read_text(), re.MULTILINE), step["uses"]
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False
        # What somebody writes into the title of a request must not become a command.
        assert "${{" not in step.get("run", "")


def test_every_target_that_a_workflow_makes_is_there() -> None:
    makefile = (ROOT / "Makefile").read_text()
    made = {
        target
        for file in WORKFLOWS
        for step in steps(yaml.safe_load(file.read_text()))
        for target in re.findall(r"^make ([\w-]+)", step.get("run", ""), re.MULTILINE)
    }

    assert made == {"image-test", "kind-up", "e2e", "kind-down", "audit"}
    for target in made:
        assert re.search(rf"^{target}\b[^=\n]*:", makefile, re.MULTILINE), target


def test_the_image_is_that_of_the_makefile() -> None:
    """Built by an action, for its cache; with the arguments of `make image`."""
    (build,) = (step["with"] for step in steps(yaml.safe_load(IMAGE_WORKFLOW.read_text())) if "build-push" in step.get("uses", ""))
    (name,) = re.findall(r'^IMAGE = "(.*)"$', (ROOT / "components" / "image.py").read_text(), re.MULTILINE)

    assert build["tags"] == name
    assert f"VERSION={PROJECT['version']}" in build["build-args"].splitlines()
    assert build["file"] == "docker/Dockerfile"
    assert "push" not in build


def test_the_oldest_python_that_is_allowed_is_tested() -> None:
    tests = yaml.safe_load((ROOT / ".github" / "workflows" / "tests.yml").read_text())

    assert PROJECT["requires-python"] == f">={tests['jobs']['tests']['strategy']['matrix']['python'][0]}"


# SECURITY.md


def test_every_test_that_a_promise_names_is_there() -> None:
    text = (ROOT / "SECURITY.md").read_text()
    named = re.findall(r"`(tests/[\w/]+\.py)`", text)

    assert len(named) >= 8
    for file in named:
        assert (ROOT / file).is_file(), file


# Exceptions


def test_an_exception_that_bandit_is_given_holds_expat_stops_what_grows_too_fast() -> None:
    """B314: the XML of a TIFF is read by the standard library."""
    entities = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 12))
    bomb = f'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY a0 "{"lol" * 10}">{entities}]><a>&a11;</a>'
    with pytest.raises(ElementTree.ParseError, match="amplification"):
        ElementTree.fromstring(bomb)
    with pytest.raises(ElementTree.ParseError, match="undefined entity"):
        ElementTree.fromstring('<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>')


def test_every_exception_of_bandit_has_its_reason_beside_it() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    (skips,) = re.findall(r"^\[tool\.bandit\]\n.*?^skips = \[\n(.*?)^\]", text, re.MULTILINE | re.DOTALL)

    for line in skips.splitlines():
        assert re.fullmatch(r'    ("B\d{3}", ?)+ # .{20,}', line), line
