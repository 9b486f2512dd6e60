"""The encoder of a segmentation bundle to go on from: what learned to outline serves a classifier of few pictures too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import Tensor, nn

from models.training import ct_data
from models.training.loop import load_pretrained
from models.training.nets import STAGE_ENDS, EfficientNetLite0

MODELS = Path(__file__).parents[1]
EVERY = 16
"""Of the lesion slices, so many-th are looked at for the statistics of the channels."""


def written(bundle: str, data: Path, path: Path) -> Path:
    """Write the weights that a classifier begins with, its backbone that of a CT segmentation bundle, and return the path.

    The blocks after the encoder's are those of ImageNet.
    """
    grey = np.concatenate(list(ct_data.load(data, None, held_out=False).lesion_grey.values()))[::EVERY]
    backbone = EfficientNetLite0()
    load_pretrained(backbone)
    taken_over(backbone, MODELS / bundle / "model.onnx", grey[:, np.newaxis].astype(np.float32) / np.float32(255.0))
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({f"backbone.{name}": value for name, value in backbone.state_dict().items()}, path)
    return path


@torch.no_grad()
def taken_over(backbone: EfficientNetLite0, file: Path, images: NDArray[np.float32]) -> None:
    """Give a backbone the encoder of a segmentation network's ONNX file, in place; it then answers as that does.

    In the file the normalisations are folded into the convolutions. Here they are put back with the statistics of `images`,
    (n, 1, s, s) in 0..1, as what is trained further needs them.
    Raises: ValueError when the file holds another network.
    """
    pairs, found = layers(backbone), folded(file)[:len(layers(backbone))]
    if [w.shape for w, _ in found] != [convolution.weight.shape for convolution, _ in pairs]:
        raise ValueError(f"{file} does not begin with the encoder; accepted: a bundle of models.training's SegmentationNet")
    hooks = []
    for (convolution, normalisation), (weight, bias) in zip(pairs, found, strict=True):
        convolution.weight.copy_(weight)
        hooks.append(normalisation.register_forward_pre_hook(unfolding(bias)))
    backbone.eval().stages(torch.from_numpy(images))
    for hook in hooks:
        hook.remove()


def layers(backbone: EfficientNetLite0) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    """Return each convolution of the encoder with the normalisation after it, in the order in which they run."""
    pairs = [(backbone._conv_stem, backbone._bn0)]
    for block in backbone._blocks[:max(STAGE_ENDS) + 1]:
        if block.expands:
            pairs.append((block._expand_conv, block._bn0))
        pairs += [(block._depthwise_conv, block._bn1), (block._project_conv, block._bn2)]
    return pairs


def folded(file: Path) -> list[tuple[Tensor, Tensor]]:
    """Return weight and bias of every convolution of an ONNX file, in the order in which they run."""
    graph = onnx.load(str(file)).graph
    values = {one.name: torch.from_numpy(numpy_helper.to_array(one).copy()) for one in graph.initializer}
    return [(values[node.input[1]], values[node.input[2]])
            for node in graph.node if node.op_type == "Conv" and all(name in values for name in node.input[1:3])]


def unfolding(bias: Tensor) -> Callable[[nn.Module, tuple[Tensor]], None]:
    """Return a hook that sets a normalisation so that it adds `bias` and nothing else to what it is given first."""

    def hook(normalisation: nn.Module, given: tuple[Tensor]) -> None:
        """Take the statistics over, and undo them."""
        mean, square = given[0].mean(dim=(0, 2, 3)), given[0].var(dim=(0, 2, 3), unbiased=False)
        normalisation.load_state_dict({
            "running_mean": mean, "running_var": square, "weight": (square + float(normalisation.eps)).sqrt(),
            "bias": bias + mean, "num_batches_tracked": torch.tensor(0)})

    return hook
