"""Two bundles on the same images: figures side by side, paired differences, agreement, and speed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from models.evaluation import tasks
from models.evaluation.bootstrap import Resampler, difference, kappa
from models.evaluation.bundles import Network, with_file
from models.evaluation.class_scores import ClassScores, by_index
from models.evaluation.ct_scores import CtScores
from models.evaluation.evaluate import Request, Tick, found, limited, notes_on
from models.evaluation.figures import Figure, Question, answer
from models.evaluation.gate_scores import stopped
from models.evaluation.held_out import FILE, held_out_of
from models.evaluation.problems import Problems
from models.evaluation.show import interval, show_problems
from models.evaluation.tasks import Scores
from service import DISCLAIMER
from service.domain.manifest import InvalidManifest, Manifest, read_manifest
from service.domain.variant import Variant

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
    variants: tuple[Variant, Variant]
    request: Request
    images: int
    figures: list[Pair]
    agreement: list[Figure]
    only_in_one: list[str]
    latency: dict[str, Any]
    problems: Problems
    notes: list[str]

    def as_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "notice": DISCLAIMER,
            "bundles": [{"name": m.name, "version": m.version, "precision": v.precision.value, "sha256": v.sha256}
                        for m, v in zip(self.manifests, self.variants, strict=True)],
            "data": {"folder": self.request.data.name, "absent": self.problems.absent, "images": self.images,
                     "held_out_only": self.request.held_out, "limit": self.request.limit},
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
    problems, measure = Problems(), tasks.of(one)
    networks = Network(one, threads), Network(other, threads)
    images, notes = _of_both(one, other, request, problems)
    mine, yours = (measure.expand(i, request.data, m, request.seed) for i, m in zip(images, (one, other), strict=True))
    advance = tick(len(mine) + len(yours))
    a = measure.score(networks[0], mine, problems, advance)
    b = measure.score(networks[1], yours, Problems(), advance)
    if a.names != b.names:
        raise InvalidManifest(f"{one.name} and {other.name} could not read the same images")
    resampler = Resampler(request.seed, request.resamples)
    pairs, alone = paired(measure.questions(a), measure.questions(b), resampler, each)
    notes = [*notes, *notes_on(one, request, a)[1:],
             "Difference: first bundle minus second, on the same resamples."]
    return Comparison((one, other), (networks[0].variant, networks[1].variant), request, len(a.names), pairs,
                      answer(agreement(a, b), resampler), alone, latency(networks, threads), problems, notes)


def _of_both(
    one: Manifest, other: Manifest, request: Request, problems: Problems,
) -> tuple[tuple[list[Any], list[Any]], list[str]]:
    """List the same images for each bundle, with its own labels; held out by both of them where that is asked for.

    Raises: CannotTell when neither bundle says what it was trained on.
    """
    notes, asked = [], []
    silent = [m for m in (one, other) if request.held_out and not (m.folder / FILE).is_file()]
    if len(silent) == 2:
        held_out_of(one)
    for manifest in (one, other):
        wanted = replace(request, held_out=False) if manifest in silent else request
        asked.append({i.name: i for i in found(manifest, wanted, problems if manifest is one else Problems())})
    if silent:
        notes.append(f"{silent[0].name} has no {FILE}: it may have been trained on these images.")
    elif request.held_out:
        notes.append("Images that neither bundle was trained on; thresholds may have been chosen with them.")
    else:
        notes.append("Images that either bundle was trained on may be among these.")
    names = [i.name for i in limited([i for name, i in asked[0].items() if name in asked[1]], request)]
    return ([asked[0][n] for n in names], [asked[1][n] for n in names]), notes


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
    everything = np.arange(len(a.names))
    questions = []
    for of, (one, other) in _answers(a, b).items():
        questions.append(Question("agreement", "all", "kappa", of, kappa(one, other), everything, a.groups))
    return questions


def latency(networks: tuple[Network, Network], threads: int = 0) -> dict[str, Any]:
    """Time both networks in turns on one input: the median of each, milliseconds, and the ratio a / b.

    `files_ms` has every ONNX file of both bundles, timed in the same turns.
    """
    others = {}
    for letter, manifest in zip("ab", (read_manifest(n.manifest.folder) for n in networks), strict=True):
        for variant in manifest.variants:
            one_file = Network(with_file(manifest, variant), threads)
            others[f"{letter}, {manifest.name}:{variant.precision}"] = one_file, example(manifest)
    runs = [*((n, example(n.manifest)) for n in networks), *others.values()]
    for network, tensor in runs:
        network.run(tensor)
    times = np.array([[network.seconds(tensor) for network, tensor in runs] for _ in range(ROUNDS)]) * 1000.0
    a, b, *rest = (float(t) for t in np.median(times, axis=0))
    return {"a_ms": a, "b_ms": b, "ratio": a / b, "files_ms": dict(zip(others, rest, strict=True))}


def example(manifest: Manifest) -> NDArray[np.float32]:
    """Return noise of the size that a bundle reads: (1, 1, h, w); 224 where its size is free."""
    p = manifest.parameters
    sizes = (p.get("side_px"), p.get("side_px")) if "side_px" in p else (p.get("rows_px"), p.get("columns_px"))
    rows, columns = (size if isinstance(size, int) else 224 for size in sizes)
    return np.random.default_rng(0).random((1, 1, rows, columns), dtype=np.float32)


def show_comparison(console: Console, found: Comparison) -> None:
    """Print both bundles' figures side by side."""
    for letter, m, v in zip("ab", found.manifests, found.variants, strict=True):
        console.print(f"{letter}: [bold]{escape(m.name)}[/bold] {escape(m.version)}, {v.precision} {v.sha256[:12]}")
    table = Table("part", "of", "figure", "a", "b", "a - b", "95 % interval", "n")
    for p in found.figures:
        table.add_row(p.part, escape(p.subset), escape(f"{p.name} {p.of}".strip()), f"{p.a:.3f}", f"{p.b:.3f}",
                      f"{p.difference:+.3f}", interval(p.low, p.high), str(p.n))
    console.print(table)
    for f in found.agreement:
        console.print(f"kappa, {escape(f.of)}: {f.value:.3f} ({interval(f.low, f.high)}), n {f.n}")
    console.print("one image, median: a {a_ms:.1f} ms, b {b_ms:.1f} ms, a / b {ratio:.2f}".format(**found.latency))
    for name, milliseconds in found.latency["files_ms"].items():
        console.print(f"  {escape(name)}: {milliseconds:.1f} ms")
    for name in found.only_in_one:
        console.print(f"not asked of both on the same images: {escape(name)}")
    show_problems(console, found.problems)
    for note in found.notes:
        console.print(f"- {escape(note)}")
    console.print(DISCLAIMER)


def _answers(a: Scores, b: Scores) -> dict[str, tuple[NDArray[Any], NDArray[Any]]]:
    if not a.names:
        return {}
    if isinstance(a, ClassScores) and isinstance(b, ClassScores):
        return _class_answers(a, b)
    if isinstance(a, CtScores) and isinstance(b, CtScores):
        one, other = a.flagged, b.flagged
        if one is not None and other is not None:
            return {"slice over the threshold": (one, other)}
        return {"any infection in the slice": (a.fraction > 0, b.fraction > 0)}
    return {}


def _class_answers(a: ClassScores, b: ClassScores) -> dict[str, tuple[NDArray[Any], NDArray[Any]]]:
    if a.manifest.task == "cxr-quality":
        return {"stopped": (stopped(a), stopped(b))}
    places = [{o.name: o.index for o in by_index(s.manifest)} for s in (a, b)]
    names = [n for n, k in places[0].items() if n in places[1] and k in a.abnormal]
    answers = {f"{n} over its threshold": (a.flagged[:, places[0][n]], b.flagged[:, places[1][n]]) for n in names}
    if a.independent or b.independent:
        return answers
    one, other = (np.array([o.name for o in by_index(s.manifest)])[s.probabilities.argmax(axis=1)] for s in (a, b))
    return {**answers, "most probable class": (one, other)}


def _named(question: Question) -> str:
    return ", ".join(part for part in question.key if part)
