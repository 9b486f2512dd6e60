"""What reads the frozen features: a support vector machine with a Gaussian kernel, class by class, as a network layer.

It keeps the principal components of the features of its training images (256 numbers for each), not the images.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.svm import SVC
from torch import Tensor, nn

from models.training.features import CHANNELS, QUARTERS, Statistics

MOST_DEVIATIONS = 6.0
Array = NDArray[np.float32]


@dataclass(frozen=True)
class Shape:
    """How the head is fitted. gamma: of the kernel, on components scaled to a mean square of about 1."""

    components: int
    gamma: float
    cost: float
    balanced: bool


class KernelHead(nn.Module):
    """Statistics (n, d) to logits (n, k) and components (n, c).

    A logit is the signed distance to its class's margin: sum over examples of weight * exp(-gamma |z - example|^2), plus
    bias.
    """

    def __init__(self, mean: Tensor, spread: Tensor, axes: Tensor, examples: Tensor, weights: Tensor, bias: Tensor,
                 gamma: float) -> None:
        super().__init__()
        self.gamma = gamma
        for name, value in (("mean", mean), ("spread", spread), ("axes", axes), ("examples", examples),
                            ("weights", weights), ("bias", bias)):
            self.register_buffer(name, value)

    def components(self, statistics: Tensor) -> Tensor:
        """Return the scaled principal components, (n, c)."""
        return ((statistics - self.mean) / self.spread).clamp(-MOST_DEVIATIONS, MOST_DEVIATIONS) @ self.axes

    def kernel(self, components: Tensor) -> Tensor:
        """Return the likeness to every example, (n, e), in 0..1."""
        square = components.square().sum(dim=1, keepdim=True) + self.examples.square().sum(dim=1)
        return torch.exp(-self.gamma * (square - 2.0 * components @ self.examples.T).clamp(min=0.0))

    def forward(self, statistics: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return logits (n, k), components (n, c), and the slope of each logit along each statistic, (n, k, d)."""
        components = self.components(statistics)
        pull = self.kernel(components)[:, None, :] * self.weights.T[None]
        logits = pull.sum(dim=2) + self.bias
        slope = 2.0 * self.gamma * (pull @ self.examples - pull.sum(dim=2, keepdim=True) * components[:, None, :])
        return logits, components, (slope @ self.axes.T) / self.spread


def fitted(statistics: Array, labels: NDArray[np.int8], counts: Array, shape: Shape) -> KernelHead:
    """Fit one machine for each class against what is labelled as not of it.

    statistics: (n, d); labels: (n, k), 1, 0, or -1 where not labelled; counts: (n,), how much each one weighs.
    """
    mean, spread = statistics.mean(axis=0), statistics.std(axis=0) + np.float32(1e-4)
    scaled = np.clip((statistics - mean) / spread, -MOST_DEVIATIONS, MOST_DEVIATIONS)
    _, _, axes = np.linalg.svd(scaled, full_matrices=False)
    axes = (axes[:shape.components].T / np.sqrt(scaled.shape[1])).astype(np.float32)
    components = scaled @ axes
    weights, bias = np.zeros((len(components), labels.shape[1]), np.float32), np.zeros(labels.shape[1], np.float32)
    for k in range(labels.shape[1]):
        known = np.flatnonzero(labels[:, k] >= 0)
        machine = SVC(C=shape.cost, gamma=shape.gamma, class_weight="balanced" if shape.balanced else None)
        machine.fit(components[known], labels[known, k], sample_weight=counts[known])
        weights[known[machine.support_], k] = machine.dual_coef_[0]
        bias[k] = machine.intercept_[0]
    used = np.flatnonzero(np.abs(weights).sum(axis=1))
    tensors = (mean, spread, axes, components[used], weights[used], bias)
    return KernelHead(*(torch.from_numpy(np.ascontiguousarray(t, np.float32)) for t in tensors), shape.gamma)


class FeatureNet(nn.Module):
    """The frozen backbone with its head.

    (n, 1, s, s) to (logits (n, k), maps (n, k, s / 32, s / 32), components (n, c)). A map holds, for each place, how far
    its channels move the logit away from that of an average training image, along the slope at this image; how much a
    channel varies over the image has no place, and is not in the map.
    """

    def __init__(self, head: KernelHead) -> None:
        super().__init__()
        self.statistics, self.head = Statistics(), head

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See the class."""
        statistics, channels = self.statistics(image)
        logits, components, slope = self.head(statistics)
        usual = self.head.mean
        places = int(channels.shape[2])
        maps = evidence(slope[:, :, :CHANNELS], channels, usual[:CHANNELS])
        half, rows = places // 2, []
        for top in range(2):
            row = []
            for left in range(2):
                first = (2 + 2 * top + left) * CHANNELS
                part = channels[:, :, top * half:(top + 1) * half, left * half:(left + 1) * half]
                row.append(evidence(slope[:, :, first:first + CHANNELS], part, usual[first:first + CHANNELS]))
            rows.append(torch.cat(row, dim=3))
        return logits, maps + QUARTERS * torch.cat(rows, dim=2), components


def evidence(slope: Tensor, channels: Tensor, usual: Tensor) -> Tensor:
    """Return slope times what the channels are beyond the usual, (n, k, h, w); slope: (n, k, c), channels (n, c, h, w)."""
    beyond = channels - usual[None, :, None, None]
    return (slope @ beyond.flatten(2)).unflatten(2, (int(channels.shape[2]), int(channels.shape[3])))
