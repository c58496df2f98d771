"""Every fast path equals the plain reference of `benchmarks/reference`, within the tolerances stated here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks.reference import transforms as plainly
from benchmarks.reference.extraction import extract
from benchmarks.reference.images import read_image, to_tensor, write_images
from benchmarks.reference.network import PlainTransformer
from benchmarks.reference.training import Settings, Trainer
from dino4cells.augment.brightness import ChangeBrightness, ChangeContrast
from dino4cells.augment.channels import RemoveChannel
from dino4cells.augment.crops import RandomResizedCrop
from dino4cells.augment.draws import Draws, sample_keys
from dino4cells.augment.geometry import Geometric, WarpCell
from dino4cells.augment.stages import Transform
from dino4cells.augment.views import MultiCrop, ViewKind
from dino4cells.config import Config, load_config
from dino4cells.data.dataset import CellImages
from dino4cells.data.images import decode, to_unit_range
from dino4cells.data.source import plain_source
from dino4cells.features.embedding import embed
from dino4cells.models.backbones import build_backbone
from dino4cells.training.distributed import ProcessGroup
from dino4cells.training.loop import DINO
from dino4cells.training.schedules import Schedules

BATCH, STEPS, EPOCH = 4, 12, 3
SETTINGS = Settings(
    STEPS, EPOCH, BATCH, image_size=16, patch=8, local_views=2, prototypes=512, hidden=64, bottleneck=32, drop_path=0.0,
    lr=0.02, warmup_epochs=2, momentum=0.9, clip_grad=0.05,
)  # fmt: skip
SHAPES = [(4, 16, 16)] * 2 + [(4, 8, 8)] * 2
MakeConfig = Callable[..., Config]


@pytest.fixture
def sides(tiny_config: MakeConfig) -> Callable[..., tuple[DINO, Trainer]]:
    """Ours, with changed keys of `model`, and the reference, in one state: peaked outputs, a teacher of its own, a centre."""

    def make(**model: object) -> tuple[DINO, Trainer]:
        keys = {"out_dim": 512, "batch_size": BATCH, "lr": 0.02, "warmup_epochs": 2, "freeze_last_layer": 1, "clip_grad": 0.05, **model}
        config = tiny_config(**keys)
        schedules = Schedules.from_config(config.model, EPOCH * BATCH, STEPS * BATCH, BATCH)
        dino, trainer = DINO(config, 4, schedules, ProcessGroup(0, 1, 0, torch.device("cpu"))), Trainer(SETTINGS)
        torch.manual_seed(0)
        for network, plain in ((dino.student, trainer.student), (dino.teacher, trainer.teacher)):
            for parameter in network.parameters():
                if parameter.ndim > 1 and parameter.shape != (512, 1):  # the prototypes' lengths stay one
                    nn.init.normal_(parameter, std=0.15)
            plain.load_state_dict(network.state_dict())
        dino.targets.center.normal_(std=0.1)
        trainer.loss.center = dino.targets.center.clone()
        return dino, trainer

    return make


def drawn_views(seed: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(BATCH, *shape, generator=generator) for shape in SHAPES]


def step_both(dino: DINO, trainer: Trainer, views: list[torch.Tensor]) -> tuple[float, float]:
    """The losses of one step of ours and of the reference on the same views."""
    ours = dino.step_on_views(torch.stack(views[:2]), torch.stack(views[2:]), trainer.done * BATCH)
    return ours.item(), trainer.step(views)


def note_gradients(network: nn.Module) -> dict[str, torch.Tensor]:
    """Gradients as the backward pass leaves them, before they are clipped, by name."""
    noted: dict[str, torch.Tensor] = {}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            parameter.register_post_accumulate_grad_hook(lambda p, name=name: noted.update({name: p.grad.clone()}))
    return noted


def distance(values: torch.Tensor, expected: torch.Tensor) -> float:
    """Of two tensors, relative to the length of the second."""
    return float((values - expected).norm() / expected.norm().clamp(min=1e-12))


# A step


@pytest.mark.parametrize(
    "way", [{}, {"accumulation": 2}, {"activation_checkpointing": True}], ids=["all at once", "in parts", "with activations computed again"]
)
def test_loss_and_gradients_of_a_step_are_those_of_the_sum_over_pairs(
    way: dict[str, object], sides: Callable[..., tuple[DINO, Trainer]]
) -> None:
    dino, trainer = sides(freeze_last_layer=0, **way)
    ours, theirs = note_gradients(dino.student), note_gradients(trainer.student)

    loss, expected = step_both(dino, trainer, drawn_views(0))

    assert loss == pytest.approx(expected, rel=1e-5)
    assert set(ours) == set(theirs)
    largest = max(gradient.norm() for gradient in theirs.values())
    for name, gradient in theirs.items():
        torch.testing.assert_close(
            ours[name], gradient, rtol=1e-4, atol=1e-6 * float(largest), msg=lambda text, name=name: f"{name}: {text}"
        )
    assert sum(gradient.norm() > SETTINGS.clip_grad for gradient in theirs.values()) > 5  # so that clipping changes what comes next


def test_a_step_in_bfloat16_is_near_the_one_in_float32(sides: Callable[..., tuple[DINO, Trainer]]) -> None:
    dino, trainer = sides(precision="bfloat16", freeze_last_layer=0)
    ours, theirs = note_gradients(dino.student), note_gradients(trainer.student)

    loss, expected = step_both(dino, trainer, drawn_views(0))

    assert loss == pytest.approx(expected, rel=0.01)
    together, apart = (torch.cat([gradients[name].flatten() for name in theirs]) for gradients in (ours, theirs))
    assert torch.cosine_similarity(together, apart, dim=0) > 0.99


def test_student_teacher_and_centre_go_the_same_way_over_many_steps(sides: Callable[..., tuple[DINO, Trainer]]) -> None:
    """The last layer is frozen in the first quarter, the learning rate rises in the first half, and gradients are clipped."""
    dino, trainer = sides()
    start = {name: value.clone() for name, value in trainer.student.state_dict().items()}
    teacher_start = {name: value.clone() for name, value in trainer.teacher.state_dict().items()}

    for step in range(STEPS):
        loss, expected = step_both(dino, trainer, drawn_views(step))
        assert loss == pytest.approx(expected, rel=1e-3)
        moved = not torch.equal(dino.student.head.last_layer.weight_v, start["head.last_layer.weight_v"])
        assert moved == (step >= EPOCH)

    for network, plain, before in ((dino.student, trainer.student, start), (dino.teacher, trainer.teacher, teacher_start)):
        for name, expected in plain.state_dict().items():
            moved, by_reference = network.state_dict()[name] - before[name], expected - before[name]
            if name.endswith("qkv.bias"):
                # A key's bias changes no attention: its gradient is rounding alone, of which Adam's steps are as long as of any other.
                (moved, _, last), (by_reference, _, last_expected) = moved.chunk(3), by_reference.chunk(3)
                assert distance(last, last_expected) < 0.01, name
            assert distance(moved, by_reference) < 0.01, name
    assert distance(dino.targets.center, trainer.loss.center) < 1e-4


def test_schedules_are_the_arrays_of_the_reference(sides: Callable[..., tuple[DINO, Trainer]]) -> None:
    dino, trainer = sides()

    for name, ours in (("lr", dino.schedules.lr), ("weight_decay", dino.schedules.weight_decay), ("momentum", dino.schedules.momentum)):
        assert [ours(step * BATCH) for step in range(STEPS)] == pytest.approx(list(getattr(trainer, name)), rel=1e-9), name
    assert dino.schedules.frozen == trainer.frozen * BATCH


# Views


def smooth_image(height: int, width: int) -> torch.Tensor:
    """Waves of many pixels, so that it makes little difference whether an image is resampled once or twice."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack(
        [0.4 + 0.3 * torch.sin((channel + 2) * x / 50 + channel) * torch.cos((4 - channel) * y / 60) for channel in range(4)]
    )


def plain_step(transform: Transform, image: torch.Tensor, draws: Draws) -> torch.Tensor:
    """What the reference does to an image for the numbers that `transform` drew for it."""
    if isinstance(transform, Geometric):
        height, width = image.shape[1:]
        step = transform.homography(torch.tensor([[float(height), float(width)]]), draws)[0][0].double()
        if isinstance(transform, WarpCell):
            corners = torch.tensor([[0, 0, 1], [width, 0, 1], [width, height, 1], [0, height, 1]], dtype=torch.float64)
            moved = (step.inverse() @ corners.T).T
            inwards = (moved[:, :2] / moved[:, 2:] - corners[:, :2]).abs().round().int()
            corner = int(inwards.sum(dim=1).argmax())
            return plainly.warp_cell(image, corner, *inwards[corner].tolist())
        if isinstance(transform, RandomResizedCrop):
            (w, _, left), (_, h, top) = (step[:2] * torch.tensor([[transform.size, 1, 1], [1, transform.size, 1]])).tolist()
            side = [transform.size, transform.size]
            return plainly.TF.resized_crop(image, round(top), round(left), round(h), round(w), side, plainly.BILINEAR, antialias=False)
        return image.flip([axis for axis, flipped in ((1, step[1, 1] < 0), (2, step[0, 0] < 0)) if flipped])
    if isinstance(transform, RemoveChannel):
        removed = (transform.gains(torch.ones(1, 4), transform.draw(draws, 4))[0] == 0).nonzero().flatten().tolist()
        return plainly.remove_channel(image, removed[0]) if removed else image
    if isinstance(transform, ChangeBrightness):
        return plainly.change_brightness(image, transform.apply(torch.full((1, 4, 1, 1), 0.01), draws).flatten() / 0.01)
    if isinstance(transform, ChangeContrast):
        about_a_half = torch.tensor([0.49, 0.51]).expand(1, 4, 1, 2)
        return plainly.change_contrast(image, (transform.apply(about_a_half, draws)[0, :, 0, 1] - 0.5) / 0.01)
    return plainly.self_normalize(image) if type(transform).__name__ == "SelfNormalize" else image


@pytest.mark.parametrize(("kind", "median", "on_edges"), [("first", 0.01, 0.03), ("second", 0.002, 0.01), ("local", 0.002, 0.01)])
def test_a_view_is_what_the_transforms_one_after_the_other_make_of_the_image(kind: str, median: float, on_edges: float) -> None:
    """For the same numbers drawn; the published configuration. Differences are in units of a channel's deviation.

    The reference resamples a warped cell twice, which blurs the edge of the cut-off corner and moves the mean a little.
    """
    view_kind: ViewKind = getattr(MultiCrop.from_config(load_config()), kind)
    image = smooth_image(180, 150)
    keys_BV = sample_keys(0, torch.tensor(0), torch.tensor(0), torch.arange(12))[None]

    views = view_kind.make(image[None], torch.tensor([[180, 150]]), keys_BV)[:, 0]

    for view, key in zip(views, keys_BV[0], strict=True):
        expected = image
        for position, transform in enumerate(view_kind.transforms):
            expected = plain_step(transform, expected, Draws(key.reshape(1)).of_transform(position))
        difference = (view - expected).abs()
        assert difference.median() < median
        assert (difference > 0.05).float().mean() < on_edges


# Images and features


@pytest.mark.parametrize(("format", "tolerance"), [("png", 0), ("tiff", 0), ("tiff16", 0), ("png16", 1 / 255)])
def test_images_are_decoded_as_scikit_image_reads_them(format: str, tolerance: float, tmp_path: Path) -> None:
    """Of 16-bit PNGs it reads the upper 8 bits."""
    for path in write_images(tmp_path, 2, side=40, format=format):
        image = to_unit_range(decode(path.read_bytes(), str(path)))
        torch.testing.assert_close(image, to_tensor(read_image(path)), rtol=0, atol=tolerance + 1e-7)


def test_features_are_those_of_the_plain_network_on_images_read_one_by_one(tmp_path: Path) -> None:
    backbone = build_backbone("vit_tiny", 8, 32, 4).eval()
    for parameter in backbone.parameters():
        nn.init.normal_(parameter, std=0.1)
    plain = PlainTransformer(4, 32, 8).eval()
    plain.load_state_dict(backbone.state_dict())
    paths = write_images(tmp_path, 5, side=48)

    images = CellImages(plain_source([str(path) for path in paths], 4))
    view = ViewKind.from_sections(load_config(), ("testing_transfo",))
    with torch.inference_mode():
        features = embed(backbone, view, images.__getitems__([(0, row) for row in range(5)]), seed=0)

    torch.testing.assert_close(features, torch.from_numpy(extract(plain, paths, batch_size=2, workers=0)), rtol=1e-4, atol=1e-4)
