"""Frontal radiographs: scores, findings and where the evidence lies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.domain import codes
from service.domain.finding import Assessment, Finding, Presence
from service.domain.manifest import Manifest, Output
from service.domain.study import RadiographImage
from service.errors import EngineUnavailable, Reason
from service.infer.catalogue import identity
from service.infer.engine import Engine

Tensor = NDArray[np.float32]


@dataclass(frozen=True)
class CxrTransform:
    """Preparation and its inverse, handed in so that this package does not import the preparing one.

    to_tensor: (y, x) float32 in 0..1 to (1, channels, h, w); restore: one class's activation map (h, w), rows, columns
    to (rows, columns) float32 in 0..1, rectified and normalised, on the source pixel grid.
    """

    to_tensor: Callable[[NDArray[np.float32]], Tensor]
    restore: Callable[[Tensor, int, int], Tensor]


def assess_cxr(
    images: Sequence[RadiographImage], engine: Engine, manifest: Manifest, transform: CxrTransform,
    limitations: Sequence[str] = (),
) -> Assessment:
    """Score every frontal radiograph of a study.

    The model's input `image` is (1, channels, h, w); its outputs are `probabilities` (1, k) in 0..1 and `activation`
    (1, k, h, w). An abnormal finding has the score of the image with the highest; "no finding" has that of the image
    with the lowest, and is present only when no abnormal finding is over its threshold. The saliency of an image is
    the evidence for its most probable abnormal class.
    Raises: EngineUnavailable when the model fails or its output does not fit the manifest.
    """
    if not images:
        raise ValueError("no image to assess")
    abnormal = [o for o in manifest.outputs if o.code is not None and o.code != codes.NO_FINDING]
    scores = np.empty((len(images), max(o.index for o in manifest.outputs) + 1))
    saliency: dict[str, NDArray[np.float32]] = {}
    for row, image in enumerate(images):
        tensors = engine.run(manifest.name, {"image": transform.to_tensor(image.grey)})
        scores[row], activation = _checked(tensors, manifest, scores.shape[1])
        if abnormal:
            likely = max(abnormal, key=lambda o: scores[row, o.index])
            saliency[image.sop_instance_uid] = transform.restore(activation[likely.index], *image.grey.shape)
    return Assessment(
        bundle=identity(manifest), findings=_findings(images, scores, manifest, abnormal),
        limitations=tuple(limitations), saliency=saliency,
    )


def _checked(tensors: dict[str, Tensor], manifest: Manifest, classes: int) -> tuple[Tensor, Tensor]:
    """Return the scores and maps of the one image, after comparing their shapes with the manifest."""
    probabilities, activation = tensors.get("probabilities"), tensors.get("activation")
    if probabilities is None or activation is None or probabilities.shape != (1, classes) \
            or activation.ndim != 4 or activation.shape[:2] != (1, classes):
        raise EngineUnavailable(Reason.ENGINE_FAILED, f"the output of {manifest.name} does not fit its manifest")
    if not np.isfinite(probabilities).all():
        raise EngineUnavailable(Reason.ENGINE_FAILED, f"{manifest.name} gave a score that is not a number")
    return probabilities[0], activation[0]


def _findings(
    images: Sequence[RadiographImage], scores: NDArray[np.float64], manifest: Manifest, abnormal: Sequence[Output],
) -> tuple[Finding, ...]:
    anything = any(scores[:, o.index].max() >= o.threshold for o in abnormal)
    findings = []
    for output in manifest.outputs:
        if output.code is None:
            continue
        column = scores[:, output.index]
        normal = output.code == codes.NO_FINDING
        best = int(column.argmin() if normal else column.argmax())
        present = not anything if normal else column[best] >= output.threshold
        findings.append(Finding(
            name=output.name, code=output.code, presence=Presence.PRESENT if present else Presence.ABSENT,
            probability=float(np.clip(column[best], 0.0, 1.0)), threshold=output.threshold, site=codes.LUNG,
            sop_instance_uid=images[best].sop_instance_uid, urgency=output.urgency.value if output.urgency else "",
        ))
    return tuple(findings)
