"""What features are, so that a classifier takes those that it has learnt from alone."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

from dino4cells.data.channels import are_numbered
from dino4cells.errors import DataError
from dino4cells.features.card import FeaturesCard, usual_names

CHOICES = {
    "tokens": "embedding.tokens",
    "last_blocks": "embedding.blocks",
    "black_channels": "black channels",
    "transforms": "the transforms",
}
"""What extraction was asked for, as messages call it."""


class FeatureKind(BaseModel):
    """The part of a features card that decides what the numbers mean; a file may say their width alone.

    Attributes:
        embedding_dim: D.
        columns: their names, where some of the model's features were left out.
        described: whether the rest is known, of which a file that another tool has written keeps the model's fingerprint at most.
        model, model_fingerprint: that they come from; empty where nobody knows.
        channels: of the model, in order.
        tokens, last_blocks: as extraction chose them.
        black_channels: that were black, by the model's names, or by the data's where the model has none.
        transforms: that images passed; None of classifiers that do not say it.
        profiling: what was done to them since.
    """

    model_config = ConfigDict(protected_namespaces=(), frozen=True)

    embedding_dim: int
    columns: tuple[str, ...] = ()
    described: bool = True
    model: str = ""
    model_fingerprint: str = ""
    channels: tuple[str, ...] = ()
    tokens: str = "class"
    last_blocks: int = 1
    black_channels: tuple[str, ...] = ()
    transforms: list[list[Any]] | None = None
    profiling: tuple[dict[str, Any], ...] = ()

    @classmethod
    def of(cls, card: FeaturesCard) -> FeatureKind:
        """Of the features that a card describes."""
        done = [step.model_dump(mode="json", exclude={"features", "features_fingerprint"}) for step in card.profiling]
        content = card.model_dump(mode="json", include=set(cls.model_fields) - {"profiling", "black_channels"})
        return cls.model_validate({**content, "profiling": done, "black_channels": _by_the_model(card)})

    def check(self, other: FeatureKind, source: str, classifier: str) -> None:
        """Refuse features of another kind.

        Args:
            other: the kind of features that this one's classifier is to take.
            source: their URL.
            classifier: its URL.

        Raises:
            DataError: what differs, and what to do.
        """
        same_model = not (self.model_fingerprint and other.model_fingerprint) or self.model_fingerprint == other.model_fingerprint
        if not same_model:
            raise DataError(
                f"{source}: its features come from another model ({other.model_fingerprint[:12]}) than those that {classifier} has learnt "
                f"from ({self.model_fingerprint[:12]}, {self.model}); extract them with that one."
            )
        if self.channels and other.channels and self.channels != other.channels:
            raise DataError(
                f"{source}: its features are of the channels {', '.join(other.channels)}, and {classifier} has learnt from "
                f"{', '.join(self.channels)}; extract them with the model that it has learnt from."
            )
        if other.embedding_dim != self.embedding_dim:
            raise DataError(
                f"{source}: has {other.embedding_dim} features a cell, and {classifier} takes {self.embedding_dim}; extract them with the "
                f"model and the settings that it has learnt from."
            )
        if other.columns != self.columns:
            raise DataError(
                f"{source}: its features are {_few(other)}, and {classifier} has learnt from {_few(self)}; keep the same ones of them."
            )
        if not (self.described and other.described):
            return
        for name, what in CHOICES.items():
            mine, theirs = getattr(self, name), getattr(other, name)
            if self.model_fingerprint and other.model_fingerprint and None not in (mine, theirs) and mine != theirs:
                raise DataError(
                    f"{source}: its features have {what} {_said(theirs)}, and {classifier} has learnt from {_said(mine)}; extract them so."
                )
        if self.profiling != other.profiling:
            raise DataError(
                f"{source}: its features were normalized otherwise ({_steps(other)}) than those that {classifier} has learnt from "
                f"({_steps(self)}); make them so by `dino4cells profiles`."
            )


def _by_the_model(card: FeaturesCard) -> tuple[str, ...]:
    """The black channels, by the model's names where it has any: other data may call them otherwise."""
    if are_numbered(card.channels):
        return card.black_channels
    names = dict(zip(card.channels_of_data, card.channels, strict=False))
    return tuple(names.get(name, name) for name in card.black_channels)


def _few(kind: FeatureKind) -> str:
    """Names of features, in short."""
    names = kind.columns or usual_names(kind.embedding_dim)
    return f"{', '.join(names[:3])}, … {names[-1]}" if len(names) > 4 else ", ".join(names)


def _said(value: object) -> str:
    if isinstance(value, list):
        return "; ".join(f"{name} {parameters}" if parameters else name for name, parameters in value) or "none"
    return (", ".join(map(str, value)) or "none") if isinstance(value, tuple) else str(value)


def _steps(kind: FeatureKind) -> str:
    """What was done to features, in short."""
    told = [
        ", ".join(f"{name} {_said(tuple(value) if isinstance(value, list) else value)}" for name, value in step.items() if value)
        for step in kind.profiling
    ]
    return "; then ".join(told) or "not at all"
