"""Images of many sizes on their way through the network: who waits for whom, how long, and in which order the rows leave."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dino4cells.augment.views import ViewKind
from dino4cells.config import Config
from dino4cells.data.dataset import Batch
from dino4cells.features.embedding import PIXELS_AT_ONCE, arithmetic, embed, images_at_once
from dino4cells.features.grouping import InOrder, Size, SizeGroups, Values
from dino4cells.models.artifact import NetworkCard
from dino4cells.models.backbone import Backbone
from dino4cells.models.backbones import build_backbone

CPU = torch.device("cpu")


def batch(images: list[torch.Tensor], first: int) -> Batch:
    """A padded batch of the rows from `first` on."""
    sizes = torch.tensor([image.shape[1:] for image in images]).reshape(-1, 2)
    padded = torch.zeros(len(images), 4, *sizes.amax(0).tolist(), dtype=images[0].dtype)
    for target, image in zip(padded, images, strict=True):
        target[:, : image.shape[1], : image.shape[2]] = image
    index = torch.arange(first, first + len(images))
    return Batch(padded, sizes, index, torch.zeros_like(index))


def whole_patches(size: Size) -> Size:
    return size[0] // 8 * 8, size[1] // 8 * 8


def drawn(sizes: list[Size]) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(1, 255, (4, *size), generator=generator).to(torch.uint8) for size in sizes]


SIZES = st.lists(st.tuples(st.integers(8, 40), st.integers(8, 40)), min_size=1, max_size=80)


@settings(max_examples=60, deadline=None)
@given(sizes=SIZES, length=st.integers(1, 20), enough=st.integers(1, 9), most_rows=st.integers(1, 40), most_bytes=st.integers(1, 60_000))
def test_every_image_leaves_once_with_others_of_its_seen_size_and_waits_no_longer_than_allowed(
    sizes: list[Size], length: int, enough: int, most_rows: int, most_bytes: int
) -> None:
    images = drawn(sizes)
    groups = SizeGroups(whole_patches, lambda size: enough, most_bytes=most_bytes, most_rows=most_rows)
    left: list[int] = []
    come = 0

    def check(steps: list[Batch], last: bool) -> None:
        for step in steps:
            assert len({whole_patches((height, width)) for height, width in step.sizes_B2.tolist()}) == 1
            for row, pixels, (height, width) in zip(step.index_B.tolist(), step.images_BCHW, step.sizes_B2.tolist(), strict=True):
                assert torch.equal(pixels[:, :height, :width], images[row])
                left.append(row)
        waiting = [row for row in range(come) if row not in left]
        if not last and waiting:
            assert come - 1 - min(waiting) < most_rows
            assert sum(images[row].numel() for row in waiting) <= most_bytes

    for first in range(0, len(images), length):
        part = images[first : first + length]
        steps = list(groups.add(batch(part, first)))
        come += len(part)
        check(steps, last=False)
    check(list(groups.rest()), last=True)
    assert sorted(left) == list(range(len(images)))


def test_images_of_one_size_are_not_kept_waiting() -> None:
    groups = SizeGroups(whole_patches, lambda size: 100)
    given_batch = batch(drawn([(17, 20), (16, 23), (16, 16)]), 0)
    assert [step is given_batch for step in groups.add(given_batch)] == [True]
    assert list(groups.rest()) == []


def test_images_whose_sizes_all_differ_go_through_the_network_in_few_steps() -> None:
    groups = SizeGroups(whole_patches, lambda size: 16)
    sizes = [(32 + row % 8, 40 + row // 8 % 8) for row in range(64)]
    assert len(set(sizes)) == 64
    steps = [step for first in range(0, 64, 8) for step in groups.add(batch(drawn(sizes[first : first + 8]), first))]
    assert [len(step) for step in [*steps, *groups.rest()]] == [8] * 8  # eight batches, each of one seen size
    mixed = [sizes[row] if row % 2 else (16, 16) for row in range(64)]
    steps = [step for first in range(0, 64, 8) for step in groups.add(batch(drawn(mixed[first : first + 8]), first))]
    assert [len(step) for step in [*steps, *groups.rest()]] == [16, 16, 16, 16]


@given(order=st.permutations(range(12)), failed=st.sets(st.integers(0, 11)))
def test_values_leave_in_the_order_of_the_rows_with_their_reasons(order: list[int], failed: set[int]) -> None:
    ordered = InOrder(100, 2)
    rows: list[int] = []
    reasons: dict[int, str] = {}
    for row in order:
        broken = ((100 + row, f"row {row} is broken"),) if row in failed else ()
        ordered.put(Values([100 + row], np.full((1, 2), row, np.float32), broken))
        done = ordered.take()
        assert done.table.shape == (len(done.rows), 2)
        np.testing.assert_array_equal(done.table[:, 0], np.array(done.rows) - 100)
        rows += done.rows
        reasons.update(done.failures)
    assert rows == list(range(100, 112))
    assert reasons == {100 + row: f"row {row} is broken" for row in failed}


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return build_backbone("vit_tiny", 8, 32, 4).eval()


@pytest.mark.parametrize("resized", [False, True])
def test_embeddings_of_a_batch_of_many_sizes_are_those_of_each_image_alone(
    backbone: Backbone, tiny_config: Callable[..., Config], resized: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dino4cells.features.embedding.PIXELS_AT_ONCE", 3 * 32 * 32)  # several steps
    changes = {"testing_transfo.Single_cell_Resize": "True", "testing_transfo.Single_cell_Resize.size": 32} if resized else {}
    view = ViewKind.from_sections(tiny_config(changes), ("testing_transfo",))
    images = drawn([(33, 32), (32, 32), (35, 38), (32, 39), (9, 40), (15, 47), (32, 32), (32, 32), (32, 32), (20, 30)])
    with torch.inference_mode():
        together = embed(backbone, view, batch(images, 0), seed=0)
        for row, image in enumerate(images):
            torch.testing.assert_close(together[row], embed(backbone, view, batch([image], row), seed=0)[0], rtol=0, atol=2e-5)


def test_a_step_holds_what_fits_a_processors_cache_and_a_gpu_gets_all() -> None:
    assert images_at_once((224, 224), CPU, 128) == 16
    assert images_at_once((32, 32), CPU, 128) == 128
    assert images_at_once((5000, 5000), CPU, 128) == 1
    assert images_at_once((224, 224), torch.device("cuda"), 128) == 128
    assert PIXELS_AT_ONCE // (96 * 96) == 87


@pytest.mark.parametrize(
    ("wanted", "published", "arch", "expected"),
    [
        ("auto", False, "vit_tiny", torch.bfloat16),
        ("auto", True, "vit_tiny", torch.float32),
        ("auto", False, "resnet18", torch.float32),
        ("float32", False, "vit_tiny", torch.float32),
        ("bfloat16", True, "vit_tiny", torch.bfloat16),
        ("bfloat16", False, "resnet18", torch.bfloat16),
    ],
)
def test_published_checkpoints_are_computed_in_float32_unless_asked(
    wanted: str, published: bool, arch: str, expected: torch.dtype, tiny_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    card = NetworkCard(arch=arch, patch_size=8, image_size=16, embedding_dim=1, channels=("a",), seed=0, normalization=[])
    assert arithmetic(tiny_config({"embedding.precision": wanted}), card, published, CPU) == expected


def test_without_bfloat16_in_the_hardware_auto_is_float32(tiny_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: False)
    card = NetworkCard(arch="vit_tiny", patch_size=8, image_size=16, embedding_dim=1, channels=("a",), seed=0, normalization=[])
    assert arithmetic(tiny_config({"embedding.precision": "auto"}), card, False, CPU) == torch.float32
