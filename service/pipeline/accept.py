"""May this bundle read these images? By what the manifest accepts, before any pixel is decoded."""

from __future__ import annotations

from service.domain.manifest import Manifest
from service.domain.study import Selection
from service.errors import Reason, UnusableStudy


def require_accepted(manifest: Manifest, selection: Selection) -> None:
    """Compare chosen images with what a bundle accepts.

    Raises: UnusableStudy with no_model (another modality), too_few_slices or slices_too_thick.
    """
    accepts = manifest.accepts
    modalities = {h.modality for h in selection.headers}
    if accepts.modality and not modalities <= set(accepts.modality):
        raise UnusableStudy(
            Reason.NO_MODEL, f"{manifest.name} reads {', '.join(accepts.modality)}; the images are {', '.join(modalities)}")
    if selection.geometry is None:
        return
    if len(selection.headers) < accepts.least_slices:
        raise UnusableStudy(
            Reason.TOO_FEW_SLICES, f"{len(selection.headers)} slices, {manifest.name} needs {accepts.least_slices}")
    spacing_mm, most_mm = selection.geometry.spacing_mm[0], accepts.most_slice_spacing_mm
    if most_mm and spacing_mm > most_mm + 1e-3:
        raise UnusableStudy(
            Reason.SLICES_TOO_THICK, f"slices are {spacing_mm:.2f} mm apart, {manifest.name} accepts up to {most_mm:g}")
