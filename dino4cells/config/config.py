"""The handbook's configuration as typed models: every key once, with its default, its range and a line of help.

`dino4cells.config.file` reads a `config.yaml` into these models; command-line help and the reference page are generated from them.
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Final

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PrivateAttr

from dino4cells.config.classification import ClassificationConfig
from dino4cells.config.embedding import EmbeddingConfig
from dino4cells.config.model import ModelConfig
from dino4cells.config.values import Parameters, TransformChoice, check_transform_name
from dino4cells.config.yaml import Document

IGNORED_SECTIONS: Final = ("kaggle_test_data", "plot_embedding", "visualize", "pipeline")
"""Sections of the paper's files that steered its own scripts."""

TRANSFORM_SECTIONS: Final = (
    "flip_and_color_jitter_transforms",
    "normalization",
    "global_transfo1",
    "global_aug1",
    "global_transfo2",
    "global_aug2",
    "local_transfo",
    "local_aug",
    "testing_transfo",
)

_NOT_FOR_TRAINING: Final = frozenset(
    {
        *("root", "data_path", "file_pattern", "output_dir", "saveckp_freq", "checkpoint_minutes", "num_workers", "max_bad_images"),
        *("cache_dir", "cache_gb"),
        *("shuffle_blocks", "num_channels", "local_crops_scale"),
    }
)
"""Keys of `model` that say where and how a run happens, not what is learnt.

`num_channels` only says again what the data and `image_mode` say; `local_crops_scale` acts through `local_transfo`, and
`shuffle_blocks` through the order of packed images, which has a fingerprint of its own.
"""


SECTIONS: Final[dict[str, type[BaseModel]]] = {
    "model": ModelConfig,
    "embedding": EmbeddingConfig,
    "classification": ClassificationConfig,
}
"""Sections that hold scalars."""

OTHER_NAMES: Final = {"embedding": {"batch_size_per_gpu": "batch_size"}}
"""Names that published files give to keys, by section."""

TransformSection = dict[Annotated[str, AfterValidator(check_transform_name)], TransformChoice]


class _Dumper(yaml.SafeDumper):
    """Writes a key a line, and lists in brackets: `Warp_cell: [true, null]`."""


_Dumper.add_representer(list, lambda dumper, items: dumper.represent_sequence("tag:yaml.org,2002:seq", items, flow_style=True))


def _transforms(description: str) -> dict[str, TransformChoice]:
    section: dict[str, TransformChoice] = Field(default_factory=dict, description=description)
    return section


class Config(BaseModel):
    """A whole `config.yaml`. Immutable; `load_config` of `dino4cells.config.file` makes one.

    Order of a view's transforms (handbook): a global view passes `global_transfo`, jitter, `global_aug`, normalization; a local one
    `local_transfo`, `local_aug`, jitter, normalization; extraction `testing_transfo` alone.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: ModelConfig = Field(default_factory=ModelConfig, description="The network, its training, and where the data are.")
    embedding: EmbeddingConfig = Field(default_factory=EmbeddingConfig, description="Features of every cell.")
    classification: ClassificationConfig = Field(default_factory=ClassificationConfig, description="Classifiers on the features.")
    flip_and_color_jitter_transforms: TransformSection = _transforms("Flips and jitter of every view.")
    normalization: TransformSection = _transforms("Last transforms of every view.")
    global_transfo1: TransformSection = _transforms("First transforms of the first global view.")
    global_aug1: TransformSection = _transforms("Transforms of the first global view after the jitter.")
    global_transfo2: TransformSection = _transforms("First transforms of the second global view.")
    global_aug2: TransformSection = _transforms("Transforms of the second global view after the jitter.")
    local_crops_number: int = Field(default=8, ge=0, description="Local views of each image.")
    local_transfo: TransformSection = _transforms("First transforms of a local view.")
    local_aug: TransformSection = _transforms("Transforms of a local view before the jitter.")
    testing_transfo: TransformSection = _transforms("Transforms of an image in extraction.")

    _warnings: tuple[str, ...] = PrivateAttr(default=())
    _places: Document = PrivateAttr(default_factory=Document)

    @property
    def warnings(self) -> list[str]:
        """What the reader of the file noticed and went on with, one sentence each."""
        return list(self._warnings)

    def where(self, *path: str) -> str:
        """Where a key was given, to begin a message with: `config.yaml, line 12: global_transfo1.RandomResizedCrop.scale`.

        Args:
            path: section, key, and for a transform its parameter.
        """
        section, *rest = path
        inside = (section, rest[0], "1", *rest[1:]) if len(rest) > 1 else path
        place, key = str(self._places.place(inside)), ".".join(path)
        return key if not self._places.places else place if place == f"option {key}" else f"{place}: {key}"

    def __eq__(self, other: object) -> bool:
        """Equal content; warnings are about the file that it came from."""
        return isinstance(other, Config) and self.model_dump() == other.model_dump()

    def origins(self) -> list[tuple[str, object, str]]:
        """Every value that is not the models' default and every active transform: dotted key, value, and where it was given."""
        found: list[tuple[str, object, str]] = []
        for name, field in Config.model_fields.items():
            value = getattr(self, name)
            if name in SECTIONS:
                keys = {key: getattr(value, key) for key, known in type(value).model_fields.items() if getattr(value, key) != known.default}
                found += [(f"{name}.{key}", given, str(self._places.place((name, key)))) for key, given in keys.items()]
            elif name in TRANSFORM_SECTIONS:
                entries = {one: [True] if given is None else [True, given] for one, given in self.section(name)}
                found += [(f"{name}.{one}", entry, str(self._places.place((name, one)))) for one, entry in entries.items()]
            elif value != field.default:
                found.append((name, value, str(self._places.place((name,)))))
        return found

    def section(self, name: str) -> list[tuple[str, Parameters]]:
        """Active transforms of one section, in order, each with its parameters.

        Raises:
            KeyError: `name` is no transform section.
        """
        if name not in TRANSFORM_SECTIONS:
            raise KeyError(name)
        choices: dict[str, TransformChoice] = getattr(self, name)
        return [(transform, choice.parameters) for transform, choice in choices.items() if choice.active]

    def to_yaml(self) -> str:
        """The resolved configuration as a file that `load_config` reads back into an equal one, whatever presets become."""
        content = {"preset": "none", **self.model_dump(mode="json")}
        return yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=False, width=1000)

    def training_settings(self) -> dict[str, object]:
        """What decides the outcome of training, as JSON knows it: not paths, workers, and transforms that are off."""
        model = self.model.model_dump(mode="json", exclude=set(_NOT_FOR_TRAINING))
        views = {name: self.section(name) for name in TRANSFORM_SECTIONS if name != "testing_transfo"}
        settings: dict[str, object] = {"model": model, "views": views, "local_crops_number": self.local_crops_number}
        if self.model.datatype == "HPABalanced":
            settings["classes"] = self.embedding.target_labels or self.classification.label
        return settings

    def fingerprint(self) -> str:
        """SHA-256 (hexadecimal) of `training_settings`."""
        content = self.training_settings()
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
