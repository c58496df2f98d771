"""What is installed: everything works from a wheel as from the clone, and the lower floors need no Kubeflow."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

import dino4cells

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("dino4cells", "components", "pipelines", "pyproject.toml", "README.md", "LICENSE")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy so that nothing is left in the clone."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif (ROOT / name).exists():
            shutil.copy(ROOT / name, source / name)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run([*command, "--wheel-dir", str(target), str(source)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = target.glob("dino4cells-*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the wheel's packages and nothing else; dependencies come from this environment."""
    target = tmp_path_factory.mktemp("installed")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-compile", "--target", str(target)]
    done = subprocess.run([*command, str(wheel)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return target


def python(installed: Path | None, directory: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Python in another directory than the clone, with the installed packages before all others."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    if installed is not None:
        environment["PYTHONPATH"] = str(installed)
    done = subprocess.run([sys.executable, *words], cwd=directory, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def test_the_wheel_holds_presets_and_the_compiled_pipeline(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    presets = {f"dino4cells/config/presets/{path.name}" for path in (ROOT / "dino4cells" / "config" / "presets").glob("*.yaml")}
    assert presets >= {"dino4cells/config/presets/small.yaml", "dino4cells/config/presets/handbook.yaml"}
    assert set(names) >= {*presets, "dino4cells/pipelines/dino4cells.yaml", "dino4cells/components/train.py", "dino4cells/py.typed"}


def test_the_wheel_holds_every_module_and_nothing_of_the_tests(wheel: Path) -> None:
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "dino4cells").rglob("*.py")}
    modules |= {
        f"dino4cells/{path.relative_to(ROOT).as_posix()}" for name in ("components", "pipelines") for path in (ROOT / name).glob("*.py")
    }
    inside = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name and name.endswith(".py")}
    assert inside == modules, "a new package must be named in [tool.setuptools] packages of pyproject.toml"


def test_the_command_line_works_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    where = python(
        installed, tmp_path, "-c", "import dino4cells.pipelines, dino4cells; print(dino4cells.__file__, dino4cells.pipelines.__file__)"
    )
    assert where.stdout.split() == [str(installed / "dino4cells/__init__.py"), str(installed / "dino4cells/pipelines/__init__.py")]
    assert python(installed, tmp_path, "-m", "dino4cells.cli", "--version").stdout == f"dino4cells {dino4cells.__version__}\n"
    config = python(installed, tmp_path, "-m", "dino4cells.cli", "config", "--preset", "small").stdout
    assert yaml.safe_load(config)["model"]["targets"] == "sinkhorn"
    assert python(installed, tmp_path, "-m", "dino4cells.cli", "pipeline", "compile", "mine.yaml").stdout == "wrote mine.yaml\n"
    assert next(yaml.safe_load_all((tmp_path / "mine.yaml").read_text()))["pipelineInfo"]["name"] == "dino4cells"
    assert (installed / "bin" / "dino4cells").exists()


def test_components_and_pipelines_are_found_from_the_clone_too(tmp_path: Path) -> None:
    code = "import dino4cells.components as c, dino4cells.pipelines as p; print(c.__file__); print(p.__file__)"
    found = python(None, tmp_path, "-c", code).stdout.splitlines()
    assert found == [str(ROOT / "components" / "__init__.py"), str(ROOT / "pipelines" / "__init__.py")]


def test_training_and_extraction_import_neither_kubeflow_nor_what_classification_needs(tmp_path: Path) -> None:
    modules = "dino4cells.steps, dino4cells.training.__main__, dino4cells.features.__main__, dino4cells.cli"
    others = {"kfp", "kubernetes", "matplotlib", "umap", "sklearn", "skops", "torchvision"}
    code = f"import sys, {modules}; print(sorted({others!r} & set(sys.modules)))"
    assert python(None, tmp_path, "-c", code).stdout == "[]\n"
