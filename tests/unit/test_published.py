"""Checkpoints of others become models, and ours are read by the original's procedure."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
import torchvision
from torch import nn

from benchmarks.reference.network import PlainHead, PlainTransformer
from dino4cells.config import Config
from dino4cells.data.dataset import Batch
from dino4cells.errors import CheckpointError, StorageError
from dino4cells.models.backbones import build_backbone
from dino4cells.models.published import load_published
from dino4cells.training import checkpoint as checkpoints
from dino4cells.training.distributed import ProcessGroup
from dino4cells.training.loop import DINO
from dino4cells.training.schedules import Schedules

# PyTorch's older weight norm is the published one.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.nn.utils.weight_norm. is deprecated:FutureWarning")
MakeConfig = Callable[..., Config]
ALONE = ProcessGroup(0, 1, 0, torch.device("cpu"))


class Both(nn.Module):
    """Backbone and head, as the published wrapper names them."""

    def __init__(self, backbone: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.backbone, self.head = backbone, head


@pytest.fixture(scope="module")
def plain() -> PlainTransformer:
    """The original's network for four channels, patches of 16 px, positions of 96 px, with weights as training leaves them."""
    torch.manual_seed(3)
    network = PlainTransformer(4, 96, 16)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.1)
    return network.eval()


@pytest.fixture(scope="module")
def checkpoint(plain: PlainTransformer, tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the published main script saves: DDP's student, numpy's learning rates, the settings as a namespace."""
    network = Both(plain, PlainHead(192, 32, 16, 64))
    state = network.state_dict()
    path = tmp_path_factory.mktemp("published") / "checkpoint.pth"
    torch.save(
        {
            "student": {f"module.{name}": value + 1 for name, value in state.items()},
            "teacher": state,
            "optimizer": {"state": {}, "param_groups": [{"lr": np.linspace(0, 1, 7)[3], "weight_decay": np.float64(0.4), "params": [0]}]},
            "epoch": 100,
            "args": argparse.Namespace(arch="vit_tiny", patch_size=16, num_channels=4, local_crops_scale=(0.05, 0.4), gpu=0, world_size=4),
            "dino_loss": {"center": torch.zeros(1, 64)},
            "fp16_scaler": {"scale": 65536.0, "growth_factor": 2.0, "backoff_factor": 0.5, "growth_interval": 2000, "_growth_tracker": 7},
        },
        path,
    )
    return str(path)


@pytest.mark.parametrize("side", [96, 224, 512])
def test_a_published_checkpoint_gives_the_originals_features(
    side: int, checkpoint: str, plain: PlainTransformer, tiny_config: MakeConfig
) -> None:
    model = load_published(checkpoint, tiny_config())
    image = torch.rand(1, 4, side, side, generator=torch.Generator().manual_seed(side))
    with torch.inference_mode():
        torch.testing.assert_close(model.backbone(image), plain(image), rtol=0, atol=1e-4)


def test_what_a_network_is_comes_from_its_tensors_and_the_rest_from_the_configuration(checkpoint: str, tiny_config: MakeConfig) -> None:
    config = tiny_config(arch="vit_small", patch_size=8, channels=["microtubules", "protein", "nucleus", "ER"], seed=5)
    model = load_published(checkpoint, config)
    card = model.card
    assert (card.arch, card.patch_size, card.image_size, card.embedding_dim, card.in_channels) == ("vit_tiny", 16, 96, 192, 4)
    assert card.channels == ("microtubules", "protein", "nucleus", "ER")
    assert card.normalization == [[name, parameters] for name, parameters in config.section("testing_transfo")]
    assert load_published(checkpoint, tiny_config()).card.channels == ("channel_0", "channel_1", "channel_2", "channel_3")
    assert not torch.equal(model.untrained().state_dict()["pos_embed"], model.backbone.state_dict()["pos_embed"])
    assert model.log() == []
    assert not model.backbone.training


def test_the_fingerprint_is_the_files(checkpoint: str, tiny_config: MakeConfig, tmp_path: Path) -> None:
    copy = tmp_path / "copy.pth"
    copy.write_bytes(Path(checkpoint).read_bytes())
    first = load_published(checkpoint, tiny_config()).artifact.fingerprint
    assert load_published(str(copy), tiny_config()).artifact.fingerprint == first
    torch.save(build_backbone("vit_tiny", 16, 96, 4, seed=1).state_dict(), copy)
    assert load_published(str(copy), tiny_config()).artifact.fingerprint != first


def test_dinos_bare_backbone_and_its_residual_network_are_models_of_three_channels(tmp_path: Path, tiny_config: MakeConfig) -> None:
    vit = build_backbone("vit_small", 8, 224, 3, seed=2).eval()
    torch.save(vit.state_dict(), tmp_path / "dino_deitsmall8_pretrain.pth")
    card = load_published(str(tmp_path / "dino_deitsmall8_pretrain.pth"), tiny_config()).card
    assert (card.arch, card.patch_size, card.image_size, card.in_channels) == ("vit_small", 8, 224, 3)

    resnet = torchvision.models.resnet50(weights=None).eval()
    resnet.fc = nn.Identity()
    torch.save(resnet.state_dict(), tmp_path / "dino_resnet50_pretrain.pth")
    safetensors.torch.save_file(resnet.state_dict(), tmp_path / "resnet50.safetensors")
    image = torch.rand(1, 3, 64, 64)
    for name in ("dino_resnet50_pretrain.pth", "resnet50.safetensors"):
        model = load_published(str(tmp_path / name), tiny_config(arch="resnet50"))
        with torch.inference_mode():
            torch.testing.assert_close(model.backbone(image), resnet(image))
        assert (model.card.embedding_dim, model.card.in_channels) == (2048, 3)


def test_the_settings_of_a_checkpoint_name_its_residual_network(tmp_path: Path, tiny_config: MakeConfig) -> None:
    state = {f"module.backbone.{name}": value for name, value in build_backbone("xresnet18", 16, 224, 5).state_dict().items()}
    torch.save({"teacher": state, "args": argparse.Namespace(arch="xresnet18")}, tmp_path / "x.pth")
    card = load_published(str(tmp_path / "x.pth"), tiny_config()).card
    assert (card.arch, card.in_channels, card.embedding_dim) == ("xresnet18", 5, 512)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"weights": 3}, "holds no network: neither an entry teacher, student, state_dict or model"),
        ([torch.zeros(2)], "holds no network"),
        (
            {"teacher": {"backbone.patch_embed.proj.weight": torch.zeros(128, 3, 16, 16)}},
            r"its tokens have 128 features; .* 192 \(vit_tiny\)",
        ),
        ({"patch_embed.proj.weight": torch.zeros(192, 3, 14, 14)}, "its patches have 14 pixels"),
        ({"patch_embed.proj.weight": torch.zeros(192, 3, 16, 16)}, "its position embeddings are not those of a class token and a square"),
        ({"conv1.weight": torch.zeros(64, 3, 7, 7)}, "is no vision transformer of DINO or timm, and nothing says what it is"),
        (
            {"patch_embed.proj.weight": torch.zeros(192, 3, 16, 16), "pos_embed": torch.zeros(1, 197, 192)},
            r"is no vit_tiny: it lacks 'cls_token', 'patch_embed.proj.bias', 'blocks.0.norm1.weight' and \d+ more",
        ),
    ],
)
def test_what_is_no_network_here_is_refused_in_a_sentence(content: object, words: str, tmp_path: Path, tiny_config: MakeConfig) -> None:
    torch.save(content, tmp_path / "odd.pth")
    with pytest.raises(CheckpointError, match=rf"odd\.pth: {words}"):
        load_published(str(tmp_path / "odd.pth"), tiny_config())


def test_a_broken_safetensors_file_and_a_missing_one_are_refused(tmp_path: Path, tiny_config: MakeConfig) -> None:
    (tmp_path / "w.safetensors").write_bytes(b"nothing of the kind")
    with pytest.raises(CheckpointError, match=r"w\.safetensors: cannot be read as a safetensors file"):
        load_published(str(tmp_path / "w.safetensors"), tiny_config())
    with pytest.raises(StorageError, match=r"none\.pth"):
        load_published(str(tmp_path / "none.pth"), tiny_config())


# Our checkpoint in the original's hands


@pytest.fixture(scope="module")
def trained(tiny_config: MakeConfig) -> DINO:
    """A network after a step, so that the optimizer has a state."""
    torch.set_num_threads(1)
    config = tiny_config(image_size=16)
    dino = DINO(config, 4, Schedules.from_config(config.model, 8, 16, 4), ALONE)
    images = torch.randint(0, 256, (4, 4, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    sizes, rows = torch.full((4, 2), 32), torch.arange(4)
    dino.step(Batch(images, sizes, rows, torch.zeros(4, dtype=torch.long), failures=()), 0)
    return dino


@pytest.fixture(scope="module")
def ours(trained: DINO, tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """Our file as the original opens it, which trusts its files."""
    path = tmp_path_factory.mktemp("ours") / "checkpoint.pth"
    path.write_bytes(checkpoints.dump(trained.checkpoint(4, 1)))
    return torch.load(path, map_location="cpu", weights_only=False)


def test_the_originals_extraction_matches_every_key_and_gives_our_features(trained: DINO, ours: dict[str, object]) -> None:
    """Its procedure: the teacher's names without `module.` and `backbone.`, loaded without strictness into a bare backbone."""
    network = PlainTransformer(4, 16, 8).eval()
    teacher = {name.replace("module.", "").replace("backbone.", ""): value for name, value in ours["teacher"].items()}
    outcome = network.load_state_dict(teacher, strict=False)
    assert outcome.missing_keys == []
    assert all(name.startswith("head.") for name in outcome.unexpected_keys)
    for side in (16, 40):
        image = torch.rand(2, 4, side, side)
        with torch.inference_mode():
            torch.testing.assert_close(network(image), trained.teacher.backbone(image), rtol=0, atol=1e-4)


def test_the_originals_training_resumes_from_our_file(trained: DINO, ours: dict[str, object]) -> None:
    """It gives each of its parts the entry of its name: DDP's student, the teacher, the optimizer in two groups, loss and scaler."""
    student = nn.Module()
    student.module = Both(PlainTransformer(4, 16, 8), PlainHead(192, 64, 32, 64))
    teacher = Both(PlainTransformer(4, 16, 8), PlainHead(192, 64, 32, 64))
    for network, entry in ((student, "student"), (teacher, "teacher")):
        outcome = network.load_state_dict(ours[entry], strict=False)
        assert (outcome.missing_keys, outcome.unexpected_keys) == ([], [])

    named = [(name, parameter) for name, parameter in student.named_parameters() if parameter.requires_grad]
    regularized = [parameter for name, parameter in named if not (name.endswith(".bias") or parameter.ndim == 1)]
    others = [parameter for name, parameter in named if name.endswith(".bias") or parameter.ndim == 1]
    optimizer = torch.optim.AdamW([{"params": regularized}, {"params": others, "weight_decay": 0.0}])
    optimizer.load_state_dict(ours["optimizer"])
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            assert optimizer.state[parameter]["exp_avg"].shape == parameter.shape

    loss = nn.Module()
    loss.register_buffer("center", torch.zeros(1, 64))
    assert loss.load_state_dict(ours["dino_loss"], strict=False).unexpected_keys == []
    assert torch.equal(loss.center, trained.targets.state_dict()["center"])

    scaler = torch.amp.GradScaler("cpu")
    scaler.load_state_dict(ours["fp16_scaler"])
    assert scaler.get_scale() == 65536.0
    assert ours["epoch"] == 1
    settings = ours["args"]
    assert (settings.arch, settings.patch_size, settings.out_dim, settings.num_channels) == ("vit_tiny", 8, 64, 4)


def test_a_teacher_with_batch_norm_carries_ddps_prefix_as_the_originals_does(tiny_config: MakeConfig) -> None:
    config = tiny_config(arch="resnet18")
    dino = DINO(config, 3, Schedules.from_config(config.model, 8, 16, 4), ALONE)
    saved = dino.checkpoint(0, 0)
    assert all(name.startswith("module.") for name in saved["teacher"])
    assert dino.restore(saved, "here") == 0
