"""The backbone of a classifier of images, and the images as it takes them.

Dimensions: C channels.
"""

from __future__ import annotations

from dataclasses import replace

from dino4cells.classify.cells import ImageCells
from dino4cells.config import Config
from dino4cells.data.source import ImageSource, image_source, source_for_model
from dino4cells.errors import ConfigError
from dino4cells.models.artifact import NetworkCard, TrainedModel
from dino4cells.models.backbone import Backbone
from dino4cells.models.backbones import build_backbone


def card_of(config: Config, trained: TrainedModel | None, cells: ImageCells) -> NetworkCard:
    """What the backbone is: the trained one, or that of the configuration for these images.

    Raises:
        ConfigError: a backbone would stay random, or sees one channel at a time.
        DataError: the channels cannot be told.
    """
    if trained is not None:
        return NetworkCard.model_validate(trained.card.model_dump())
    wanted, model = config.classification, config.model
    if not wanted.train_feature_extractor:
        raise ConfigError(
            f"{config.where('classification', 'train_feature_extractor')} is false, and no backbone is given, so that a random one would "
            "stay random; name one in feature_extractor_state_dict or by --model, or set train_feature_extractor to true."
        )
    source = image_source(cells.metadata, model)
    return NetworkCard(
        arch=model.arch,
        patch_size=model.patch_size,
        image_size=model.image_size,
        embedding_dim=0,  # the network says it when it is built
        channels=source.channels,
        image_mode=model.image_mode,
        in_channels=source.in_channels,
        seed=model.seed,
        normalization=[[name, parameters] for name, parameters in config.section("testing_transfo")],
    )


def images_of(cells: ImageCells, card: NetworkCard, config: Config) -> ImageSource:
    """The images of a table, with the backbone's channels in the backbone's order.

    Raises:
        DataError: their channels are not the backbone's; says both lists.
        ConfigError: the image mode shows the network one of several inputs at a time.
    """
    source = source_for_model(
        cells.metadata, card.channels, card.image_mode, mapping=config.embedding.channels, named=config.model.channels
    )
    if len(source.mode.inputs) > 1:
        raise ConfigError(
            f"{config.where('model', 'image_mode')}: {card.image_mode} shows a network one channel at a time, which gives several "
            "features for one image; extract them and classify these (use_pretrained_features: true)."
        )
    return replace(source, whole=False)


def build(card: NetworkCard, config: Config, trained: TrainedModel | None) -> Backbone:
    """The backbone with the trained weights, or random ones; with stochastic depth where it is trained."""
    drop_path = config.model.drop_path_rate if config.classification.train_feature_extractor else 0.0
    channels = card.in_channels or len(card.channels)
    backbone = build_backbone(card.arch, card.patch_size, card.image_size, channels, drop_path_rate=drop_path, seed=card.seed)
    if trained is not None:
        backbone.load_state_dict(trained.backbone.state_dict())
    return backbone
