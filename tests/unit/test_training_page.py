"""The page of a training: what a person sees of a run of any length, and that nothing in the data can break it."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pytest
from html_page import Page, is_picture

from dino4cells.models.artifact import ModelCard, TrainingSummary
from dino4cells.report.curves import loss_over_images, schedule_curves, speed_curve
from dino4cells.report.scripts import page_scripts
from dino4cells.report.training import training_page

PLATEAU = math.log(1024)


def card(**training: object) -> ModelCard:
    summary = {
        "images": 168, "samples_seen": 320, "epochs": 320 / 168, "loss_start": 7.1, "loss_end": 5.0, "images_per_second": 40.0,
        "seconds": 8.0, "processes": 1, "device": "H200 <x>", "bad_images": 0, **training,
    }  # fmt: skip
    return ModelCard(
        arch="vit_tiny",
        patch_size=8,
        image_size=64,
        embedding_dim=192,
        channels=("DNA", "<script>alert(1)</script>"),
        in_channels=2,
        seed=7,
        normalization=[],
        training=TrainingSummary.model_validate(summary),
        data="s3://bucket/cells & <b>more/metadata.csv",
        data_fingerprint="d" * 64,
        config_fingerprint="c" * 64,
        versions={"torch": "2.14"},
    )


def log(steps: int, end: float = 5.0) -> list[dict[str, float]]:
    return [
        {
            "samples": 32.0 * step, "epoch": 32 * step / 168, "loss": 7.1 - (7.1 - end) * step / steps, "lr": 1e-4 * step,
            "weight_decay": 0.04, "momentum": 0.99, "teacher_temp": 0.0, "images_per_second": 30.0 + step / 20,
        }
        for step in range(1, steps + 1)
    ]  # fmt: skip


@pytest.mark.parametrize("steps", [1, 10, 200])
def test_page_of_a_run_of_any_length_holds_its_curves_and_numbers(steps: int) -> None:
    page = Page(training_page(card(), log(steps), plateau=PLATEAU))
    page.assert_complete_and_alone()
    assert [image["alt"].split(",")[0] for image in page.images() if image["alt"]] == [
        "Loss over the images seen",
        "Learning rate",
        "Images per second over the images seen",
    ]
    for words in ("vit_tiny, patches of 8 px", "2 channels to the network", "random, seed 7", "torch 2.14", "1.9 epochs of 168", "8 s"):
        assert words in page.text
    assert "nan" not in page.text.lower()
    assert not any(attributes.get("class") == "warnings" for _, attributes in page.tags)
    assert ("in the only step" in page.text) == (steps == 1)


def test_text_from_the_data_is_shown_as_text() -> None:
    page = Page(training_page(card(), log(3), settings="model:\n  arch: <vit>"))
    for text in ("<script>alert(1)</script>", "H200 <x>", "Training on cells & <b>more", "arch: <vit>"):
        assert text in page.text
    assert not any(tag in {"x", "b", "vit"} for tag, _ in page.tags)
    assert list(page.scripts.values()) == page_scripts()


def test_what_a_run_waited_for_and_its_memory_are_shown_where_they_are_known() -> None:
    measured = [{**record, "data_wait": 0.25, "memory_gib": 3.5} for record in log(10)]
    page = Page(training_page(card(step_seconds=0.8, data_wait=0.25, memory_gib=3.5), measured))
    for words in ("25%", "3.5 GiB", "model.num_workers"):
        assert words in page.text
    before = Page(training_page(card(), log(10))).text
    assert "GiB" not in before
    assert "model.num_workers" not in before


def test_same_run_gives_the_same_page() -> None:
    assert training_page(card(), log(50), plateau=PLATEAU) == training_page(card(), log(50), plateau=PLATEAU)


def test_unreadable_images_and_a_loss_on_its_plateau_are_told() -> None:
    page = Page(training_page(card(bad_images=3), log(40, end=6.92), plateau=PLATEAU))
    assert "3 of 168 images could not be read" in page.text
    assert "still at the plateau of 6.93" in page.text
    assert "still at the plateau" not in Page(training_page(card(), log(40, end=6.92))).text


def test_speed_after_a_resume_is_said_to_be_of_the_last_part_alone() -> None:
    resumed = "since it was last resumed"
    assert resumed in training_page(card(seconds=4.0), log(10))
    assert resumed not in training_page(card(), log(10))


def test_what_is_not_logged_or_not_finite_is_left_out() -> None:
    nothing = Page(training_page(card(images_per_second=math.nan, seconds=math.inf), [], plateau=PLATEAU))
    nothing.assert_complete_and_alone()
    assert nothing.images() == []
    assert "no records of the training" in nothing.text
    assert "nan" not in nothing.text.lower()
    bare: list[Mapping[str, float]] = [{"samples": 32, "epoch": 1, "loss": math.nan}, {"samples": 64, "epoch": 2, "loss": 3.0}]
    page = Page(training_page(card(), bare))
    assert len(page.images()) == 1
    assert "nan" not in page.text.lower()


def test_starting_weights_are_listed() -> None:
    taken = card().model_copy(update={"init": ("vit.pth: 150 of 150 tensors", "the first layer was <adapted>")})
    assert "vit.pth: 150 of 150 tensors; the first layer was <adapted>" in Page(training_page(taken, log(2))).text


def test_curves_without_anything_to_draw_are_none_and_falling_or_constant_ones_are_pictures() -> None:
    assert schedule_curves([{"samples": 1.0, "loss": 2.0}]) is None
    assert speed_curve([]) is None
    assert is_picture(loss_over_images(log(1)))
    for value in (0.0, 0.04, -0.5):
        picture = schedule_curves([{"samples": 1.0, "lr": value}, {"samples": 2.0, "lr": value}])
        assert picture is not None
        assert is_picture(picture)
