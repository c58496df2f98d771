"""Pictures and one HTML page that a person looks at: `render_report(ReportData(...))` (extra `report`: matplotlib, umap-learn)."""

from __future__ import annotations

from dino4cells.report.data import FeatureMap, ReportData
from dino4cells.report.page import render_report
from dino4cells.report.projection import project

__all__ = ["FeatureMap", "ReportData", "project", "render_report"]
