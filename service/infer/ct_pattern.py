"""Chest CT, slice by slice to the whole study: which pattern, if any."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.domain import codes
from service.domain.finding import Assessment, Finding, Presence
from service.domain.manifest import InvalidManifest, Manifest, Output
from service.domain.study import CtVolume
from service.errors import EngineUnavailable, Reason
from service.infer.networks import Networks, Run
from service.infer.presentation import Presentation
from service.infer.unfamiliar import require_familiar, unfamiliarity

_FEATURES = ("score", "logit_score")

Tensor = NDArray[np.float32]


def classify_ct(
    volume: CtVolume, engine: Networks, manifest: Manifest, to_tensor: Callable[[Tensor], Tensor],
    limitations: Sequence[str] = (), sop_instance_uids: Sequence[str] = (), lung: NDArray[np.int64] | None = None,
) -> Assessment:
    """Score the slices of a volume and put their scores together.

    The model's input `slices` is (n, 1, h, w), turned as a radiologist sees them; its output `probabilities` is (n, k).
    lung: (z,) voxels of lung in each slice; only those with enough are looked at, by the manifest's aggregate; None: all
    are. A class has the mean of its highest slices, "no finding" that of its lowest; "no finding" is present only when
    nothing else is. to_tensor: (n, y, x) float32 HU to (n, 1, h, w). sop_instance_uids: of the slices in order; a
    finding names its highest one.
    Raises: UnusableStudy(UNFAMILIAR_IMAGE); EngineUnavailable when the model fails or its output does not fit the
    manifest; InvalidManifest for a curve that cannot be used.
    """
    used = _with_lung(len(volume.hu), lung, manifest.aggregate.least_lung_share)
    scores = _scores(Presentation.of(volume.geometry).turn(volume.hu), used, engine, manifest, to_tensor)
    findings = _findings(scores, manifest, [sop_instance_uids[k] for k in used] if sop_instance_uids else [])
    return Assessment(bundle=engine.identity(manifest.name), findings=findings, limitations=tuple(limitations))


def mean_of_top(scores: NDArray[np.float64], share: float, lowest: bool = False) -> float:
    """Return the mean of the highest (or lowest) share of (n,) scores; at least one counts."""
    count = max(1, math.ceil(share * len(scores) - 1e-9))
    ordered = np.sort(scores)
    return float(np.mean(ordered[:count] if lowest else ordered[-count:]))


def class_probability(score: float, name: str, parameters: Mapping[str, Any]) -> float:
    """Return the probability of a class, 0..1, from its score over the study, 0..1.

    The manifest's `study_probability` table, or the table of the class's name in it, gives a logistic curve: intercept +
    slope * feature; the feature is "score" itself or "logit_score", its log-odds (clipped at `epsilon`, 0.0001 if not
    given). Without a table the score is the probability.
    Raises: InvalidManifest for an unknown feature or a number that is missing.
    """
    table = parameters.get("study_probability")
    curve = table.get(name, table if "slope" in table else None) if isinstance(table, Mapping) else None
    if not isinstance(curve, Mapping):
        return score
    feature = curve.get("feature", "score")
    if feature not in _FEATURES:
        raise InvalidManifest(f"study_probability.feature {feature!r} is unknown; accepted: {', '.join(_FEATURES)}")
    numbers = {"epsilon": 1e-4, **curve}
    for key in ("intercept", "slope", "epsilon"):
        if isinstance(numbers.get(key), bool) or not isinstance(numbers.get(key), int | float):
            raise InvalidManifest(f"study_probability.{key} must be a number, got {numbers.get(key)!r}")
    if feature == "logit_score":
        kept = min(max(score, numbers["epsilon"]), 1 - numbers["epsilon"])
        score = math.log(kept / (1 - kept))
    logit = numbers["intercept"] + numbers["slope"] * score
    return 1.0 / (1.0 + math.exp(-min(max(logit, -60.0), 60.0)))


def _with_lung(count: int, lung: NDArray[np.int64] | None, least_share: float) -> NDArray[np.intp]:
    """Return the numbers of the slices that show enough lung: a share of the slice that shows most."""
    if lung is None or not lung.any():
        return np.arange(count)
    return np.flatnonzero(lung >= max(1.0, least_share * float(lung.max())))


def _scores(
    hu: Tensor, used: NDArray[np.intp], engine: Networks, manifest: Manifest, to_tensor: Callable[[Tensor], Tensor],
) -> NDArray[np.float64]:
    """Return the scores of the used slices, (n, k), a few slices at a time on each thread of the engine."""
    classes = max(o.index for o in manifest.outputs) + 1
    batch = engine.batch(manifest.name)

    def score(run: Run, first: int) -> tuple[NDArray[Any], NDArray[np.float32]]:
        numbers = used[first:first + batch]
        tensors = run({"slices": to_tensor(np.ascontiguousarray(hu[numbers]))})
        found = tensors.get("probabilities")
        if found is None or found.shape != (len(numbers), classes) or not np.isfinite(found).all():
            raise EngineUnavailable(Reason.ENGINE_FAILED, f"the output of {manifest.name} does not fit its manifest")
        return found, unfamiliarity(tensors, manifest, len(numbers))

    parts = engine.spread(manifest.name, score, range(0, len(used), batch))
    require_familiar(np.concatenate([odd for _, odd in parts]), manifest)
    return np.concatenate([found for found, _ in parts]).astype(np.float64)


def _findings(scores: NDArray[np.float64], manifest: Manifest, uids: Sequence[str]) -> tuple[Finding, ...]:
    said = [o for o in manifest.outputs if o.code is not None]
    probability = {o.name: _probability(scores[:, o.index], o, manifest) for o in said}
    anything = any(probability[o.name] >= o.threshold for o in said if o.code != codes.NO_FINDING)
    findings = []
    for output in said:
        if output.code is None:
            continue
        normal = output.code == codes.NO_FINDING
        present = not anything if normal else probability[output.name] >= output.threshold
        column = scores[:, output.index]
        findings.append(Finding(
            name=output.name, code=output.code, presence=Presence.PRESENT if present else Presence.ABSENT,
            probability=probability[output.name], threshold=output.threshold,
            site=codes.SITES.get(output.code, codes.LUNG),
            sop_instance_uid=uids[int(column.argmin() if normal else column.argmax())] if uids else "",
            urgency=output.urgency.value if output.urgency else ""))
    return tuple(findings)


def _probability(column: NDArray[np.float64], output: Output, manifest: Manifest) -> float:
    score = mean_of_top(column, manifest.aggregate.share, lowest=output.code == codes.NO_FINDING)
    return class_probability(min(max(score, 0.0), 1.0), output.name, manifest.parameters)
