"""`firstlook models ...`: list and verify here; what measures and trains lives in models/ and is run from there."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

from rich.console import Console
from rich.table import Table

from service import DISCLAIMER
from service.domain.shadow import Beside, beside
from service.drift_cli import add_drift
from service.infer.catalogue import Catalogue
from service.retrain_cli import add_retrain
from service.settings import Settings, load
from service.store.activations import BESIDE
from service.store.database import Database
from service.store.shadows import looks_beside
from service.switch_cli import add_switch
from service.switching import KINDS, in_use_anyway
from service.verify import verify

_EPILOG = f"""
examples:
  firstlook models verify                                     every bundle: whole, and answering as it did
  firstlook models evaluate cxr-pattern --data DIR            its figures on your data, with intervals
  firstlook models compare cxr-pattern NEW --data DIR         two bundles on the same images
  firstlook models optimise cxr-pattern --data DIR            int8 for the CPU, fp16 for a GPU, where the figures hold
  firstlook models compare cxr-pattern:fp32 cxr-pattern:int8 --data DIR
  firstlook models train cxr-pattern --data DIR --out RUN --fold 0 --fold all
  firstlook models export cxr-pattern --run RUN --data DIR    writes the whole bundle
  firstlook models activate cxr NEW cxr-findings              from now on these read radiographs; rollback undoes it
  firstlook models reference cxr-pattern --data DIR           what drift is measured against; firstlook models drift
  firstlook models shadow                                     a bundle beside the active ones: agreement, shift, seconds
  firstlook models import NET.onnx --recipe R.toml --golden IN.npz --out models/NAME

{DISCLAIMER}
"""
_MEASURING = {
    "evaluate": "measure a bundle on a data folder: figures with intervals, by source and subgroup",
    "compare": "two bundles, or the files of one, on the same images: paired differences, agreement, speed",
    "import": "make a bundle from an ONNX file, a MONAI bundle or TorchXRayVision weights, with a recipe",
    "reference": "write what drift is measured against into a bundle, from its held-out images",
    "card": "write a bundle's card again, from its recipe and its figures, and draw its plots",
}
_OPTIMISING = {"optimise": "an int8 and a fp16 file, adopted where the figures hold"}
_TRAINING = {"train": "train a bundle's network", "export": "turn a run into a bundle, with the figures of its folds"}
_NO_PREFIX = "\0"  # no argument is an option here: all are passed on


def add_models(parser: argparse.ArgumentParser) -> None:
    """Add the commands to `firstlook models`. Every one takes --settings FILE, which says where the bundles are."""
    parser.formatter_class, parser.epilog = argparse.RawDescriptionHelpFormatter, _EPILOG
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    listed = _with_settings(commands.add_parser("list", help="every bundle: version, task, digest, where it runs"))
    listed.set_defaults(run=_list)
    told = "what bundles said beside the active ones, compared"
    shadowed = _with_settings(commands.add_parser("shadow", help=told, description=told))
    shadowed.add_argument("--days", type=float, default=0.0, metavar="N", help="only looks of the last N days; else all")
    shadowed.add_argument("--json", action="store_true", help="as JSON")
    shadowed.set_defaults(run=_shadow)
    add_drift(commands, _with_settings)
    add_retrain(commands, _with_settings)
    add_switch(commands, _with_settings)
    told = "is each bundle whole? manifest, checksum, shapes, golden cases, card"
    checked = _with_settings(commands.add_parser("verify", help=told, description=told))
    checked.add_argument("names", nargs="*", metavar="NAME", help="a bundle, or the path of its folder; none: all")
    checked.set_defaults(run=_verify)
    for table, run in ((_MEASURING, _measure), (_OPTIMISING, _optimise), (_TRAINING, _train)):
        for name, words in table.items():
            passed = commands.add_parser(name, help=words, add_help=False, prefix_chars=_NO_PREFIX)
            passed.add_argument("rest", nargs=argparse.REMAINDER)
            passed.set_defaults(run=_passing(run, name))


def _with_settings(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    default = os.environ.get("FIRSTLOOK_SETTINGS")
    parser.add_argument("--settings", type=Path, default=Path(default) if default else None, metavar="FILE",
                        help="TOML file; `firstlook settings` prints one with every default")
    return parser


def _list(asked: argparse.Namespace) -> int:
    settings = load(asked.settings)
    table = Table("bundle", "version", "task", "digest", "active", "title", caption=DISCLAIMER)
    used = in_use_anyway(settings)
    active = {name for kind in KINDS for name in used[kind]}
    active |= {settings.infer.cxr_gate, settings.infer.cxr_lungs}
    shadows = used[BESIDE]
    for manifest in Catalogue.load(settings.infer.models_dir):
        table.add_row(manifest.name, manifest.version, manifest.task, manifest.sha256[:12],
                      "yes" if manifest.name in active else "shadow" if manifest.name in shadows else "",
                      manifest.title)
    Console().print(table)
    return 0


def _shadow(asked: argparse.Namespace) -> int:
    database = Database(load(asked.settings).database_url)
    try:
        with database.reading() as session:
            found = beside(looks_beside(session, time.time() - asked.days * 86400 if asked.days else 0.0))
    finally:
        database.close()
    if asked.json:
        print(json.dumps([asdict(one) for one in found], indent=2))  # noqa: T201
        return 0
    for one in found:
        _show_beside(one)
    if not found:
        print("no bundle has looked beside the active ones: firstlook models beside NAME lets one")  # noqa: T201
    return 0


def _show_beside(one: Beside) -> None:
    title = (f"{one.bundle} {one.version}, {one.digest[:12]}: {one.looks} studies, {one.refused} not read, "
             f"median {one.seconds:.2f} s a look")
    table = Table("finding", "studies", "agree (95 %)", "both", "neither", "only active", "only shadow", "mean shift",
                  "largest", title=title, caption=DISCLAIMER)
    for a in one.findings:
        low, high = a.interval
        table.add_row(a.finding, str(a.studies), f"{a.share:.3f} ({low:.3f} to {high:.3f})", str(a.both), str(a.neither),
                      str(a.only_active), str(a.only_shadow), f"{a.shift:+.3f}", f"{a.largest_shift:+.3f}")
    console = Console()
    console.print(table)
    if one.measurements:
        table = Table("measurement", "unit", "studies", "mean difference", "limits of agreement")
        for m in one.measurements:
            table.add_row(m.measurement, m.unit, str(m.studies), f"{m.mean:+.3f}", f"{m.low:+.3f} to {m.high:+.3f}")
        console.print(table)


def _verify(asked: argparse.Namespace) -> int:
    models_dir = load(asked.settings).infer.models_dir
    folders = [_folder(name, models_dir) for name in asked.names]
    folders = folders or sorted(path.parent for path in models_dir.glob("*/manifest.toml"))
    if not folders:
        print(f"firstlook: no bundle in {models_dir}", file=sys.stderr)  # noqa: T201
        return 1
    found = [verify(folder) for folder in folders]
    for one in found:
        said = "; ".join(" ".join(p.split()) for p in one.problems) or one.detail
        print(f"{'FAIL' if one.problems else 'ok  '}  {one.name:<20} {said}")  # noqa: T201
    return 1 if any(one.problems for one in found) else 0


def _folder(name: str, models_dir: Path) -> Path:
    return Path(name).resolve() if (Path(name) / "manifest.toml").is_file() else (models_dir / name).resolve()


def _passing(run: Callable[[Settings, str, list[str]], int], name: str) -> Callable[[argparse.Namespace], int]:
    def passed(asked: argparse.Namespace) -> int:
        own = _with_settings(argparse.ArgumentParser(add_help=False, allow_abbrev=False))
        settings, rest = own.parse_known_args(asked.rest)
        return run(load(settings.settings), name, rest)

    return passed


def _measure(settings: Settings, name: str, rest: list[str]) -> int:
    models_dir = settings.infer.models_dir.resolve()
    return run_module(models_dir, "evaluation", ["--models", str(models_dir), name, *rest])


def _optimise(settings: Settings, _name: str, rest: list[str]) -> int:
    if find_spec("onnx") is None:
        print("firstlook: models optimise needs onnx, which is not installed; "  # noqa: T201
              "pip install -r requirements/train.lock", file=sys.stderr)
        return 2
    models_dir = settings.infer.models_dir.resolve()
    return run_module(models_dir, "training.variants", ["--models", str(models_dir), *rest])


def _train(settings: Settings, name: str, rest: list[str]) -> int:
    if find_spec("torch") is None:
        print(f"firstlook: models {name} needs torch, which is not installed; "  # noqa: T201
              "pip install -r requirements/train.lock", file=sys.stderr)
        return 2
    models_dir = settings.infer.models_dir.resolve()
    where = ["--models", str(models_dir)] if name == "export" else []
    return run_module(models_dir, f"training.{name}", [*where, *rest])


def run_module(models_dir: Path, module: str, arguments: list[str]) -> int:
    """Run `python -m models.<module>` of the package next to the bundles, or else next to the service.

    Returns its exit code; 2, with a word on where it was looked for, when it is in neither place.
    """
    part = Path(module.split(".")[0]) / "__init__.py"
    homes = [h for h in (models_dir, Path(__file__).resolve().parents[1] / "models") if h.name == "models"]
    home = next((h for h in homes if (h / part).is_file() and (h / "__init__.py").is_file()), None)
    if home is None:
        looked = " and ".join(str(h) for h in dict.fromkeys([models_dir, *homes]))
        print(f"firstlook: the package models.{module} is not here (looked in {looked}); "  # noqa: T201
              "it comes with a checkout of the project: set infer.models_dir to its models folder", file=sys.stderr)
        return 2
    path = os.pathsep.join(filter(None, [str(home.parent), os.environ.get("PYTHONPATH", "")]))
    command = [sys.executable, "-P", "-m", f"models.{module}", *arguments]
    return subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, check=False).returncode
