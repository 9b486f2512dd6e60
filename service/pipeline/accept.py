"""May a bundle read these images? By what the manifest accepts, before any pixel is decoded."""

from __future__ import annotations

from collections.abc import Sequence

from service.domain.manifest import Manifest
from service.domain.study import Selection, age_years
from service.errors import Reason, UnusableStudy


def accepting(manifests: Sequence[Manifest], selection: Selection) -> tuple[list[Manifest], list[str]]:
    """Return the bundles that may read the chosen images, and a limitation for each that may not.

    Raises: UnusableStudy of the first bundle when none may.
    """
    willing: list[Manifest] = []
    refused: list[UnusableStudy] = []
    notes = []
    for manifest in manifests:
        try:
            require_accepted(manifest, selection)
        except UnusableStudy as error:
            refused.append(error)
            notes.append(did_not_read(manifest, error))
        else:
            willing.append(manifest)
    if not willing:
        raise refused[0]
    return willing, notes


def did_not_read(manifest: Manifest, error: UnusableStudy) -> str:
    """Say that a bundle had no part in a result, and why."""
    return f"{manifest.name} did not read this study: {error.reason.sentence} {error.detail}".strip()


def require_accepted(manifest: Manifest, selection: Selection) -> None:
    """Compare chosen images with what a bundle accepts.

    Raises: UnusableStudy with no_model (another modality), image_of_a_child, too_few_slices or slices_too_thick.
    """
    accepts = manifest.accepts
    modalities = {h.modality for h in selection.headers}
    if accepts.modality and not modalities <= set(accepts.modality):
        raise UnusableStudy(
            Reason.NO_MODEL, f"{manifest.name} reads {', '.join(accepts.modality)}; the images are {', '.join(modalities)}")
    ages = [years for h in selection.headers if (years := age_years(h)) is not None]
    if ages and max(ages) < accepts.least_age_years:
        raise UnusableStudy(
            Reason.IMAGE_OF_A_CHILD,
            f"the patient is {max(ages):.1f} years old; {manifest.name} reads from {accepts.least_age_years:g} years on")
    if selection.geometry is None:
        return
    if len(selection.headers) < accepts.least_slices:
        raise UnusableStudy(
            Reason.TOO_FEW_SLICES, f"{len(selection.headers)} slices, {manifest.name} needs {accepts.least_slices}")
    spacing_mm, most_mm = selection.geometry.spacing_mm[0], accepts.most_slice_spacing_mm
    if most_mm and spacing_mm > most_mm + 1e-3:
        raise UnusableStudy(
            Reason.SLICES_TOO_THICK, f"slices are {spacing_mm:.2f} mm apart, {manifest.name} accepts up to {most_mm:g}")
