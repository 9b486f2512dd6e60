"""May a model look before the study is complete? A radiograph once it is here, a CT series once it is whole."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from service.assemble.geometry import GAP_FACTOR
from service.domain.study import Kind, Selection


@dataclass(frozen=True)
class EarlyStart:
    """When a model may start before the end of a study; seconds after its last image.

    cxr_s: while the association of a radiograph is still open; after its release there is nothing to wait for.
    ct_s: a CT series after the release of its association, unless more was learned of its sender.
    """

    enabled: bool = True
    cxr_s: float = 0.5
    ct_s: float = 3.0


def worth_a_look(
    rules: EarlyStart, modality: str, association_open: bool, silent_s: float, settled_s: float, missing: int
) -> bool:
    """Tell whether the images of a study shall be looked through for some that a model may read already.

    modality: of the study, several joined by a slash: in one with a CT the radiographs wait for the CT. settled_s: how
    long a CT must have been quiet; missing: how many announced images are not here.
    """
    if not rules.enabled:
        return False
    if "CT" in modality.split("/"):
        return not association_open and silent_s >= settled_s and not missing
    return not association_open or silent_s >= rules.cxr_s


def why_early(selection: Selection) -> str | None:
    """Say why a model may read these images now, or None: a CT of which slices are missing may still get them."""
    if selection.kind is Kind.CXR:
        count = len(selection.headers)
        return "the radiograph is here" if count == 1 else f"{count} radiographs are here"
    if not _is_whole(selection):
        return None
    return (f"{len(selection.headers)} slices of series {selection.series_instance_uid} lie evenly without a gap, and the "
            "association is released")


def _is_whole(selection: Selection) -> bool:
    geometry = selection.geometry
    if geometry is None:
        return False
    distances = np.diff(np.array(geometry.positions_mm))
    return bool((distances <= GAP_FACTOR * geometry.spacing_mm[0]).all())
