"""Pictures and self-contained HTML pages that a person looks at, one a step: `training_page`, `features_page`, and of a whole run
`render_report(ReportData(...))` (extra `report`: matplotlib, umap-learn, bokeh)."""

from __future__ import annotations

from dino4cells.report.cell_map import CellMap, map_cells
from dino4cells.report.data import ReportData
from dino4cells.report.features import features_page
from dino4cells.report.page import render_report
from dino4cells.report.projection import FeatureMap, project
from dino4cells.report.training import training_page

__all__ = ["CellMap", "FeatureMap", "ReportData", "features_page", "map_cells", "project", "render_report", "training_page"]
