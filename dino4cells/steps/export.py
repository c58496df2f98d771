"""The verb `export`: a trained network as one file for other runtimes, ONNX or TorchScript, checked against the model.

Dimensions: B batch, C channels, H height, W width, D features.
"""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from torch import nn

import dino4cells
from dino4cells import storage
from dino4cells.augment.intensity import Intensity, ToTensor
from dino4cells.augment.scaling import Normalize, SelfNormalize, SelfNormalizeWithoutBlackPixels
from dino4cells.augment.views import ViewKind
from dino4cells.config import Config
from dino4cells.data.modes import Mode, mode_for
from dino4cells.errors import ArtifactError, ConfigError
from dino4cells.models.artifact import TrainedModel
from dino4cells.models.vit import DinoVisionTransformer
from dino4cells.steps.configuration import configuration_of
from dino4cells.steps.extraction import seen_as_learnt
from dino4cells.steps.inputs import trained_model

WRITABLE: Final = (ToTensor, Normalize, SelfNormalize, SelfNormalizeWithoutBlackPixels)
IMAGES, FEATURES = "images", "features"
ENDINGS: Final = {".onnx": "onnx", ".pt": "torchscript"}
"""What is written to a file with such an ending."""
DESCRIPTION = "dino4cells.json"
"""The extra file of a TorchScript file with what that says about itself."""

Run = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Exported:
    """What was written: images (B, C, side, side) in [0, 1] in, features (B, D) out, for any B.

    Attributes:
        difference: largest absolute difference from the model's features, on random images; None where nothing can run the file here.
    """

    output: str
    channels: tuple[str, ...]
    side: int
    difference: float | None


class _Network(nn.Module):
    """Normalization and network, as extraction has them."""

    def __init__(self, backbone: nn.Module, transforms: tuple[Intensity, ...], mode: Mode) -> None:
        super().__init__()
        self.backbone, self.transforms, self.mode = backbone, transforms, mode

    def forward(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        kept_BCHW = images_BCHW[:, list(self.mode.kept)]
        return torch.cat([self._embedded(kept_BCHW[:, list(given)]) for given in self.mode.inputs], dim=1)

    def _embedded(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        for transform in self.transforms:
            images_BCHW = transform.change(images_BCHW.clone(), ())
        embedded_BD: torch.Tensor = self.backbone(images_BCHW)
        return embedded_BD


def export(
    model: str,
    *,
    output: str,
    format: str = "",
    side: int | None = None,
    config: Config | None = None,
    overwrite: bool = False,
) -> Exported:
    """Write a model, with its normalization, as one file.

    Args:
        model: URL of a model artifact, or of a checkpoint of DINO4Cells or DINO.
        output: URL of the file.
        format: `onnx` or `torchscript`; what the output's ending says (`.onnx`, `.pt`) when empty.
        side: height and width of its images in pixels, which the file fixes; the side that the model's positions were made for when None.
        config: `testing_transfo` is used; the model's own configuration when None.
        overwrite: replace a file that is at `output`.

    Raises:
        ConfigError: another format, or a model whose views a file cannot make.
        Dino4CellsError: what else the user can fix.
    """
    write = _WRITERS[_format_of(output, format)]
    if not overwrite and storage.exists(output):
        raise ArtifactError(f"{output}: is there already; choose another output, or pass --overwrite to replace it.")
    storage.check_writable(storage.parent(output))
    settings = config or configuration_of(model, {})
    trained = trained_model(model, settings)
    side = side or trained.card.image_size
    if side < trained.backbone.smallest_side:
        raise ConfigError(f"--side: {side} px is smaller than the model takes; give {trained.backbone.smallest_side} or more.")
    network = network_of(trained, seen_as_learnt(settings, trained))
    images_BCHW = torch.rand(3, len(trained.card.channels), side, side, generator=torch.Generator().manual_seed(0))
    staging = storage.staging(storage.parent(output))
    try:
        path = staging / "network"
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch's and onnxscript's own, about each other and about tracing
            expected_BD = network(images_BCHW)  # first, so that tracing finds the numbers of Normalize made already (`augment.constants`)
            run = write(network, images_BCHW[:2], path, _described(trained, settings, side))
            difference = None if run is None else float((run(images_BCHW) - expected_BD).abs().max())
        storage.upload(path, output)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return Exported(output, trained.card.channels, side, difference)


def network_of(trained: TrainedModel, config: Config) -> _Network:
    """What is exported: images (B, C, H, W) in [0, 1] to features (B, D).

    Raises:
        ConfigError: a transform or an image mode that a file cannot have.
    """
    card = trained.card
    mode = mode_for(card.image_mode, card.channels, where="model", counted=False)
    if mode.stretched:
        raise ConfigError(
            f"model.image_mode: {card.image_mode} stretches each image before it is seen, which is not exported; use extract."
        )
    view = ViewKind.from_sections(config, ("testing_transfo",))
    view.channels_after(mode.in_channels)
    transforms: list[Intensity] = []
    for transform, place in zip(view.transforms, view.places, strict=True):
        if not isinstance(transform, WRITABLE):
            raise ConfigError(
                f"{place}: normalization alone is exported, and no transform that changes the size or the channels; use extract."
            )
        transforms.append(transform)
    return _Network(trained.backbone, tuple(transforms), mode).eval()


def _described(trained: TrainedModel, config: Config, side: int) -> dict[str, str]:
    """What the file says about itself."""
    card = trained.card
    return {
        "channels": json.dumps(card.channels, ensure_ascii=False),
        "image_mode": card.image_mode,
        "input": f"batch × {len(card.channels)} × {side} × {side}, float32 in [0, 1]; the normalization is part of the network",
        "normalization": json.dumps([[name, parameters] for name, parameters in config.section("testing_transfo")], ensure_ascii=False),
        "arch": card.arch,
        "model_fingerprint": trained.artifact.fingerprint,
        "dino4cells": dino4cells.__version__,
    }


def _format_of(output: str, format: str) -> str:
    """The format that is asked for, or that the output's ending says."""
    ending = Path(output).suffix
    known = format or ENDINGS.get(ending, "")
    if known in _WRITERS:
        return known
    wrong = f"--format: {format} is not written here" if format else f"{output}: the ending '{ending}' says no format"
    raise ConfigError(f"{wrong}; use onnx (.onnx) or torchscript (.pt).")


def _write_onnx(network: _Network, images_BCHW: torch.Tensor, path: Path, described: dict[str, str]) -> Run | None:
    """Write the network and what it says about itself; returns what runs the file, where that is installed."""
    import onnxscript  # noqa: F401  # so that its absence is told by its name

    shapes = ({0: torch.export.Dim("batch")},)
    program = torch.onnx.export(
        network, (images_BCHW,), dynamo=True, verbose=False, input_names=[IMAGES], output_names=[FEATURES], dynamic_shapes=shapes
    )
    assert program is not None
    program.model.metadata_props.update(described)
    program.save(path)
    try:
        import onnxruntime
    except ModuleNotFoundError:
        return None
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run([FEATURES], {IMAGES: images.numpy()})[0])


def _write_torchscript(network: _Network, images_BCHW: torch.Tensor, path: Path, described: dict[str, str]) -> Run | None:
    """As `_write_onnx`; for `torch.jit.load`, and for programs with LibTorch."""
    if isinstance(network.backbone, DinoVisionTransformer):  # sizes are no numbers while it is traced, as their interpolation wants them
        network.backbone.pos_embed = nn.Parameter(network.backbone.positions(*images_BCHW.shape[2:]), requires_grad=False)
    traced = torch.jit.trace(network, (images_BCHW,), check_trace=False)  # type: ignore[no-untyped-call]  # the caller compares more
    torch.jit.save(traced, str(path), _extra_files={DESCRIPTION: json.dumps(described, ensure_ascii=False)})
    read: Run = torch.jit.load(str(path))  # type: ignore[no-untyped-call]
    return read


_WRITERS: Final = {"onnx": _write_onnx, "torchscript": _write_torchscript}
