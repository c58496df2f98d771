"""The model card for people: the `README.md` of a model artifact, written from `model.json` and the records of training."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from itertools import pairwise
from typing import Any

from dino4cells.config import Config
from dino4cells.models.artifact import ModelCard

_PLAIN_NAME = re.compile(r"[\w.-]+")

_TEXT = """\
# {title}

Features of single cells: a {arch} that taught itself on {images} images, without labels (DINO, Caron et al. 2021). It turns an image into
{dim} numbers; images of cells that look alike get numbers that are alike.

## What it takes

- channels, in this order: {channels}
- {mode}
- {sizes}
- normalization, which it does itself: {normalization}

Give images as the camera stored them. Another order of channels, or another stain in a channel's place, gives features that mean
nothing: the names are there to be compared.

## How to use it

```python
import dino4cells

model = dino4cells.load_model("{place}")
print(model.channels)
features = model.embed(images)  # N × {counted} × height × width, uint8, uint16, or floats in [0, 1]; gives N × {dim} float32
```

```sh
dino4cells extract --model {place} --data cells --output features
dino4cells classify --features features --model {place} --data cells --output classes
```

## What it was trained on

- data: {data}, {images} images{bad}
- fingerprint of the table (SHA-256): `{data_fingerprint}`
- start: {init}

## How it was trained

{recipe}

{curve}

{seconds} on {processes} ({device}), {rate} images a second{ended}. `log.jsonl` has every logged step, `config.yaml` every setting:
`dino4cells train --config config.yaml --data DATA --output OUTPUT` trains such a model anew.

## What it is for, and what not

For comparing cells of the same stains at about the same magnification: maps of phenotypes, nearest neighbours, classifiers on the features.

- How good its features are is not said here: `dino4cells classify` judges them beside two baselines, with intervals.
- It has seen the data above and nothing else; how it does on other stains, microscopes or cells has to be measured.
- What differs between plates, wells or days is in the features too, unless the normalization removed it: split by plate to judge them.
- Nobody has examined it for diagnosis.
- No licence is stated here: that of the data, and of the weights that it may have started from, is for whoever passes it on to know.

## What to cite

- the method: Caron et al. 2021, Emerging properties in self-supervised vision transformers, <https://arxiv.org/abs/2104.14294>
- for single cells: Doron et al. 2023, Unbiased single-cell morphology with self-supervised vision transformers,
  <https://doi.org/10.1101/2023.06.16.545359>

## Versions

{versions}; configuration `{config_fingerprint}`
"""


def readme(card: ModelCard, records: Sequence[Mapping[str, float]], place: str, config: Config, weights: int) -> str:
    """The model card as Markdown, in which names that come from the data are text and never markup.

    Args:
        card: what the model is.
        records: of training, as in `log.jsonl`.
        place: name of the artifact's directory.
        config: as it was used.
        weights: numbers that the backbone has learnt.
    """
    training = card.training
    bad = training.bad_images
    hours, minutes = divmod(round(training.seconds / 60), 60)
    name = place if _PLAIN_NAME.fullmatch(place) else "model"
    return _TEXT.format(
        title=f"Model {literal(place)}",
        arch=literal(card.arch),
        images=f"{training.images:,}",
        dim=card.embedding_dim,
        channels=", ".join(map(literal, card.channels)),
        counted=len(card.channels),
        mode=_mode(card),
        sizes=_sizes(card),
        normalization=_transforms(card.normalization) or "none: grey values in [0, 1]",
        place=name,
        data=literal(card.data),
        bad=f", of which {bad:,} could not be read" if bad else "",
        data_fingerprint=card.data_fingerprint,
        init="; ".join(map(literal, card.init)) or f"random weights (seed {card.seed})",
        recipe=recipe_in_words(card, config, weights),
        curve=curve_in_words(card, records),
        ended=_day(records[-1]) if records else "",
        seconds=f"{hours} h {minutes:02} min" if hours else f"{minutes} min" if minutes else f"{training.seconds:.0f} s",
        processes=f"{training.processes} process{'es' * (training.processes > 1)}",
        device=literal(training.device or "unknown processor"),
        rate=f"{training.images_per_second:,.{0 if training.images_per_second >= 10 else 1}f}",
        versions=", ".join(f"{name} {literal(version)}" for name, version in card.versions.items()),
        config_fingerprint=card.config_fingerprint,
    )


def recipe_in_words(card: ModelCard, config: Config, weights: int) -> str:
    """Network, loss, optimizer and views, as a paper's methods section has them, a line of a list each."""
    model = config.model
    batch = model.batch_size or model.batch_size_per_gpu * card.training.processes
    peak = model.lr * batch / 256
    koleo = f", KoLeo with weight {model.koleo_weight:g}" if model.koleo_weight else ""
    patches = f", patches of {card.patch_size} px" if card.arch.startswith("vit_") else ""
    views = {
        "first large view": ("global_transfo1", "flip_and_color_jitter_transforms", "global_aug1", "normalization"),
        "second large view": ("global_transfo2", "flip_and_color_jitter_transforms", "global_aug2", "normalization"),
        f"{config.local_crops_number} small views": ("local_transfo", "local_aug", "flip_and_color_jitter_transforms", "normalization"),
    }
    lines = [
        f"network: {literal(card.arch)}{patches}, {weights:,} weights; seed {card.seed}",
        f"loss: DINO with {model.out_dim:,} prototypes, targets by {model.targets}{koleo}; temperatures {model.student_temp:g} (student) "
        f"and {model.teacher_temp:g} (teacher); the teacher's momentum from {model.momentum_teacher:g} to {model.momentum_teacher_end:g}",
        f"optimizer: {model.optimizer}, {batch:,} images a step; learning rate {peak:g} after {model.warmup_epochs:g} epochs of warm-up, "
        f"then by a cosine to {min(model.min_lr, peak):g}; weight decay from {model.weight_decay:g} to {model.weight_decay_end:g}",
    ]
    for view, sections in views.items():
        lines.append(f"{view}: {_transforms(entry for section in sections for entry in config.section(section)) or 'as the image is'}")
    return "\n".join(f"- {line}" for line in lines)


def curve_in_words(card: ModelCard, records: Sequence[Mapping[str, float]]) -> str:
    """The curve of the loss in two sentences: where it began and ended, where it was between, and whether it still fell."""
    training = card.training
    text = (
        f"The loss went from {training.loss_start:.3f} to {training.loss_end:.3f} over {training.samples_seen:,} images "
        f"({training.epochs:.1f} epochs)"
    )
    if len(records) < 8:
        return f"{text}."
    quarters = [records[len(records) * part // 4]["loss"] for part in range(1, 4)] + [records[-1]["loss"]]
    after = "a quarter", "half", "three quarters"
    text += ": " + ", ".join(f"{loss:.3f} after {part} of them" for part, loss in zip(after, quarters, strict=False)) + "."
    losses = [record["loss"] for record in records]
    span, (before, last) = max(losses) - min(losses), list(pairwise(quarters))[-1]
    if span and before - last > 0.05 * span:
        return f"{text} It was still falling at the end: longer training may give better features."
    return f"{text} In the last quarter it {'rose' if before - last < -0.05 * span else 'hardly changed'}."


def literal(text: str) -> str:
    """Text as a code span of Markdown, whatever it holds: on one line, without control characters, within enough backticks."""
    shown = "".join(" " if unicodedata.category(character)[0] in "CZ" else character for character in text).strip() or "(nothing)"
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", shown)), default=0))
    pad = " " if len(fence) > 1 else ""
    return f"{fence}{pad}{shown}{pad}{fence}"


def _sizes(card: ModelCard) -> str:
    if not card.arch.startswith("vit_"):
        return "images of any size that is not tiny"
    return f"images of any size of at least {card.patch_size} px; the positions of its patches were made for {card.image_size} px"


def _mode(card: ModelCard) -> str:
    taken = card.in_channels or len(card.channels)
    if card.image_mode.startswith(("normalized", "unnormalized")):
        return f"image mode {literal(card.image_mode)}: all of them at once"
    return f"image mode {literal(card.image_mode)}: the network is shown {taken} at a time"


def _day(record: Mapping[str, float]) -> str:
    return f", ended on {datetime.fromtimestamp(record['time'], timezone.utc):%Y-%m-%d}" if "time" in record else ""


def _transforms(entries: Iterable[Sequence[Any]]) -> str:
    steps = []
    for name, parameters in entries:
        given = "" if parameters in (None, {}, []) else f" {json.dumps(parameters, ensure_ascii=False)}"
        steps.append(literal(f"{name}{given}"))
    return ", ".join(steps)
