"""Two bundles on the same images: figures side by side, paired differences, agreement, and speed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from models.evaluation.bootstrap import Resampler, difference, kappa
from models.evaluation.bundles import Network
from models.evaluation.ct_scores import CtScores
from models.evaluation.cxr_scores import CxrScores, by_index
from models.evaluation.evaluate import Request, Scores, Tick, gather, images_of, notes_on, questions_of, score
from models.evaluation.figures import Figure, Question, answer
from models.evaluation.problems import Problems
from models.evaluation.show import interval, show_problems
from service import DISCLAIMER
from service.domain.manifest import InvalidManifest, Manifest

ROUNDS = 20


@dataclass(frozen=True)
class Pair:
    """One figure of both bundles and their difference, a minus b."""

    part: str
    subset: str
    name: str
    of: str
    a: float
    b: float
    difference: float
    low: float | None
    high: float | None
    n: int
    groups: int


@dataclass
class Comparison:
    """Everything that two bundles were compared by; latency: milliseconds of one image, in turns."""

    manifests: tuple[Manifest, Manifest]
    request: Request
    images: int
    figures: list[Pair]
    agreement: list[Figure]
    only_in_one: list[str]
    latency: dict[str, float]
    problems: Problems
    notes: list[str]

    def as_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "notice": DISCLAIMER,
            "bundles": [{"name": m.name, "version": m.version, "sha256": m.sha256} for m in self.manifests],
            "data": {"folder": self.request.data.name, "absent": self.problems.absent, "images": self.images,
                     "limit": self.request.limit},
            "seed": self.request.seed, "resamples": self.request.resamples, "notes": self.notes,
            "figures": [asdict(p) for p in self.figures], "agreement": [f.as_json() for f in self.agreement],
            "only_in_one": self.only_in_one, "latency": self.latency,
            "skipped": {"count": len(self.problems.rows),
                        "rows": [{"what": what, "why": why} for what, why in self.problems.rows]},
        }


def compare(
    one: Manifest, other: Manifest, request: Request, tick: Callable[[int], Tick] = lambda _: lambda: None,
    each: Callable[[Sequence[Question]], Iterable[Question]] = iter, threads: int = 0,
) -> Comparison:
    """Measure two bundles of one task on the same images; both are drawn again alike, so differences are paired.

    Raises: InvalidManifest when the tasks differ; EngineUnavailable.
    """
    if one.task != other.task:
        raise InvalidManifest(f"{one.name} is for {one.task}, {other.name} for {other.task}: nothing to compare")
    problems, networks = Problems(), (Network(one, threads), Network(other, threads))
    images = gather(one, request, problems)
    again = images if one.task == "ct-segmentation" else gather(other, request, Problems())
    by_name = {i.name: i for i in again}
    images = [i for i in images if i.name in by_name]
    advance = tick(2 * len(images))
    a = score(networks[0], images, problems, advance)
    b = score(networks[1], [by_name[i.name] for i in images], Problems(), advance)
    if [i.name for i in images_of(a)] != [i.name for i in images_of(b)]:
        raise InvalidManifest(f"{one.name} and {other.name} could not read the same images")
    resampler = Resampler(request.seed, request.resamples)
    pairs, alone = paired(questions_of(a), questions_of(b), resampler, each)
    notes = ["Images that either bundle was trained on may be among these.", *notes_on(one, request, a)[1:],
             "Difference: first bundle minus second, on the same resamples."]
    return Comparison((one, other), request, len(images_of(a)), pairs, answer(agreement(a, b), resampler), alone,
                      latency(networks, _example(one)), problems, notes)


def paired(
    first: Sequence[Question], second: Sequence[Question], resampler: Resampler,
    each: Callable[[Sequence[Question]], Iterable[Question]] = iter,
) -> tuple[list[Pair], list[str]]:
    """Answer the questions that both are asked of the same images, and name those that only one is asked."""
    others = {q.key: q for q in second if len(q.places)}
    pairs, seen, alone = [], set(), []
    for question in each(first):
        twin = others.get(question.key)
        if twin is None or not np.array_equal(twin.places, question.places):
            alone += [_named(question)] if len(question.places) else []
            continue
        seen.add(question.key)
        found = resampler.estimate(difference(question.estimator, twin.estimator), question.groups)
        if found is not None:
            ones = np.ones((1, len(question.places)))
            pairs.append(Pair(*question.key, float(question.estimator(ones)[0]), float(twin.estimator(ones)[0]),
                              found.value, found.low, found.high, len(question.places), len(np.unique(question.groups))))
    alone += [_named(q) for key, q in others.items() if key not in seen and _named(q) not in alone]
    return pairs, alone


def agreement(a: Scores, b: Scores) -> list[Question]:
    """Ask for Cohen's kappa of both bundles' answers at their thresholds, for the outputs that both have."""
    everything = np.arange(len(images_of(a)))
    questions = []
    for of, (one, other) in _answers(a, b).items():
        questions.append(Question("agreement", "all", "kappa", of, kappa(one, other), everything, a.groups))
    return questions


def latency(networks: tuple[Network, Network], tensor: NDArray[np.float32] | None) -> dict[str, float]:
    """Time both networks in turns on one input: the median of each, milliseconds, and the ratio a / b."""
    if tensor is None:
        return {}
    for network in networks:
        network.run(tensor)
    times = np.array([[network.seconds(tensor) for network in networks] for _ in range(ROUNDS)]) * 1000.0
    a, b = np.median(times, axis=0)
    return {"a_ms": float(a), "b_ms": float(b), "ratio": float(a / b)}


def show_comparison(console: Console, found: Comparison) -> None:
    """Print both bundles' figures side by side."""
    for letter, m in zip("ab", found.manifests, strict=True):
        console.print(f"{letter}: [bold]{escape(m.name)}[/bold] {escape(m.version)}, {m.sha256[:12]}")
    table = Table("part", "of", "figure", "a", "b", "a - b", "95 % interval", "n")
    for p in found.figures:
        table.add_row(p.part, escape(p.subset), escape(f"{p.name} {p.of}".strip()), f"{p.a:.3f}", f"{p.b:.3f}",
                      f"{p.difference:+.3f}", interval(p.low, p.high), str(p.n))
    console.print(table)
    for f in found.agreement:
        console.print(f"kappa, {escape(f.of)}: {f.value:.3f} ({interval(f.low, f.high)}), n {f.n}")
    if found.latency:
        console.print("one image, median: a {a_ms:.1f} ms, b {b_ms:.1f} ms, a / b {ratio:.2f}".format(**found.latency))
    for name in found.only_in_one:
        console.print(f"not asked of both on the same images: {escape(name)}")
    show_problems(console, found.problems)
    for note in found.notes:
        console.print(f"- {escape(note)}")
    console.print(DISCLAIMER)


def _answers(a: Scores, b: Scores) -> dict[str, tuple[NDArray[Any], NDArray[Any]]]:
    if isinstance(a, CxrScores) and isinstance(b, CxrScores):
        places = [{o.name: o.index for o in by_index(s.manifest)} for s in (a, b)]
        names = [n for n, k in places[0].items() if n in places[1] and k in a.abnormal]
        found = {f"{n} over its threshold": (a.flagged[:, places[0][n]], b.flagged[:, places[1][n]]) for n in names}
        classes = [np.array([o.name for o in by_index(s.manifest)])[s.probabilities.argmax(axis=1)] for s in (a, b)]
        return {**found, "most probable class": (classes[0], classes[1])} if len(a.images) else {}
    if isinstance(a, CtScores) and isinstance(b, CtScores) and len(a.slices):
        one, other = a.flagged, b.flagged
        if one is not None and other is not None:
            return {"slice over the threshold": (one, other)}
        return {"any infection in the slice": (a.fraction > 0, b.fraction > 0)}
    return {}


def _example(manifest: Manifest) -> NDArray[np.float32] | None:
    p = manifest.parameters
    sizes = (p.get("side_px"), p.get("side_px")) if "side_px" in p else (p.get("rows_px"), p.get("columns_px"))
    rows, columns = (size if isinstance(size, int) else 224 for size in sizes)
    return np.random.default_rng(0).random((1, 1, rows, columns), dtype=np.float32)


def _named(question: Question) -> str:
    return ", ".join(part for part in question.key if part)
