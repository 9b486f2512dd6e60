"""Frontal radiographs: scores, findings and where the evidence lies."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from service.domain import codes
from service.domain.codes import Code
from service.domain.finding import Assessment, Finding, Outline, Presence
from service.domain.manifest import Manifest, Output
from service.domain.study import RadiographImage
from service.errors import EngineUnavailable, Reason, UnusableStudy
from service.infer.fields import LungFields, Placement, place
from service.infer.networks import Networks
from service.infer.outline import outlines
from service.infer.unfamiliar import require_familiar, unfamiliarity

Tensor = NDArray[np.float32]
_PLACED = (codes.LUNG, codes.PLEURA)  # sites that lie along the lung fields
_MOST = 0.5
_NOWHERE = Placement(None, None, 0.0)


@dataclass(frozen=True)
class CxrTransform:
    """Preparation and its inverse, handed in so that this package does not import the preparing one.

    to_tensor: (y, x) float32 in 0..1 to (1, channels, h, w); restore: one class's activation map (h, w), rows, columns
    to (rows, columns) float32 in 0..1, rectified and normalised, on the source pixel grid.
    """

    to_tensor: Callable[[NDArray[np.float32]], Tensor]
    restore: Callable[[Tensor, int, int], Tensor]


def assess_cxr(
    images: Sequence[RadiographImage], engine: Networks, manifest: Manifest, transform: CxrTransform,
    limitations: Sequence[str] = (), fields: Mapping[str, LungFields] | None = None,
    unjudged: Mapping[str, Collection[Code]] | None = None,
) -> Assessment:
    """Score every frontal radiograph of a study.

    The model's input `image` is (1, channels, h, w); its outputs are `probabilities` (1, k) in 0..1 and `activation`
    (1, k, h, w). An abnormal finding has the score of the image with the highest; "no finding" has that of the image
    with the lowest, and is present only when no abnormal finding is over its threshold. The saliency of an image is
    the evidence for its most probable abnormal class. fields: lung fields by SOP Instance UID, which place the findings
    that are present. unjudged: by SOP Instance UID, what cannot be told from that image. An image that is unfamiliar to
    the model is left out.
    Raises: UnusableStudy(UNFAMILIAR_IMAGE) when all are; EngineUnavailable when the model fails or its output does not
    fit the manifest.
    """
    if not images:
        raise ValueError("no image to assess")
    classes = max(o.index for o in manifest.outputs) + 1
    read: list[_Read] = []
    refused: list[UnusableStudy] = []
    for image in images:
        tensors = engine.run(manifest.name, {"image": transform.to_tensor(image.exposed)})
        scores, activation = _checked(tensors, manifest, classes)
        try:
            require_familiar(unfamiliarity(tensors, manifest, 1), manifest)
        except UnusableStudy as error:
            refused.append(error)
        else:
            read.append(_Read(image, scores, activation, transform, (unjudged or {}).get(image.sop_instance_uid, ())))
    if not read:
        raise refused[0]
    why = refused[0].reason.sentence if refused else ""
    notes = [f"{manifest.name} left out {len(refused)} of {len(images)} images: {why}"] if refused else []
    abnormal = [o for o in manifest.outputs if o.code is not None and o.code != codes.NO_FINDING]
    findings, outside = _findings(read, manifest, abnormal, fields or {})
    saliency = {r.image.sop_instance_uid: r.evidence(max(r.judged(abnormal), key=lambda o: r.scores[o.index]))
                for r in read if r.judged(abnormal)}
    return Assessment(bundle=engine.identity(manifest.name), findings=findings, limitations=(*limitations, *notes, *outside),
                      saliency=saliency)


@dataclass(frozen=True, eq=False)
class _Read:
    """What the network said of one image: scores (k,), activation (k, h, w); unjudged: what cannot be told from it.

    known: the evidence for a class, once it was asked for.
    """

    image: RadiographImage
    scores: Tensor
    activation: Tensor
    transform: CxrTransform
    unjudged: Collection[Code] = ()
    known: dict[int, Tensor] = field(default_factory=dict)

    def judged(self, outputs: Sequence[Output]) -> list[Output]:
        """Return those of the outputs that can be told from this image."""
        return [o for o in outputs if o.code not in self.unjudged]

    def evidence(self, output: Output) -> Tensor:
        """Return the evidence for one class on the source pixel grid."""
        if output.index not in self.known:
            restored = self.transform.restore(self.activation[output.index], *self.image.exposed.shape)
            self.known[output.index] = self.image.whole(restored)
        return self.known[output.index]


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
    read: Sequence[_Read], manifest: Manifest, abnormal: Sequence[Output], fields: Mapping[str, LungFields],
) -> tuple[tuple[Finding, ...], list[str]]:
    anything = any(float(r.scores[o.index]) >= o.threshold for r in read for o in r.judged(abnormal))
    findings, outside = [], []
    everyone = read
    for output in manifest.outputs:
        read = [r for r in everyone if r.judged([output])]
        if output.code is None or not read:
            continue
        column = np.array([r.scores[output.index] for r in read], np.float64)
        normal = output.code == codes.NO_FINDING
        best = int(column.argmin() if normal else column.argmax())
        present = not anything if normal else column[best] >= output.threshold
        site = codes.SITES.get(output.code, codes.LUNG)
        placed = _NOWHERE
        drawn: tuple[Outline, ...] = ()
        if present and not normal:
            placed, drawn = _where(read[best], output, site, fields.get(read[best].image.sop_instance_uid))
        if site == codes.LUNG and placed.outside > _MOST:
            outside.append(f"most of the evidence for {output.name.replace('_', ' ')} lies outside the lung fields")
        findings.append(Finding(
            name=output.name, code=output.code, presence=Presence.PRESENT if present else Presence.ABSENT,
            probability=float(np.clip(column[best], 0.0, 1.0)), threshold=output.threshold, site=site,
            laterality=placed.side, zone=placed.zone, sop_instance_uid=read[best].image.sop_instance_uid,
            urgency=output.urgency.value if output.urgency else "",
            outlines=drawn,
            by_image=tuple((r.image.sop_instance_uid, float(p)) for r, p in zip(read, column, strict=True)),
        ))
    return tuple(findings), outside


def _where(read: _Read, output: Output, site: Code, fields: LungFields | None) -> tuple[Placement, tuple[Outline, ...]]:
    """Return where the evidence peaks, and outlines of where it is strong.

    What lies along the lungs is placed, and outlined in and close to them only, where the lung fields are known.
    """
    evidence = read.evidence(output)
    if site not in _PLACED or fields is None:
        return _NOWHERE, outlines(evidence)
    return place(evidence, fields), outlines(evidence, fields.near)
