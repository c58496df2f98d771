"""The training step on views: its forms that save memory or time equal the plain one, and it asks nothing of the host."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from allocations import Allocations
from training_alone import ALONE, assert_same_bits

from dino4cells.config import Config
from dino4cells.errors import ConfigError
from dino4cells.training import checkpoint as checkpoints
from dino4cells.training.compilation import compile_backbones
from dino4cells.training.loop import DINO
from dino4cells.training.precision import describe
from dino4cells.training.schedules import Schedules

MakeConfig = Callable[..., Config]
Tensors = dict[str, torch.Tensor]


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    """One thread, and three blocks instead of twelve."""
    torch.set_num_threads(1)
    monkeypatch.setattr("dino4cells.models.vit.DEPTH", 3)


def dino(config: Config) -> DINO:
    return DINO(config, 4, Schedules.from_config(config.model, 24, 24 * config.model.epochs, 8), ALONE)


def views(batch: int, seed: int = 0, local: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, batch, 4, 16, 16, generator=generator), torch.randn(local, batch, 4, 8, 8, generator=generator)


def after_steps(network: DINO, batch: int = 7) -> tuple[list[float], Tensors]:
    """Losses and both networks after three steps."""
    losses = [network.step_on_views(*views(batch, step), 8 * step).item() for step in range(3)]
    students = {f"student.{name}": value for name, value in network.student.state_dict().items()}
    return losses, {**students, **network.teacher.state_dict(), "center": network.targets.center}


def gradients(network: DINO, batch: int = 7) -> Tensors:
    """Of the first step, as the backward passes leave them."""
    network.step_on_views(*views(batch), 0)
    return {name: parameter.grad for name, parameter in network.student.named_parameters() if parameter.grad is not None}


# Plain gradient descent: AdamW makes a whole step of a rounding error where the gradient should be zero.
SGD = {"optimizer": "sgd", "lr": 0.3, "warmup_epochs": 0, "clip_grad": 0}


@pytest.mark.parametrize("targets", ["centering", "sinkhorn"])
@pytest.mark.parametrize("parts", [2, 3, 10])
def test_a_step_in_parts_is_the_step_on_the_whole_batch(parts: int, targets: str, tiny_config: MakeConfig) -> None:
    losses, whole = after_steps(dino(tiny_config(**SGD, targets=targets)))
    in_parts, accumulated = after_steps(dino(tiny_config(**SGD, targets=targets, accumulation=parts)))  # of 7 images, one each, or none
    assert in_parts == pytest.approx(losses, rel=1e-5)
    for name, value in whole.items():
        torch.testing.assert_close(accumulated[name], value, rtol=0, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}")


def test_views_of_another_size_learn_apart_from_the_others_and_the_gradients_are_those_of_all(tiny_config: MakeConfig) -> None:
    network = dino(tiny_config(clip_grad=0))
    global_views, local_views = views(5)
    found = gradients(network, 5)

    plain = dino(tiny_config())
    targets = (plain.teacher.logits([global_views]) / 0.04).softmax(dim=-1)
    logits = plain.student.logits([global_views, local_views])
    pairs = [(g, v) for g in range(2) for v in range(4) if g != v]
    loss = sum((-targets[g] * (logits[v] / 0.1).log_softmax(dim=-1)).sum(dim=-1).mean() for g, v in pairs) / len(pairs)
    loss.backward()
    expected = {name: parameter.grad for name, parameter in plain.student.named_parameters() if parameter.grad is not None}
    assert set(found) == set(expected)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-3, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_gradients_with_activation_checkpointing_are_those_without_bit_for_bit(precision: str, tiny_config: MakeConfig) -> None:
    keys = {"drop_path_rate": 0.3, "precision": precision}
    plain, again = gradients(dino(tiny_config(**keys))), gradients(dino(tiny_config(**keys, activation_checkpointing=True)))
    assert set(plain) == set(again)
    assert all(torch.equal(again[name], gradient) for name, gradient in plain.items())


def test_activation_checkpointing_keeps_less(tiny_config: MakeConfig) -> None:
    def kept(config: Config) -> int:
        student, count = dino(config).student.train(), 0

        def note(tensor: torch.Tensor) -> torch.Tensor:
            nonlocal count
            count += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            student.backbone(views(8)[0].flatten(0, 1))
        return count

    assert kept(tiny_config(activation_checkpointing=True)) < 0.2 * kept(tiny_config())


def test_activation_checkpointing_of_a_convolutional_network_is_refused(tiny_config: MakeConfig) -> None:
    with pytest.raises(ConfigError, match=r"activation_checkpointing: is for vision transformers, and model\.arch is resnet18"):
        dino(tiny_config(arch="resnet18", activation_checkpointing=True))


@pytest.mark.parametrize("targets", ["centering", "sinkhorn"])
@pytest.mark.parametrize("seen", [0, 24])
def test_a_step_asks_no_value_of_the_device(seen: int, targets: str, tiny_config: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU the host would wait for it. Stochastic depth takes the form that it has there."""
    monkeypatch.setattr("dino4cells.models.block.gathers_on", lambda device: False)
    network = dino(tiny_config(targets=targets, drop_path_rate=0.3, koleo_weight=0.1, freeze_last_layer=1, accumulation=2))
    network.step_on_views(*views(8), seen)
    with Allocations() as seen_operations:
        network.step_on_views(*views(8), seen)
    asking = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "is_nonzero", "equal.default")
    assert len(seen_operations.names) > 300
    assert [name for name in seen_operations.names if any(word in name for word in asking)] == []


def test_no_float32_tensor_of_a_step_in_bfloat16_is_larger_than_the_targets(tiny_config: MakeConfig) -> None:
    batch, prototypes, local = 6, 16384, 6
    network = dino(tiny_config({"local_crops_number": local}, precision="bfloat16", out_dim=prototypes, head_bottleneck_dim=4))
    network.step_on_views(*views(batch, local=local), 0)
    with Allocations() as made:
        network.step_on_views(*views(batch, local=local), 8)
    assert max(count for dtype, count in made.sizes if dtype == torch.float32) <= 2 * batch * prototypes
    assert max(count for _, count in made.sizes) == local * batch * prototypes


@pytest.mark.parametrize(
    ("channels", "local", "model"),
    [
        (1, 1, {"accumulation": 2, "koleo_weight": 0.1, "drop_path_rate": 0.3, "precision": "bfloat16", "freeze_last_layer": 1}),
        (12, 0, {"optimizer": "lars", "targets": "sinkhorn", "norm_last_layer": False, "freeze_last_layer": 1, "accumulation": 5}),
        (4, 2, {"optimizer": "sgd", "use_bn_in_head": True, "drop_path_rate": 0.3, "activation_checkpointing": True, "clip_grad": 0}),
    ],
)
def test_steps_after_a_checkpoint_are_those_without_it_bit_for_bit(
    channels: int, local: int, model: dict[str, object], tiny_config: MakeConfig, tmp_path: Path
) -> None:
    config = tiny_config({"local_crops_number": local}, **model)
    schedules = Schedules.from_config(config.model, 16, 32, 8)  # the last layer thaws, and the rate begins to fall, with the third step

    def step(network: DINO, number: int, images: int) -> None:
        sizes = ((2, 16), (local, 8))
        made = [torch.rand(count, images, channels, side, side, generator=torch.Generator().manual_seed(number)) for count, side in sizes]
        assert network.step_on_views(made[0], made[1], 8 * number).isfinite()

    whole, resumed = (DINO(config, channels, schedules, ALONE) for _ in range(2))
    step(whole, 0, 8)
    step(whole, 1, 0)
    assert resumed.restore(checkpoints.load(checkpoints.save(str(tmp_path), whole.checkpoint(16, 1))), "here") == 16
    for network in (whole, resumed):
        step(network, 2, 5)
        step(network, 3, 1)
    assert_same_bits(resumed.checkpoint(32, 2), whole.checkpoint(32, 2))


def test_a_compiled_network_takes_the_steps_of_the_plain_one(tiny_config: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the compiler's first half; what makes machine code of it takes minutes."""
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))
    losses, plain = after_steps(dino(tiny_config(**SGD)), batch=3)
    compiled_losses, found = after_steps(dino(tiny_config(**SGD, compile=True)), batch=3)
    assert compiled_losses == pytest.approx(losses, rel=1e-5)
    assert list(found) == list(plain)
    for name, value in plain.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}")


def test_a_machine_that_cannot_compile_is_told_so_by_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(function: object) -> object:
        raise RuntimeError("No working C++ compiler found in the list.\n\nmore")

    monkeypatch.setattr(torch, "compile", fails)
    with pytest.raises(
        ConfigError, match=r"model\.compile: torch.compile does not work here \(No working C\+\+ compiler found .*\); install"
    ):
        compile_backbones(torch.device("cpu"))


def test_arithmetic_device_and_threads_are_said_in_a_line(tiny_config: MakeConfig) -> None:
    assert dino(tiny_config()).arithmetic == "float32; CPU, 1 thread a process"
    assert describe(torch.device("cpu"), torch.bfloat16).startswith("bfloat16 products, float32 softmax, centre and loss; CPU")
