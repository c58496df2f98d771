"""What features are, so that a classifier takes those that it has learnt from alone."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

from dino4cells.errors import DataError
from dino4cells.features.store import FeaturesCard


class FeatureKind(BaseModel):
    """The part of a features card that decides what the numbers mean; a file in the published layout says its width alone.

    Attributes:
        embedding_dim: D.
        model, model_fingerprint: that they come from; empty where nobody knows.
        channels: of the model, in order.
        tokens, last_blocks: as extraction chose them.
        black_channels: the data's channels that were black.
        profiling: what was done to them since.
    """

    model_config = ConfigDict(protected_namespaces=(), frozen=True)

    embedding_dim: int
    model: str = ""
    model_fingerprint: str = ""
    channels: tuple[str, ...] = ()
    tokens: str = "class"
    last_blocks: int = 1
    black_channels: tuple[str, ...] = ()
    profiling: tuple[dict[str, Any], ...] = ()

    @classmethod
    def of(cls, card: FeaturesCard) -> FeatureKind:
        """Of the features that a card describes."""
        done = [step.model_dump(mode="json", exclude={"features", "features_fingerprint"}) for step in card.profiling]
        content = card.model_dump(mode="json", include=set(cls.model_fields) - {"profiling"})
        return cls.model_validate({**content, "profiling": done})

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
        for name, what in (("tokens", "embedding.tokens"), ("last_blocks", "embedding.blocks"), ("black_channels", "black channels")):
            mine, theirs = getattr(self, name), getattr(other, name)
            if self.model_fingerprint and other.model_fingerprint and mine != theirs:
                raise DataError(
                    f"{source}: its features have {what} {_said(theirs)}, and {classifier} has learnt from {_said(mine)}; extract them so."
                )
        if self.profiling != other.profiling:
            raise DataError(
                f"{source}: its features were normalized otherwise ({_steps(other)}) than those that {classifier} has learnt from "
                f"({_steps(self)}); make them so by `dino4cells profiles`."
            )


def _said(value: object) -> str:
    return (", ".join(map(str, value)) or "none") if isinstance(value, tuple) else str(value)


def _steps(kind: FeatureKind) -> str:
    """What was done to features, in short."""
    told = [
        ", ".join(f"{name} {_said(tuple(value) if isinstance(value, list) else value)}" for name, value in step.items() if value)
        for step in kind.profiling
    ]
    return "; then ".join(told) or "not at all"
