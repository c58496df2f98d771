"""The README.md of a model artifact: what a person reads who finds the directory."""

from __future__ import annotations

import re
from collections.abc import Callable
from html import unescape

import pytest
from markdown_it import MarkdownIt

from dino4cells.config.file import load_config
from dino4cells.models.artifact import ModelCard, TrainingSummary
from dino4cells.models.readme import curve_in_words, literal, readme

FALLING = [{"samples": 100.0 * step, "loss": 8 - 0.4 * step, "time": 1_700_000_000.0} for step in range(1, 11)]
FLAT = [{"samples": 100.0 * step, "loss": 3 + 5 * 0.3**step} for step in range(1, 11)]
CONFIG = load_config(preset="small-fluorescence")


@pytest.fixture
def card() -> Callable[..., ModelCard]:
    def make(**changes: object) -> ModelCard:
        training = TrainingSummary(
            images=1680, samples_seen=33600, epochs=20, loss_start=7.6, loss_end=4.0, images_per_second=53, seconds=4000, processes=2,
            device="cpu", bad_images=3,
        )  # fmt: skip
        values: dict[str, object] = {
            "arch": "vit_tiny", "patch_size": 8, "image_size": 64, "embedding_dim": 192, "channels": ("DNA", "actin"), "seed": 4,
            "normalization": [["Normalize", {"mean": [0.1, 0.2], "std": [0.3, 0.4]}]], "training": training, "data": "cells/metadata.csv",
            "data_fingerprint": "a" * 64, "config_fingerprint": "b" * 64, "versions": {"dino4cells": "0.1.0", "torch": "2.14"},
        }  # fmt: skip
        return ModelCard.model_validate({**values, **changes})

    return make


def shown(markdown: str) -> str:
    """The HTML that a viewer makes of it, with HTML in it allowed and addresses linked, as GitHub does."""
    html: str = MarkdownIt("commonmark", {"html": True}).render(markdown)
    return html


def test_it_says_what_the_model_takes_what_it_has_seen_and_how_training_went(card: Callable[..., ModelCard]) -> None:
    text = readme(card(), FALLING, "model", CONFIG, 5_398_848)
    for said in (
        "`DNA`, `actin`", "1,680 images", "3 could not be read", "vit_tiny", "192", "64 px",
        '`Normalize {"mean": [0.1, 0.2], "std": [0.3, 0.4]}`',
        "from 7.600 to 4.000 over 33,600 images (20.0 epochs)", "still falling", "random weights (seed 4)", "1 h 07 min on 2 processes",
        "cells/metadata.csv", "dino4cells `0.1.0`", "--model model", 'load_model("model")', "No licence is stated",
        "`vit_tiny`, patches of 8 px, 5,398,848 weights; seed 4", "1,024 prototypes, targets by sinkhorn, KoLeo with weight 0.05",
        "adamw, 32 images a step; learning rate 0.0005 after 2 epochs of warm-up, then by a cosine to 1e-05",
        'first large view: `RandomResizedCrop {"size": 48, "scale": [0.6, 1]}`, `rnd_dihedral`, ', "4 small views: `RandomResizedCrop",
        "ended on 2023-11-14", "doi.org/10.1101/2023.06.16.545359",
    ):  # fmt: skip
        assert said in text


def test_the_words_about_the_curve_follow_the_curve(card: Callable[..., ModelCard]) -> None:
    assert curve_in_words(card(), FALLING).startswith("The loss went from 7.600 to 4.000 over 33,600 images (20.0 epochs): 6.800 after a")
    assert "hardly changed" in curve_in_words(card(), FLAT)
    assert curve_in_words(card(), FALLING[::-1]).endswith("In the last quarter it rose.")
    assert curve_in_words(card(), FALLING[:3]).endswith("(20.0 epochs).")


@pytest.mark.parametrize(
    "name",
    [
        "<script>alert(1)</script>",
        "[click](http://example.org)",
        "a`b``c",
        "`",
        "x\n\n# Heading\n\n- list",
        "**bold** | _it_ &lt;",
        "![i](http://example.org/i.png)",
    ],
)
def test_names_from_the_data_stay_text(card: Callable[..., ModelCard], name: str) -> None:
    html = shown(readme(card(channels=(name, "actin"), data=f"{name}/metadata.csv", init=(name,)), FALLING, name, CONFIG, 1))
    plain = shown(readme(card(), FALLING, "model", CONFIG, 1))
    tags = [re.findall(r"<(/?\w+)", page) for page in (html, plain)]
    assert [tag for tag in tags[0] if tag not in ("code", "/code")] == [tag for tag in tags[1] if tag not in ("code", "/code")]
    spans = [unescape(span) for span in re.findall(r"<code>(.*?)</code>", html)]
    assert " ".join(name.split()) in [" ".join(span.split()) for span in spans]


def test_what_turns_text_around_is_not_kept() -> None:
    assert literal("a\u202eb\u0007c") == "`a b c`"
    assert literal(" \n ") == "`(nothing)`"
