"""The page of an extraction: what the features look like in a plane, which cells they are of, and which have none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

import dino4cells
from dino4cells import storage
from dino4cells.data.metadata import Metadata
from dino4cells.errors import Dino4CellsError
from dino4cells.features.published import is_features_file
from dino4cells.features.store import Features, is_one_file
from dino4cells.report.cell_map import map_cells
from dino4cells.report.elements import Fact, document, fact_table, number_of_cells, plot, rate, summary
from dino4cells.report.examples import cell_pictures, draw_examples, example_reader, read_examples
from dino4cells.report.labels import LabelColumn, label_columns
from dino4cells.report.map_figures import map_class_by_class
from dino4cells.report.map_section import map_caption, map_section
from dino4cells.report.pictures import CellPictures
from dino4cells.report.scripts import page_scripts
from dino4cells.report.sheet import MOST_EXAMPLES, SheetRow, contact_sheet
from dino4cells.report.text import escape

LISTED_FAILURES = 10
SHEET_CLASSES = 24
RANDOM_ROWS = 3  # of example cells where nothing says what they are


@dataclass(frozen=True)
class _Content:
    """What the page shows.

    Attributes:
        table: The features.
        good: (M,) int, rows that have features.
        columns: What the cells are coloured by, of all rows.
    """

    table: Features
    good: np.ndarray
    columns: Sequence[LabelColumn]


def features_page(features: Features, metadata: Metadata | None) -> str:
    """The whole page as HTML, self-contained; every text from the data is escaped.

    Args:
        features: Of an artifact, or of a file in the published layout.
        metadata: The cells that they were extracted from, for pictures of them, or None: a page without.
    """
    good = np.flatnonzero(np.isfinite(features.dino).all(axis=1))
    content = _Content(features, good, label_columns(features.metadata))
    sheet, pictures, obstacle = _examples(content, metadata)
    sections = [_summary(content, obstacle), _map(content, pictures), sheet, _failures(content), _origin(content)]
    card = features.card
    prints = [f"{name} {value[:12]}" for name, value in (("model", card.model_fingerprint), ("data", card.data_fingerprint)) if value]
    footer = ", ".join([f"dino4cells {dino4cells.__version__}", *prints])
    return document(_title(features), sections, footer, page_scripts(cell_map=len(good) > 0, sheet=bool(sheet)))


def _title(features: Features) -> str:
    data = features.card.data
    name = storage.name(data) if is_one_file(data) else storage.name(storage.parent(data))
    return f"Features of {name or data}"


def _summary(content: _Content, obstacle: str) -> str:
    table, card = content.table, content.table.card
    count = len(table.dino)
    facts = [
        Fact("Cells", f"{count:,}"),
        Fact("Features", f"{table.dino.shape[1]:,}", "numbers a cell"),
        Fact("Without features", f"{count - len(content.good):,}", "image could not be read" if count > len(content.good) else ""),
    ]
    if card.channels:
        facts.append(Fact("Channels", f"{len(card.channels)}", ", ".join(card.channels)))
    if card.images_per_second > 0:
        facts.append(Fact("Images per second", rate(card.images_per_second)))
    facts += [Fact(column.name, f"{column.distinct:,}", "value" if column.distinct == 1 else "values") for column in content.columns]
    lead = f"{number_of_cells(count)}, each described by {table.dino.shape[1]:,} numbers."
    return summary(_title(table), lead, facts, _warnings(content, obstacle))


def _warnings(content: _Content, obstacle: str) -> list[str]:
    count, good = len(content.table.dino), content.good
    found = []
    if not len(good):
        found.append("No image could be read, so there are no features; the reasons are below.")
    elif len(good) < count:
        found.append(f"{count - len(good):,} of {number_of_cells(count)} have no features, since their images could not be read.")
    # A few hundred cells tell as much as all.
    some = np.random.default_rng(0).choice(good, min(len(good), 500), replace=False)
    values = content.table.dino[some].astype(np.float64)
    if len(some) > 1 and values.std(axis=0).max() <= 1e-4 * max(float(np.abs(values).max()), 1e-12):
        found.append("All cells have the same features: the network says the same of every cell, so train longer or look at the loss.")
    return found + ([obstacle] if obstacle else [])


def _map(content: _Content, pictures: CellPictures | None) -> str:
    good = content.good
    if not len(good):
        return ""
    first = content.columns[0] if content.columns else None
    labels = first.values[good] if first else np.full(len(good), "cells")
    frame = content.table.metadata.iloc[good].reset_index(drop=True)
    cells = map_cells(content.table.dino[good], frame, labels, first.name if first else None, rows=good, pictures=pictures)
    caption = map_caption(cells.plane)
    for column in content.columns:
        if column.is_group:
            caption += (
                f" Coloured by {column.name}, regions of one colour mean that cells of one {column.name} look alike to the network: a "
                f"batch effect, unless that {column.name} also holds its own classes."
            )
    html = map_section(cells, caption)
    if first is None or first.is_group or len(np.unique(labels)) < 2:
        return html
    panels = plot(map_class_by_class(cells.plane, labels, first.rest), "svg+xml", f"{cells.plane.method}, value by value", "", wide=True)
    return html + f"<details><summary>{escape(first.name)}, value by value</summary>{panels}</details>\n"


def _examples(content: _Content, metadata: Metadata | None) -> tuple[str, CellPictures | None, str]:
    """The contact sheet, the pictures of all cells, and a sentence about why there are none."""
    if metadata is None or not len(content.good):
        return "", None, ""
    if len(metadata) != len(content.table.dino):
        rows = f"{metadata.source} has {len(metadata):,} rows and the features {len(content.table.dino):,}"
        return "", None, f"There are no pictures of cells: {rows}."
    try:
        images = example_reader(metadata, content.table.card)
        channels = content.table.card.channels or images.source.channels
        chosen, words = _chosen(content, MOST_EXAMPLES)
        pictures = read_examples(images, chosen)
    except Dino4CellsError as error:  # the features are there, and worth a page without pictures
        return "", None, f"There are no pictures of cells: {error}"
    sheet = contact_sheet([SheetRow(name, words[name], pictures[name]) for name in chosen], channels)
    classes = _classes(content)
    if sheet and classes and classes.distinct > len(chosen):
        sheet += f'\n<p class="quiet">The {len(chosen)} most common of {classes.distinct:,} values of {escape(classes.name)}.</p>'
    return sheet, cell_pictures(images, channels, pictures), ""


def _classes(content: _Content) -> LabelColumn | None:
    return next((column for column in content.columns if not column.is_group), None)


def _chosen(content: _Content, per_row: int) -> tuple[dict[str, list[int]], dict[str, str]]:
    """Rows of the example cells by what they are, and words about each: of the most common classes, else of any cells."""
    good, classes = content.good, _classes(content)
    if classes is None:
        some = np.random.default_rng(0).choice(good, min(len(good), RANDOM_ROWS * per_row), replace=False)
        parts = [some[first : first + per_row].tolist() for first in range(0, len(some), per_row)]
        cells = ["cell " + ", ".join(f"{row + 1:,}" for row in rows) for rows in parts]
        return dict(zip(cells, parts, strict=True)), dict.fromkeys(cells, "at random")
    values = classes.values[good]
    names, counts = np.unique(values[values != (classes.rest or "")], return_counts=True)
    common = names[np.argsort(-counts, kind="stable")[:SHEET_CLASSES]]
    kept = np.isin(values, common)
    sizes = dict(zip(names.tolist(), counts.tolist(), strict=True))
    chosen = draw_examples(good[kept], values[kept])
    return chosen, {name: number_of_cells(sizes[name]) for name in chosen}


def _failures(content: _Content) -> str:
    bad = np.setdiff1d(np.arange(len(content.table.dino)), content.good)
    if not len(bad):
        return ""
    reasons = content.table.metadata["dino_error"]
    rows = {
        f"cell {row + 1:,}": reason if isinstance(reason := reasons.iloc[row], str) else "has features that are no numbers"
        for row in bad[:LISTED_FAILURES].tolist()
    }
    more = len(bad) - len(rows)
    why = "" if is_features_file(content.table.artifact.url) else "; the column Metadata_dino_error says why"
    rest = f'<p class="quiet">And {number_of_cells(more)} more{why}.</p>\n' if more else ""
    return "<h2>Cells without features</h2>\n" + fact_table(rows) + rest


def _origin(content: _Content) -> str:
    card = content.table.card
    rows = {
        "Features": content.table.artifact.url,
        "Model": card.model,
        "Model fingerprint": card.model_fingerprint,
        "Data": card.data,
        "Data fingerprint": card.data_fingerprint,
        "Channels": ", ".join(card.channels),
        "The data's channels": ", ".join(card.channels_of_data) if card.channels_of_data != card.channels else "",
        "Blocks of features": "; ".join(", ".join(block) for block in card.blocks) if len(card.blocks) > 1 else "",
        "Transforms": ", ".join(str(transform[0]) for transform in card.transforms),
        "Baselines": ", ".join(content.table.baselines) if card.baselines else "",
        "Versions": ", ".join(f"{name} {version}" for name, version in card.versions.items()),
    }
    return "<h2>What was extracted</h2>\n" + fact_table({name: value for name, value in rows.items() if value})
