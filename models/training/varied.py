"""Varying a batch of grey images on the device that trains: place, grey curve, sharpness, noise, what is hidden.

Images are (n, 1, s, s) float32 in 0..1, labels (n, s, s) int64; every image of a batch is varied for itself. The slow,
image-like changes (equalisation, compression, painted lesions) are made before, once, in a pool of pictures.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

BLUR_RADIUS_PX = 4


@dataclass(frozen=True)
class Place:
    """How far the place of an image is varied. mirror_x, mirror_y: how often it is mirrored along that axis."""

    turn_deg: float
    scale: tuple[float, float]
    shift: float
    stretch: float = 1.08
    mirror_x: float = 0.5
    mirror_y: float = 0.0
    share: float = 0.9


@dataclass(frozen=True)
class Look:
    """How far the look of an image is varied. gamma, gain, offset: spreads; sharp, noise: how often."""

    gamma: float = 0.25
    gain: float = 0.2
    offset: float = 0.08
    sharp: float = 0.4
    noise: float = 0.4
    most_noise: float = 0.06


class Varier:
    """Varies batches with random numbers of its own, drawn on the device."""

    def __init__(self, seed: int, device: str) -> None:
        self.device = device
        self.generator = torch.Generator(device=device).manual_seed(seed)

    def uniform(self, count: int, low: float, high: float) -> Tensor:
        """Return (count,) numbers, evenly spread."""
        return torch.empty(count, device=self.device).uniform_(low, high, generator=self.generator)

    def often(self, count: int, share: float) -> Tensor:
        """Return (count,) bool, true for about that share."""
        return self.uniform(count, 0.0, 1.0) < share

    def choose(self, weights: Tensor, count: int) -> Tensor:
        """Draw `count` indices by weight, with repetition."""
        return torch.multinomial(weights, count, replacement=True, generator=self.generator)

    def grids(self, count: int, side: int, place: Place) -> Tensor:
        """Return sampling grids (count, side, side, 2) that turn, scale, stretch, shift and mirror."""
        moved = self.often(count, place.share).float()
        turn = self.uniform(count, -place.turn_deg, place.turn_deg) * moved * (math.pi / 180.0)
        scale = torch.exp(self.uniform(count, math.log(place.scale[0]), math.log(place.scale[1])) * moved)
        stretch = torch.exp(self.uniform(count, -math.log(place.stretch), math.log(place.stretch)) * moved)
        along = torch.where(self.often(count, place.mirror_x), -1.0, 1.0) / (scale * stretch)
        down = torch.where(self.often(count, place.mirror_y), -1.0, 1.0) * stretch / scale
        cosine, sine = torch.cos(turn), torch.sin(turn)
        shift = [self.uniform(count, -place.shift, place.shift) * moved for _ in range(2)]
        rows = [torch.stack([along * cosine, -along * sine, shift[0]], 1),
                torch.stack([down * sine, down * cosine, shift[1]], 1)]
        return functional.affine_grid(torch.stack(rows, 1), [count, 1, side, side], align_corners=False)

    def move(self, images: Tensor, grid: Tensor) -> Tensor:
        """Sample images along grids; outside is the darkest grey of each."""
        darkest = images.amin(dim=(1, 2, 3), keepdim=True)
        moved = functional.grid_sample(images - darkest, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        return moved + darkest

    def move_labels(self, labels: Tensor, grid: Tensor) -> Tensor:
        """Sample labels (n, s, s) along the same grids; outside is 0."""
        moved = functional.grid_sample(
            labels[:, None].float(), grid, mode="nearest", padding_mode="zeros", align_corners=False)
        return moved[:, 0].round().long()

    def look(self, images: Tensor, look: Look) -> Tensor:
        """Vary grey curve, sharpness and noise."""
        count = len(images)
        gamma = torch.exp(torch.randn(count, device=self.device, generator=self.generator) * look.gamma)
        images = images.clamp(1e-5, 1.0) ** each(gamma)
        images = images * each(1.0 + self.uniform(count, -look.gain, look.gain)) + each(
            self.uniform(count, -look.offset, look.offset))
        soft = blurred(images, self.uniform(count, 0.5, 1.2))
        drawn = self.uniform(count, 0.0, 1.0)
        strength = torch.where(drawn < 0.6 * look.sharp, -1.0, torch.where(drawn < look.sharp, 0.7, 0.0))
        images = images + each(strength) * (images - soft)
        grain = self.uniform(count, 0.0, look.most_noise) * self.often(count, look.noise)
        noise = torch.randn(images.shape, device=self.device, generator=self.generator)
        return (images + each(grain) * noise).clamp(0.0, 1.0)

    def hide(self, images: Tensor, share: float, most: float) -> Tensor:
        """Blank a rectangle of a share of the images, up to `most` of each side, with their mean grey."""
        count, side = len(images), images.shape[-1]
        axis = torch.arange(side, device=self.device)[None]
        inside = []
        for _ in range(2):
            length = self.uniform(count, 0.1, most) * side
            start = self.uniform(count, 0.0, 1.0) * (side - length)
            inside.append((axis >= start[:, None]) & (axis < (start + length)[:, None]))
        hidden = inside[0][:, :, None] & inside[1][:, None, :] & self.often(count, share)[:, None, None]
        return torch.where(hidden[:, None], images.mean(dim=(1, 2, 3), keepdim=True), images)

    def view(self, images: Tensor, labels: Tensor, share: float) -> tuple[Tensor, Tensor]:
        """Darken what lies outside the circle of a scanner's field of view, and unlabel it, in a share of the images."""
        count, side = len(images), images.shape[-1]
        axis = torch.arange(side, device=self.device) - side / 2
        distance = torch.hypot(axis[:, None], axis[None, :])[None]
        radius = (self.uniform(count, 0.45, 0.52) * side)[:, None, None]
        outside = (distance > radius) & self.often(count, share)[:, None, None]
        dark = each(self.uniform(count, 0.0, 0.06))
        return torch.where(outside[:, None], dark, images), torch.where(outside, 0, labels)


def each(values: Tensor) -> Tensor:
    """Shape (n,) so that it applies to images (n, 1, s, s)."""
    return values[:, None, None, None]


def blurred(images: Tensor, sigma_px: Tensor) -> Tensor:
    """Blur each image with a Gaussian of its own: (n, 1, s, s) and (n,)."""
    count = len(images)
    axis = torch.arange(-BLUR_RADIUS_PX, BLUR_RADIUS_PX + 1, device=images.device)[None]
    kernel = torch.exp(-0.5 * (axis / sigma_px[:, None]) ** 2)
    kernel = kernel / kernel.sum(dim=1, keepdim=True)
    turned = functional.pad(images.transpose(0, 1), [BLUR_RADIUS_PX] * 4, mode="reflect")
    down = functional.conv2d(turned, kernel[:, None, :, None], groups=count)
    return functional.conv2d(down, kernel[:, None, None, :], groups=count).transpose(0, 1)
