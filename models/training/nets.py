"""The networks, written by hand so that each line can be read and exported.

All stand on `EfficientNetLite0` with its published ImageNet weights (its parts are named as there, so that the state
dict loads strictly): `ClassificationNet` averages class activation maps over its last features, `SegmentationNet` is a
U-Net that has its first five stages as encoder and decodes at half the resolution of the input.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

BLOCKS = (  # repeats, kernel, stride, expansion, channels out: EfficientNet-Lite0 (Tan and Le 2019, lite variant)
    (1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
STAGE_ENDS = {0: 16, 2: 24, 4: 40, 10: 112, 14: 192}
"""The last block of each resolution (1/2 to 1/32) and its channels: what a decoder joins."""
FEATURES = 1280


def conv_unit(channels_in: int, channels_out: int, kernel: int = 3) -> nn.Sequential:
    """Convolution, batch normalisation, ReLU."""
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, kernel, 1, kernel // 2, bias=False), nn.BatchNorm2d(channels_out),
        nn.ReLU(True),
    )


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
        """(n, channels_in, h, w) to (n, channels_out, h / stride, w / stride)."""
        kept = values
        if self.expands:
            values = functional.relu6(self._bn0(self._expand_conv(values)))
        values = pad_same(values, self.kernel, self.stride)
        values = functional.relu6(self._bn1(self._depthwise_conv(values)))
        values = self._bn2(self._project_conv(values))
        return values + kept if self.adds else values


class EfficientNetLite0(nn.Module):
    """EfficientNet-Lite0 up to its 1280 feature maps, with the ImageNet classifier kept so that weights load strictly.

    (n, 3, s, s) in -1..1 to features (n, 1280, s / 32, s / 32); s a multiple of 32.
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
        self._conv_head = nn.Conv2d(channels, FEATURES, 1, bias=False)
        self._bn1 = nn.BatchNorm2d(FEATURES, eps=1e-3)
        self._fc = nn.Linear(FEATURES, classes)

    def stem(self, grey: Tensor) -> Tensor:
        """(n, 1, s, s) grey in 0..1 to (n, 32, s / 2, s / 2)."""
        values = (2.0 * grey - 1.0).expand(-1, 3, -1, -1)
        return functional.relu6(self._bn0(self._conv_stem(pad_same(values, 3, 2))))

    def stages(self, grey: Tensor) -> list[Tensor]:
        """(n, 1, s, s) grey in 0..1 to the features at 1/2, 1/4, 1/8, 1/16 and 1/32 of the side (STAGE_ENDS)."""
        values, kept = self.stem(grey), []
        for place, block in enumerate(self._blocks[:max(STAGE_ENDS) + 1]):
            values = block(values)
            if place in STAGE_ENDS:
                kept.append(values)
        return kept

    def forward(self, grey: Tensor) -> Tensor:
        """(n, 1, s, s) grey in 0..1 to features (n, 1280, s / 32, s / 32)."""
        values = self.stem(grey)
        for block in self._blocks:
            values = block(values)
        return functional.relu6(self._bn1(self._conv_head(values)))

    def freeze(self, blocks: int) -> None:
        """Keep the stem and the first blocks as they are: no gradient, and the batch statistics of ImageNet."""
        for part in (self._conv_stem, self._bn0, self._fc, *self._blocks[:blocks]):
            part.eval()
            part.requires_grad_(False)


class ClassificationNet(nn.Module):
    """Scores of one grey image, each the mean of its class activation map.

    (n, 1, h, w) in 0..1 to (logits (n, k), maps (n, k, h / 32, w / 32), features (n, 1280), the means of the last
    feature maps).
    """

    def __init__(self, classes: int, dropout: float = 0.3) -> None:
        super().__init__()
        self.backbone = EfficientNetLite0()
        self.dropout = nn.Dropout2d(dropout)
        self.evidence = nn.Conv2d(FEATURES, classes, 1)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See the class."""
        features = self.backbone(image)
        maps = self.evidence(self.dropout(features))
        return maps.mean(dim=(2, 3)), maps, features.mean(dim=(2, 3))


class SegmentationNet(nn.Module):
    """2D U-Net over single grey images.

    (n, 1, s, s) in 0..1 to (logits (n, k, s, s), features (n, 192), the means of the deepest maps); s a multiple of 32.
    A space-to-depth fold of the input joins the finest stage and the last layer unfolds its 4 k channels to k classes.
    """

    def __init__(self, classes: int, widths: tuple[int, ...] = (24, 32, 48, 96, 160)) -> None:
        super().__init__()
        self.backbone = EfficientNetLite0()
        self.fold = conv_unit(4, widths[0])
        channels = [c + (widths[0] if place == 0 else 0) for place, c in enumerate(STAGE_ENDS.values())]
        self.lateral = nn.ModuleList(conv_unit(c, w, kernel=1) for c, w in zip(channels, widths, strict=True))
        pairs = list(pairwise(widths[::-1]))
        self.narrow = nn.ModuleList(nn.Conv2d(deep, flat, 1) for deep, flat in pairs)
        self.join = nn.ModuleList(
            nn.Sequential(conv_unit(2 * flat, flat), conv_unit(flat, flat)) for _, flat in pairs
        )
        self.dropout = nn.Dropout2d(0.1)
        self.head = nn.Conv2d(widths[0], 4 * classes, 3, padding=1)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """See the class."""
        stages = self.backbone.stages(image)
        features = stages[-1].mean(dim=(2, 3))
        stages[0] = torch.cat([stages[0], self.fold(functional.pixel_unshuffle(2.0 * image - 1.0, 2))], dim=1)
        kept = [lateral(stage) for lateral, stage in zip(self.lateral, stages, strict=True)]
        values = self.dropout(kept.pop())
        for narrow, join in zip(self.narrow, self.join, strict=True):
            raised = functional.interpolate(narrow(values), scale_factor=2.0, mode="nearest")
            values = join(torch.cat([raised, kept.pop()], dim=1))
        return functional.pixel_shuffle(self.head(values), 2), features
