"""Calibration and thresholds from out-of-fold answers, for a stated operating point."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from torch.nn import functional

Array = NDArray[np.float64]
TINY = 1e-6


def logits_of(probabilities: Array, softmax: int) -> Array:
    """Return logits (n, k) that give these probabilities; those of the softmax up to a common number."""
    clipped = np.clip(probabilities, TINY, 1.0 - TINY)
    return np.hstack([np.log(clipped[:, :softmax]), np.log(clipped[:, softmax:] / (1.0 - clipped[:, softmax:]))])


def probabilities_from(logits: Array, softmax: int) -> Array:
    """Return the probabilities of logits (n, k): the first `softmax` exclude each other, the others stand alone."""
    raised = np.exp(logits[:, :softmax] - logits[:, :softmax].max(axis=1, keepdims=True, initial=-np.inf)) \
        if softmax else logits[:, :0]
    alone = 1.0 / (1.0 + np.exp(-logits[:, softmax:]))
    return np.hstack([raised / raised.sum(axis=1, keepdims=True) if softmax else raised, alone])


def calibration(
    logits: Array, labels: NDArray[np.int8], softmax: int, counted: NDArray[np.bool_],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return scale and offset (k,) that make `logits * scale + offset` most likely on the counted images.

    The softmax shares one scale and has an offset for each class; every other output has its own two (Platt).
    labels: (n, k), 1, 0, or -1 where not labelled; counted: (n,).
    """
    count = logits.shape[1]
    scale, offset = np.ones(count, np.float32), np.zeros(count, np.float32)
    if softmax:
        chosen = counted & (labels[:, :softmax] == 1).any(axis=1)
        truth = torch.from_numpy((labels[chosen, :softmax] == 1).argmax(axis=1))
        scale[:softmax], offset[:softmax] = _scaled(torch.from_numpy(logits[chosen, :softmax]), truth)
    for k in range(softmax, count):
        chosen = counted & (labels[:, k] >= 0)
        if 0 < labels[chosen, k].sum() < chosen.sum():
            curve = LogisticRegression(C=100.0).fit(logits[chosen, k:k + 1], labels[chosen, k])
            scale[k], offset[k] = max(float(curve.coef_[0, 0]), 0.05), float(curve.intercept_[0])
    return scale, offset


def _scaled(logits: torch.Tensor, truth: torch.Tensor) -> tuple[float, NDArray[np.float64]]:
    parameters = torch.zeros(1 + logits.shape[1], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([parameters], max_iter=200)

    def closure() -> torch.Tensor:
        """Return the loss, with its slope."""
        optimizer.zero_grad()
        loss = functional.cross_entropy(logits * parameters[0].exp() + parameters[1:], truth)
        loss = loss + 1e-4 * parameters[1:].square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    found = parameters.detach().numpy()
    return float(np.exp(found[0])), found[1:]


def thresholds(
    probabilities: Array, labels: NDArray[np.int8], sources: NDArray[np.str_], names: Sequence[str],
    points: Mapping[str, Mapping[str, Any]],
) -> dict[str, float]:
    """Return the threshold of each output that has an operating point, in steps of 0.001.

    A point names `sensitivity` (so many of the positives reach it), `specificity` (so many of the negatives do not), or
    both: then the higher of the two thresholds; `sources`: where that is counted, everywhere if not given.
    """
    found = {}
    for k, name in enumerate(names):
        point = points.get(name)
        if point is None:
            continue
        counted = np.isin(sources, point["sources"]) if "sources" in point else np.ones(len(sources), bool)
        limits = []
        if "sensitivity" in point:
            scores = probabilities[counted & (labels[:, k] == 1), k]
            limits.append(np.floor(np.quantile(scores, 1.0 - point["sensitivity"], method="lower") * 1000) / 1000)
        if "specificity" in point:
            scores = probabilities[counted & (labels[:, k] == 0), k]
            limits.append(np.ceil(np.quantile(scores, point["specificity"], method="higher") * 1000 + 1) / 1000)
        found[name] = float(np.clip(max(limits), 0.001, 0.999))
    return found
