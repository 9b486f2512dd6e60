"""Is this a radiograph that a model may read? The gate before all other radiograph bundles."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.domain.manifest import Gate, Manifest
from service.domain.study import RadiographImage
from service.errors import EngineUnavailable, Reason, UnusableStudy
from service.infer.networks import Networks
from service.infer.unfamiliar import require_familiar, unfamiliarity

_REASONS = {
    "frontal": Reason.NOT_A_FRONTAL_CHEST, "other": Reason.NOT_A_FRONTAL_CHEST, "lateral": Reason.LATERAL_VIEW,
    "inverted": Reason.IMAGE_INVERTED, "rotated_90": Reason.ROTATED_IMAGE, "rotated_180": Reason.ROTATED_IMAGE,
    "rotated_270": Reason.ROTATED_IMAGE, "clipped": Reason.IMAGE_CLIPPED, "child": Reason.IMAGE_OF_A_CHILD,
}
_NOTES = {
    "inverted": "the image may be inverted", "clipped": "a part of the lungs may be cut off by the edge of the image",
    "child": "the image looks like that of a child", "lateral": "the image may be a lateral view",
    "other": "the image may not be a frontal chest radiograph",
    **dict.fromkeys(("rotated_90", "rotated_180", "rotated_270"), "the image may be rotated"),
}

CHILD = "child"
"""The output of a gate that tells the radiograph of a child."""


@dataclass(frozen=True)
class Judged:
    """What a gate said of an image that may be read: limitations in words, and the outputs over their thresholds."""

    notes: tuple[str, ...] = ()
    over: frozenset[str] = frozenset()


def judge(
    image: RadiographImage, engine: Networks, manifest: Manifest,
    to_tensor: Callable[[NDArray[np.float32]], NDArray[np.float32]],
) -> Judged:
    """Let a quality bundle look at one radiograph.

    The model's input `image` is (1, channels, h, w); its output `probabilities` is (1, k), each in 0..1. to_tensor: from
    (y, x) float32 in 0..1. What a score does is the manifest's gate; of several refusals the most certain is named, and
    a class that is there before one that is missing.
    Raises: UnusableStudy with the reason of the refusal; EngineUnavailable when the output does not fit the manifest.
    """
    tensors = engine.run(manifest.name, {"image": to_tensor(image.exposed)})
    scores, count = tensors.get("probabilities"), max(o.index for o in manifest.outputs) + 1
    if scores is None or scores.shape != (1, count) or not np.isfinite(scores).all():
        raise EngineUnavailable(Reason.ENGINE_FAILED, f"the output of {manifest.name} does not fit its manifest")
    require_familiar(unfamiliarity(tensors, manifest, 1), manifest)
    notes: list[str] = []
    above: set[str] = set()
    refusals: list[tuple[bool, float, Reason, str]] = []
    for output in manifest.outputs:
        rule, score = manifest.gate.get(output.name), float(scores[0, output.index])
        over, said = score >= output.threshold, f"score {score:.2f}"
        reason = _REASONS.get(output.name, Reason.UNSUITABLE_IMAGE)
        above |= {output.name} if over else set()
        if rule is Gate.REFUSE and over:
            refusals.append((True, score, reason, f"{output.name}: {said}, accepted: below {output.threshold:g}"))
        elif rule is Gate.REQUIRE and not over:
            refusals.append((False, score, reason, f"{output.name}: {said}, accepted: at least {output.threshold:g}"))
        elif rule is Gate.NOTE and over:
            notes.append(f"{_NOTES.get(output.name, output.name)} ({said})")
    if refusals:
        _, _, reason, detail = max(refusals, key=lambda r: r[:2])
        raise UnusableStudy(reason, f"{detail} ({manifest.name})")
    return Judged(tuple(notes), frozenset(above))
