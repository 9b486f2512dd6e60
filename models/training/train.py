"""Train a bundle's network: `python -m models.training.train ct-lung-infection --data DIR --out RUN --fold 0`.

Each fold has a folder of its own in RUN; `--fold all` holds out nothing. The same command goes on where a run was broken
off. Before it starts, the split is checked: a patient, a paper or a near-duplicate on both sides ends it.
"""

from __future__ import annotations

import argparse
import tomllib
from pathlib import Path
from typing import Any

import cv2
import torch

from models.evaluation.leakage import check_split
from models.training.tasks import TASKS

RECIPES = Path(__file__).parent / "recipes"


def read_recipe(bundle: str) -> dict[str, Any]:
    """Read `recipes/<bundle>.toml`; the bundle's name is added to its `[bundle]`."""
    recipe = tomllib.loads((RECIPES / f"{bundle}.toml").read_text(encoding="utf-8"))
    recipe["bundle"]["name"] = bundle
    return recipe


def folder_of(run: Path, fold: int | None) -> Path:
    """Return the folder of a fold in a run."""
    return run / ("all" if fold is None else f"fold-{fold}")


def fold_of(text: str) -> int | None:
    """Read a fold from the command line: a number, or `all` for none."""
    return None if text == "all" else int(text)


def check(bundle: str, recipe: dict[str, Any], data: Path, fold: int | None) -> None:
    """Compare what a fold trains on with what it holds out. Raises: leakage.Leakage, naming what is on both sides."""
    if fold is None:
        return
    kept, held = TASKS[bundle].names(recipe, data, fold)
    check_split(data, {"training": kept.all(), "held out": held.all()})


def start_of(run: Path, fold: int | None) -> Path:
    """Return the weights that a fold begins with: those of the same fold in another run, or a file of weights."""
    found = run if run.is_file() else folder_of(run, fold) / "weights.pt"
    if not found.exists():
        raise SystemExit(f"{run} holds no weights of {folder_of(run, fold).name}; trained there with the same --fold?")
    return found


def main() -> None:
    """Train folds of one bundle."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", choices=sorted(TASKS))
    parser.add_argument("--data", type=Path, required=True, help="folder with ct_lesions, ct_lungs, ct_slices and cxr")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run: fold-0, fold-1 ... and all in it")
    parser.add_argument("--fold", type=fold_of, action="append", help="a number or `all`; several may be given; default all")
    parser.add_argument("--start", type=Path,
                        help="a run, or a file of weights, to begin with; the recipe's `[training.after]` holds then")
    parser.add_argument("--steps", type=int, help="default: the recipe's")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    cv2.setNumThreads(1)
    recipe = read_recipe(options.bundle)
    if options.steps:
        recipe["training"]["steps"] = options.steps
    for fold in options.fold or [None]:
        check(options.bundle, recipe, options.data, fold)
        if options.start:
            recipe["training"] |= {**recipe["training"].get("after", {}), "start": start_of(options.start, fold)}
        print(TASKS[options.bundle].train(recipe, options.data, folder_of(options.out, fold), fold), flush=True)


if __name__ == "__main__":
    main()
