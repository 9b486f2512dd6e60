"""A segmentation network over the slices of a CT: the most probable class of each voxel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.errors import EngineUnavailable, Reason
from service.infer.air import BACKGROUND, INFECTION
from service.infer.networks import Networks, Run

Tensor = NDArray[np.float32]


@dataclass(frozen=True)
class CtTransform:
    """Preparation and its inverse, handed in so that this package does not import the preparing one.

    to_tensor: (n, y, x) float32 HU to (n, 1, h, w); restore: (n, 3, h, w) probabilities, rows, columns to (n, 3, rows,
    columns) on the grid that to_tensor was given.
    """

    to_tensor: Callable[[NDArray[np.float32]], Tensor]
    restore: Callable[[Tensor, int, int], Tensor]


@dataclass(frozen=True, eq=False)
class Read:
    """What a network said of a volume.

    classes: (z, y, x) uint8, BACKGROUND, LUNG or INFECTION; beside: its further outputs by name, (z, ...).
    """

    classes: NDArray[np.uint8]
    beside: dict[str, NDArray[Any]]


def read_slices(hu: NDArray[np.float32], engine: Networks, bundle_name: str, transform: CtTransform) -> Read:
    """Run the network over all slices, a few at a time on each thread of the engine.

    hu: (z, y, x), turned as a radiologist sees it. Raises: EngineUnavailable when the model fails or its output
    `probabilities` is not (n, 3, h, w).
    """
    batch = engine.batch(bundle_name)

    def read(run: Run, first: int) -> Read:
        return read_chunk(hu[first:first + batch], run, bundle_name, transform)

    return joined(engine.spread(bundle_name, read, range(0, len(hu), batch)))


def read_chunk(hu: Sequence[NDArray[np.float32]] | NDArray[np.float32], run: Run, bundle_name: str,
               transform: CtTransform) -> Read:
    """Run the network once, over a few slices.

    hu: n slices, (y, x), turned as a radiologist sees them; run: the network. Raises: as `read_slices`.
    """
    slices = [np.ascontiguousarray(one) for one in hu]
    tensors = run({"slices": np.concatenate([transform.to_tensor(one[np.newaxis]) for one in slices])})
    probabilities = tensors.pop("probabilities", None)
    if probabilities is None or probabilities.ndim != 4 or probabilities.shape[:2] != (len(slices), 3) \
            or any(len(values) != len(slices) for values in tensors.values()):
        raise EngineUnavailable(Reason.ENGINE_FAILED, f"the output of {bundle_name} does not fit its manifest")
    classes = np.empty((len(slices), *slices[0].shape), np.uint8)
    for k, one in enumerate(probabilities):
        _classify(one, transform.restore, classes[k])
    return Read(classes, tensors)


def joined(parts: Sequence[Read]) -> Read:
    """Put parts of a volume together, in their order."""
    beside = {name: np.concatenate([part.beside[name] for part in parts]) for name in parts[0].beside}
    return Read(np.concatenate([part.classes for part in parts]), beside)


def _classify(probabilities: Tensor, restore: Callable[[Tensor, int, int], Tensor], classes: NDArray[np.uint8]) -> None:
    """Write the most probable class of each pixel of the source grid; of equal ones the first.

    probabilities: (3, h, w). What is carried to the source grid is how far lung and infection lie above background: two
    planes instead of three, and none where neither does anywhere, for between pixels there is nothing higher.
    """
    background, lung, infection = probabilities
    over = lung - background, infection - background
    rows, columns = classes.shape
    is_lung = classes.view(np.bool_)
    if float(over[1].max()) > 0:
        wide = restore(np.stack(over)[np.newaxis], rows, columns)[0]
        np.greater(wide[0], 0, out=is_lung)
        classes[wide[1] > np.maximum(wide[0], 0)] = INFECTION
    elif float(over[0].max()) > 0:
        np.greater(restore(over[0][np.newaxis, np.newaxis], rows, columns)[0, 0], 0, out=is_lung)
    else:
        classes[:] = BACKGROUND
