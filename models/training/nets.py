"""The two networks, written by hand so that each line can be read and exported.

`LungUNet` works at half the resolution of its input: a space-to-depth fold makes 4 channels of 128 x 128 out of a
256 x 256 slice and the last layer unfolds its 12 channels to 3 classes again, a quarter of the work of a plain U-Net.
`EfficientNetLite0` names its parts as the published ImageNet weights do, so that their state dict loads strictly.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

CT_CLASSES = ("background", "lung", "infection")
CXR_CLASSES = ("no_finding", "pneumonia", "covid19")
BLOCKS = (  # repeats, kernel, stride, expansion, channels out: EfficientNet-Lite0 (Tan and Le 2019, lite variant)
    (1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


def conv_unit(channels_in: int, channels_out: int, stride: int = 1) -> nn.Sequential:
    """3 x 3 convolution, batch normalisation, ReLU."""
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False), nn.BatchNorm2d(channels_out), nn.ReLU(True),
    )


class LungUNet(nn.Module):
    """2D U-Net over single slices. (n, 1, s, s) in 0..1 to logits (n, 3, s, s); s a multiple of 32."""

    def __init__(self, widths: tuple[int, ...] = (24, 40, 64, 96, 128)) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv_unit(4, widths[0]), conv_unit(widths[0], widths[0]))
        self.down = nn.ModuleList(
            nn.Sequential(conv_unit(a, b, stride=2), conv_unit(b, b)) for a, b in pairwise(widths)
        )
        pairs = list(zip(widths[::-1], widths[-2::-1], strict=False))
        self.narrow = nn.ModuleList(nn.Conv2d(deep, flat, 1) for deep, flat in pairs)
        self.join = nn.ModuleList(
            nn.Sequential(conv_unit(2 * flat, flat), conv_unit(flat, flat)) for _, flat in pairs
        )
        self.dropout = nn.Dropout2d(0.1)
        self.head = nn.Conv2d(widths[0], 4 * len(CT_CLASSES), 3, padding=1)

    def forward(self, slices: Tensor) -> Tensor:
        kept = [self.stem(functional.pixel_unshuffle(2.0 * slices - 1.0, 2))]
        for down in self.down:
            kept.append(down(kept[-1]))
        values = self.dropout(kept.pop())
        for narrow, join in zip(self.narrow, self.join, strict=True):
            raised = functional.interpolate(narrow(values), scale_factor=2.0, mode="nearest")
            values = join(torch.cat([raised, kept.pop()], dim=1))
        return functional.pixel_shuffle(self.head(values), 2)


def pad_same(values: Tensor, kernel: int, stride: int) -> Tensor:
    """Pad as the published weights expect: as little as needed, the odd pixel after (sides a multiple of stride)."""
    total = max(kernel - stride, 0)
    return functional.pad(values, (total // 2, total - total // 2, total // 2, total - total // 2))


class Block(nn.Module):
    """Inverted residual: expand 1 x 1, depthwise k x k, project 1 x 1; ReLU6, no squeeze and excitation."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = channels_in * expansion
        self.expands = expansion != 1
        self.adds = stride == 1 and channels_in == channels_out
        if self.expands:
            self._expand_conv = nn.Conv2d(channels_in, inner, 1, bias=False)
            self._bn0 = nn.BatchNorm2d(inner, eps=1e-3)
        self._depthwise_conv = nn.Conv2d(inner, inner, kernel, stride, groups=inner, bias=False)
        self.kernel, self.stride = kernel, stride
        self._bn1 = nn.BatchNorm2d(inner, eps=1e-3)
        self._project_conv = nn.Conv2d(inner, channels_out, 1, bias=False)
        self._bn2 = nn.BatchNorm2d(channels_out, eps=1e-3)

    def forward(self, values: Tensor) -> Tensor:
        kept = values
        if self.expands:
            values = functional.relu6(self._bn0(self._expand_conv(values)))
        values = pad_same(values, self.kernel, self.stride)
        values = functional.relu6(self._bn1(self._depthwise_conv(values)))
        values = self._bn2(self._project_conv(values))
        return values + kept if self.adds else values


class EfficientNetLite0(nn.Module):
    """EfficientNet-Lite0 up to its 1280 feature maps, with the ImageNet classifier kept so that weights load strictly.

    (n, 3, s, s) in -1..1 to features (n, 1280, s / 32, s / 32).
    """

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        self._conv_stem = nn.Conv2d(3, 32, 3, 2, bias=False)
        self._bn0 = nn.BatchNorm2d(32, eps=1e-3)
        blocks, channels = [], 32
        for repeats, kernel, stride, expansion, channels_out in BLOCKS:
            for repeat in range(repeats):
                blocks.append(Block(channels, channels_out, kernel, stride if repeat == 0 else 1, expansion))
                channels = channels_out
        self._blocks = nn.ModuleList(blocks)
        self._conv_head = nn.Conv2d(channels, 1280, 1, bias=False)
        self._bn1 = nn.BatchNorm2d(1280, eps=1e-3)
        self._fc = nn.Linear(1280, classes)

    def forward(self, values: Tensor) -> Tensor:
        values = functional.relu6(self._bn0(self._conv_stem(pad_same(values, 3, 2))))
        for block in self._blocks:
            values = block(values)
        return functional.relu6(self._bn1(self._conv_head(values)))


class RadiographNet(nn.Module):
    """Three classes from one grey image, by global average of class activation maps.

    (n, 1, h, w) in 0..1 to (logits (n, 3), maps (n, 3, h / 32, w / 32)); a logit is the mean of its map, and the maps
    are centred over the classes, so that a positive place speaks for the class against the others.
    """

    def __init__(self) -> None:
        super().__init__()
        self.backbone = EfficientNetLite0()
        self.dropout = nn.Dropout2d(0.3)
        self.evidence = nn.Conv2d(1280, len(CXR_CLASSES), 1)
        self.register_buffer("temperature", torch.ones(()))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        features = self.backbone((2.0 * image - 1.0).expand(-1, 3, -1, -1))
        maps = self.evidence(self.dropout(features))
        maps = (maps - maps.mean(dim=1, keepdim=True)) / self.temperature
        return maps.mean(dim=(2, 3)), maps
