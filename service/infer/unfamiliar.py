"""Does a network know images like these? Its own output `unfamiliarity`, held against what the manifest accepts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.domain.manifest import Manifest
from service.errors import EngineUnavailable, Reason, UnusableStudy


def unfamiliarity(tensors: Mapping[str, NDArray[Any]], manifest: Manifest, count: int) -> NDArray[np.float32]:
    """Return the network's unfamiliarity of each image or slice, (count,) float32 >= 0.

    All 0 when the manifest sets no limit. Raises: EngineUnavailable when a limit is set and the output is missing, of
    another length or not a number.
    """
    if not manifest.accepts.most_unfamiliarity:
        return np.zeros(count, np.float32)
    found = tensors.get("unfamiliarity")
    if found is None or found.shape != (count,) or not np.isfinite(found).all():
        raise EngineUnavailable(
            Reason.ENGINE_FAILED, f"the output unfamiliarity of {manifest.name} does not fit its manifest")
    return found.astype(np.float32)


def require_familiar(found: Sequence[float] | NDArray[np.float32], manifest: Manifest) -> None:
    """Compare the median of the images or slices with the limit of the manifest.

    Raises: UnusableStudy(UNFAMILIAR_IMAGE) when it is above.
    """
    most = manifest.accepts.most_unfamiliarity
    median = float(np.median(found)) if len(found) else 0.0
    if most and median > most:
        raise UnusableStudy(Reason.UNFAMILIAR_IMAGE, f"unfamiliarity {median:.3g}, {manifest.name} accepts up to {most:g}")
