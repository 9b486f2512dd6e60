"""`python -m models.evaluation evaluate | compare | import | card | reference`, as `firstlook models` calls it."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import cv2
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from models.evaluation.bundles import find_bundle, with_file
from models.evaluation.compare import compare, show_comparison
from models.evaluation.evaluate import Request, evaluate
from models.evaluation.held_out import CannotTell
from models.evaluation.recard import recard
from models.evaluation.reference import added, reference_of, write_reference
from models.evaluation.score_table import InvalidTable, table_from
from models.evaluation.show import show, write_out
from models.evaluation.take_in import Refused, take_in
from service import DISCLAIMER
from service.domain.manifest import InvalidManifest, Manifest
from service.errors import FirstlookError

OF_FILE = "; :fp32, :int8 or :fp16 after it asks for one of its files"


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns 0 well, 1 something is wrong, 2 wrong usage."""
    asked = _parser().parse_args(arguments)
    cv2.setNumThreads(1)
    run: Callable[[argparse.Namespace], int] = asked.run
    try:
        return run(asked)
    except (InvalidManifest, InvalidTable, CannotTell) as error:
        print(f"firstlook: {error}", file=sys.stderr)  # noqa: T201
        return 2
    except (FirstlookError, Refused, OSError) as error:
        print(f"firstlook: {error}", file=sys.stderr)  # noqa: T201
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="firstlook models", description=__doc__, epilog=DISCLAIMER)
    parser.add_argument("--models", type=Path, default=Path(__file__).parents[1], help=argparse.SUPPRESS)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    one = commands.add_parser("evaluate", help="measure a bundle on a data folder", epilog=DISCLAIMER)
    one.add_argument("bundle", help=f"name, or path of its folder{OF_FILE}")
    _with_data(one)
    one.add_argument("--out", type=Path, metavar="FOLDER", help="also write the figures and the scores of every image")
    one.set_defaults(run=_evaluate)
    two = commands.add_parser("compare", help="measure two bundles, or the files of one, on the same images",
                              epilog=DISCLAIMER)
    two.add_argument("bundles", nargs="+", metavar="BUNDLE", help=f"two of them; name, or path of its folder{OF_FILE}. One "
                     "alone: its model.onnx with each of its other files")
    _with_data(two)
    two.set_defaults(run=_compare)
    new = commands.add_parser("import", help="make a bundle from somebody's model, a recipe and an input", epilog=DISCLAIMER)
    new.add_argument("model", type=Path, metavar="MODEL", help="an ONNX file, a MONAI bundle's folder or zip, or the state "
                     "dict of a TorchXRayVision DenseNet-121 (.pt)")
    new.add_argument("--recipe", type=Path, required=True, help="TOML file: what the manifest will say")
    new.add_argument("--golden", type=Path, required=True, metavar="INPUT.npz", help="`hu` (1, y, x) or `grey` (y, x)")
    new.add_argument("--out", type=Path, required=True, metavar="models/NAME", help="the bundle's folder; must not exist")
    new.set_defaults(run=_import)
    card = commands.add_parser("card", help="write the card again, draw its plots", epilog=DISCLAIMER)
    card.add_argument("bundle")
    plots = card.add_mutually_exclusive_group()
    plots.add_argument("--scores", type=Path, metavar="FILE", help="draw its plots from a table of scores, .npz or .json")
    plots.add_argument("--data", type=Path, metavar="DIR", help="draw its plots from the held-out images of a data folder")
    card.set_defaults(run=lambda a: recard(find_bundle(a.bundle, a.models), a.scores, a.data))
    fixed = commands.add_parser("reference", help="write what drift is measured against into a bundle", epilog=DISCLAIMER)
    fixed.add_argument("bundle", help="name, or path of its folder")
    fixed.add_argument("--data", type=Path, required=True, metavar="DIR", help="laid out as models/README.md says")
    fixed.add_argument("--scores", type=Path, metavar="FILE", help="out-of-fold answers of a bundle that was trained on "
                       "all of the data, .npz or .json")
    fixed.add_argument("--add", action="store_true", help="keep the measures that the reference has, add the others")
    fixed.add_argument("--limit", type=_count, default=0, metavar="N", help="at most N images of each part, by the seed")
    fixed.add_argument("--seed", type=_count, default=0, help="of the draw (0)")
    fixed.add_argument("--threads", type=_count, default=0, help="CPU threads, 0 for all cores")
    fixed.set_defaults(run=_reference)
    return parser


def _with_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="laid out as models/README.md says")
    parser.add_argument("--held-out", action="store_true", help="only what was not trained on, see held_out.json")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output, nothing else there")
    parser.add_argument("--limit", type=_count, default=0, metavar="N", help="at most N images of each part, by the seed")
    parser.add_argument("--seed", type=_count, default=0, help="of the draw and of the intervals (0)")
    parser.add_argument("--resamples", type=_count, default=1000, help="for the intervals (1000)")
    parser.add_argument("--threads", type=_count, default=0, help="CPU threads, 0 for all cores")


def _reference(asked: argparse.Namespace) -> int:
    manifest = find_bundle(asked.bundle, asked.models)
    if not asked.data.is_dir():
        raise InvalidManifest(f"--data {asked.data}: no such folder")
    scores = table_from(asked.scores) if asked.scores else None
    with _progress() as bars:
        made = reference_of(manifest, Request(asked.data.resolve(), asked.limit, asked.seed), scores, _ticks(bars),
                            asked.threads)
    if asked.add:
        made = added(manifest, made)
    path = write_reference(manifest, made)
    told = "held out" if made.held_out else ("not held out: the bundle was trained on them, so its scores are surer than "
                                             "in service; give out-of-fold answers with --scores")
    Console().print(f"{path}: {len(made.bins)} measures of {made.images} images, {told}", markup=False, soft_wrap=True)
    return 0


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number, 0 or more")
    return int(text)


def _request(asked: argparse.Namespace) -> Request:
    if not asked.data.is_dir():
        raise InvalidManifest(f"--data {asked.data}: no such folder")
    return Request(asked.data.resolve(), asked.limit, asked.seed, max(asked.resamples, 1), asked.held_out)


def _evaluate(asked: argparse.Namespace) -> int:
    manifest = find_bundle(asked.bundle, asked.models)
    with _progress() as bars:
        found = evaluate(manifest, _request(asked), _ticks(bars), _each(bars), asked.threads)
    if asked.json:
        _write_json(found.as_json())
    else:
        show(Console(), found)
    if asked.out:
        write_out(asked.out, found)
    return 0 if found.figures else 1


def _compare(asked: argparse.Namespace) -> int:
    pairs = _pairs([find_bundle(name, asked.models) for name in asked.bundles])
    with _progress() as bars:
        found = [compare(one, other, _request(asked), _ticks(bars), _each(bars), asked.threads) for one, other in pairs]
    if asked.json:
        _write_json(found[0].as_json() if len(found) == 1 else {"comparisons": [f.as_json() for f in found]})
    else:
        for pair in found:
            show_comparison(Console(), pair)
    return 0 if all(f.figures for f in found) else 1


def _pairs(bundles: list[Manifest]) -> list[tuple[Manifest, Manifest]]:
    """Return what is compared with what; one bundle alone: model.onnx with each of its other ONNX files."""
    if len(bundles) == 2:
        return [(bundles[0], bundles[1])]
    plain = bundles[0]
    if len(bundles) > 2 or not plain.others:
        raise InvalidManifest("compare takes two bundles, or one with several ONNX files"
                              + (f"; {plain.name} has model.onnx only" if len(bundles) == 1 else ""))
    return [(with_file(plain, plain.variants[0]), with_file(plain, variant)) for variant in plain.others]


def _import(asked: argparse.Namespace) -> int:
    wrong = take_in(asked.model, asked.recipe, asked.golden, asked.out)
    said = f"made {asked.out}" if not wrong else f"{asked.out} was made, but: {'; '.join(wrong)}"
    Console().print(said, markup=False, soft_wrap=True)
    return 1 if wrong else 0


def _write_json(value: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(value, indent=1, allow_nan=False) + "\n")


def _progress() -> Progress:
    return Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
                    console=Console(stderr=True), transient=True)


def _ticks(bars: Progress) -> Callable[[int], Callable[[], None]]:
    def start(total: int) -> Callable[[], None]:
        bar = bars.add_task("images", total=total)
        return lambda: bars.advance(bar)

    return start


def _each(bars: Progress) -> Callable[[Sequence[Any]], Iterable[Any]]:
    return lambda questions: bars.track(questions, description="intervals")


if __name__ == "__main__":
    sys.exit(main())
