"""Names of the architectures that `model.arch` takes, as HANDBOOK's section config.yaml lists them; needs no torch.

`dino4cells.models.backbones` builds them.
"""

from __future__ import annotations

from typing import Final

from pydantic_core import PydanticCustomError

VISION_TRANSFORMERS: Final = ("vit_tiny", "vit_small", "vit_base")
ALIASES: Final = {"deit_tiny": "vit_tiny", "deit_small": "vit_small", "deit_base": "vit_base"}
XRESNETS: Final = ("xresnet18", "xresnet34", "xresnet50", "xresnet101", "xresnet152")
# fmt: off
TORCHVISION: Final = (
    "alexnet", "convnext_base", "convnext_large", "convnext_small", "convnext_tiny", "densenet121", "densenet161", "densenet169",
    "densenet201", "efficientnet_b0", "efficientnet_b1", "efficientnet_b2", "efficientnet_b3", "efficientnet_b4", "efficientnet_b5",
    "efficientnet_b6", "efficientnet_b7", "efficientnet_v2_l", "efficientnet_v2_m", "efficientnet_v2_s", "googlenet", "inception_v3",
    "mnasnet0_5", "mnasnet0_75", "mnasnet1_0", "mnasnet1_3", "mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small",
    "regnet_x_16gf", "regnet_x_1_6gf", "regnet_x_32gf", "regnet_x_3_2gf", "regnet_x_400mf", "regnet_x_800mf", "regnet_x_8gf",
    "regnet_y_128gf", "regnet_y_16gf", "regnet_y_1_6gf", "regnet_y_32gf", "regnet_y_3_2gf", "regnet_y_400mf", "regnet_y_800mf",
    "regnet_y_8gf", "resnet101", "resnet152", "resnet18", "resnet34", "resnet50", "resnext101_32x8d", "resnext101_64x4d",
    "resnext50_32x4d", "shufflenet_v2_x0_5", "shufflenet_v2_x1_0", "shufflenet_v2_x1_5", "shufflenet_v2_x2_0", "squeezenet1_0",
    "squeezenet1_1", "swin_b", "swin_s", "swin_t", "swin_v2_b", "swin_v2_s", "swin_v2_t", "vgg11", "vgg11_bn", "vgg13", "vgg13_bn",
    "vgg16", "vgg16_bn", "vgg19", "vgg19_bn", "wide_resnet101_2", "wide_resnet50_2",
)
"""torchvision's classification networks that take images of any size."""
OF_ONE_SIZE: Final = ("maxvit_t", "vit_b_16", "vit_b_32", "vit_h_14", "vit_l_16", "vit_l_32")
"""The others, which are built for images of one size, while DINO's views have two."""
# fmt: on
ARCHITECTURES: Final = (*VISION_TRANSFORMERS, *XRESNETS, *TORCHVISION)
_OFFERED = "vit_tiny, vit_small, vit_base, xresnet18, 34, 50, 101, 152 or a network of torchvision such as resnet50"


def resolve_architecture(value: object) -> object:
    """The name itself, or the one that it is an alias of (`deit_small`: `vit_small`); anything but text is passed on.

    Raises:
        PydanticCustomError: no such architecture; holds the known names, for a suggestion.
    """
    if not isinstance(value, str):
        return value
    name = ALIASES.get(value, value)
    if name in OF_ONE_SIZE:
        raise PydanticCustomError("value_error", "{error}", {"error": "must be a network that takes views of any size"})
    if name not in ARCHITECTURES:
        known = " or ".join((*ARCHITECTURES, *ALIASES))
        raise PydanticCustomError("value_error", "{error}", {"error": f"must be {_OFFERED}", "expected": known})
    return name
