"""The labels of the handbook's single-cell example: 19 localizations of the Human Protein Atlas, some of them joined to one."""

from __future__ import annotations

from typing import Final

HANDBOOK_LOCALIZATIONS: Final = (
    "actin filaments,focal adhesion sites",
    "aggresome",
    "centrosome,centriolar satellite",
    "cytosol",
    "endoplasmic reticulum",
    "golgi apparatus",
    "intermediate filaments",
    "microtubules",
    "mitochondria",
    "mitotic spindle",
    "no staining",
    "nuclear bodies",
    "nuclear membrane",
    "nuclear speckles",
    "nucleoli",
    "nucleoli fibrillar center",
    "nucleoplasm",
    "plasma membrane,cell junctions",
    "vesicles,peroxisomes,endosomes,lysosomes,lipid droplets,cytoplasmic bodies",
)
"""Names of the columns, in the order of the published table and of its features' target matrix."""


def handbook_localization(simulated: str) -> str:
    """The handbook's name of a localization that `simulate` draws.

    Example:
        >>> handbook_localization("Plasma membrane")
        'plasma membrane,cell junctions'
    """
    return next(name for name in HANDBOOK_LOCALIZATIONS if name.split(",")[0] == simulated.lower())
