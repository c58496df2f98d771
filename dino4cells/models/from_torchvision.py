"""torchvision's classification networks as backbones: without their classifier, for any number of channels.

The embedding is the global average pool of the last feature map, with the norm that the network applies after it. Parameters keep
torchvision's names, which are those of checkpoints that DINO's code writes with such a network.

Dimensions: C channels, D embedding.
"""

from __future__ import annotations

from typing import Any, cast

import torchvision
from torch import nn

from dino4cells.models.backbone import Backbone

# Below these sizes a pooling or an unpadded convolution has nothing left.
_SMALLEST = {
    "alexnet": 63,
    "convnext": 32,
    "densenet": 29,
    "googlenet": 15,
    "inception": 75,
    "squeezenet1_0": 21,
    "squeezenet1_1": 17,
    "swin": 4,
    "vgg": 32,
}


def torchvision_backbone(arch: str, channels: int, drop_path_rate: float) -> Backbone:
    """A network of torchvision with random weights.

    Args:
        arch: a name of `config.architectures.TORCHVISION`.
        channels: C; another number than three rebuilds the first convolution, drawn by the network's own rule.
        drop_path_rate: of the last block, rising linearly from 0, in the networks that have stochastic depth (ConvNeXt, EfficientNet,
            Swin); the others have none.
    """
    options = {"aux_logits": False, "init_weights": True} if arch in ("googlenet", "inception_v3") else {}
    network = torchvision.models.get_model(arch, weights=None, **options)
    if channels != 3:
        _take_channels(network, arch, channels)
    _set_stochastic_depth(network, drop_path_rate)
    return _as_backbone(network, _drop_classifier(network), arch)


def _take_channels(network: nn.Module, arch: str, channels: int) -> None:
    """Rebuild the first convolution, which is the only one that sees the image."""
    path, first = next((path, module) for path, module in network.named_modules() if isinstance(module, nn.Conv2d))
    rebuilt = nn.Conv2d(
        channels,
        first.out_channels,
        cast(Any, first.kernel_size),
        cast(Any, first.stride),
        cast(Any, first.padding),
        bias=first.bias is not None,
    )  # PyTorch's own initialization, which alexnet, shufflenet and swin keep
    parent, _, name = path.rpartition(".")
    setattr(network.get_submodule(parent), name, rebuilt)
    _initialize_first(rebuilt, arch)


def _initialize_first(first: nn.Conv2d, arch: str) -> None:
    """Draw a first convolution as torchvision draws the one for three channels."""
    family = arch.rstrip("0123456789_").split("_")[0]
    if arch.startswith(("alexnet", "shufflenet", "swin")):
        return
    if first.bias is not None:
        nn.init.zeros_(first.bias)
    if arch.startswith("densenet"):
        nn.init.kaiming_normal_(first.weight)
    elif arch.startswith("squeezenet"):
        nn.init.kaiming_uniform_(first.weight)
    elif family == "convnext":
        nn.init.trunc_normal_(first.weight, std=0.02)
    elif family in ("googlenet", "inception"):
        nn.init.trunc_normal_(first.weight, std=0.01 if family == "googlenet" else 0.1)
    else:
        nn.init.kaiming_normal_(first.weight, mode="fan_out", nonlinearity="relu")


def _set_stochastic_depth(network: nn.Module, rate: float) -> None:
    """Scale the rates that torchvision gives a classifier, which rise linearly, so that the last one is `rate`."""
    layers = [module for module in network.modules() if isinstance(module, torchvision.ops.StochasticDepth)]
    largest = max((layer.p for layer in layers), default=0.0)
    for layer in layers:
        layer.p = layer.p * rate / largest if largest else 0.0


def _drop_classifier(network: Any) -> int:
    """Leave out what follows the global average pool (and its norm); returns D."""
    if hasattr(network, "fc"):  # ResNet, ResNeXt, Wide ResNet, RegNet, ShuffleNet, GoogLeNet, Inception
        width, network.fc = network.fc.in_features, nn.Identity()
        if hasattr(network, "dropout"):
            network.dropout = nn.Identity()
    elif hasattr(network, "head"):  # Swin
        width, network.head = network.head.in_features, nn.Identity()
    elif isinstance(network, torchvision.models.ConvNeXt):
        width, network.classifier[2] = network.classifier[2].in_features, nn.Identity()  # its norm stays
    elif isinstance(network, torchvision.models.SqueezeNet):
        width, network.classifier = network.classifier[1].in_channels, nn.AdaptiveAvgPool2d(1)
    elif isinstance(network, torchvision.models.VGG | torchvision.models.AlexNet):
        # Their classifiers see 7 × 7 (6 × 6) averages of the last feature map; here it is one, as in all others.
        convolutions = [module for module in network.features if isinstance(module, nn.Conv2d)]
        width, network.avgpool, network.classifier = convolutions[-1].out_channels, nn.AdaptiveAvgPool2d(1), nn.Identity()
    else:  # DenseNet, EfficientNet, MNASNet, MobileNet
        layers = [module for module in network.classifier.modules() if isinstance(module, nn.Linear)]
        width, network.classifier = layers[0].in_features, nn.Identity()
    return int(width)


def _as_backbone(network: nn.Module, embed_dim: int, arch: str) -> Backbone:
    """The network itself with a backbone's methods: a module around it would prefix the names of its parameters."""
    own = type(network)
    network.__class__ = type(own.__name__, (own, Backbone), {})
    backbone = cast(Backbone, network)
    backbone.embed_dim = embed_dim
    backbone.smallest_side = next((side for prefix, side in _SMALLEST.items() if arch.startswith(prefix)), 1)
    return backbone
