"""Train a bundle's network: `python -m models.training.train ct-lung-infection --data DIR --out DIR`."""

from __future__ import annotations

import argparse
import tomllib
from pathlib import Path
from typing import Any

import cv2
import torch

from models.training import ct_train, cxr_train

RECIPES = Path(__file__).parent / "recipes"
TRAINERS = {"ct-lung-infection": ct_train.train, "cxr-pattern": cxr_train.train}


def read_recipe(bundle: str) -> dict[str, Any]:
    """Read `recipes/<bundle>.toml`."""
    return tomllib.loads((RECIPES / f"{bundle}.toml").read_text(encoding="utf-8"))


def main() -> None:
    """Train one split of one bundle; the same command goes on where a run was broken off."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", choices=sorted(TRAINERS))
    parser.add_argument("--data", type=Path, required=True, help="folder with ct_lesions, ct_lungs and cxr")
    parser.add_argument("--out", type=Path, required=True, help="folder for progress.pt and weights.pt")
    parser.add_argument("--fold", type=int, help="held-out fold; default: the recipe's")
    parser.add_argument("--steps", type=int, help="default: the recipe's")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    cv2.setNumThreads(1)
    recipe = read_recipe(options.bundle)
    if options.steps:
        recipe["training"]["steps"] = options.steps
    fold = recipe["split"]["fold"] if options.fold is None else options.fold
    print(TRAINERS[options.bundle](recipe, options.data, options.out, fold))


if __name__ == "__main__":
    main()
