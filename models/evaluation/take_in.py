"""Make a bundle of somebody's model: check it, record a golden case, write manifest and card, verify.

The recipe is TOML like those of models/training/recipes: `[bundle]` version, title, task; `[parameters]`; `[[outputs]]`;
`limitations`; optional `[input] steps`, `[accepts]`, `[rename]` old = "new" for the graph's inputs and outputs, `[graph]`
(see `onnx_graph`) and `[weights]` (see `foreign`).
"""

from __future__ import annotations

import shutil
import tempfile
import tomllib
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.evaluation.bundles import Network
from models.evaluation.foreign import as_onnx
from models.evaluation.onnx_graph import Refused, changed
from service.domain.manifest import TASKS, Manifest, read_manifest
from service.infer.golden import INPUT, OUTPUTS, SOURCE, shape_problems
from service.prepare import ct, cxr
from service.verify import prepare, verify

STEPS = {task: tuple(ct.STEPS if source == "hu" else cxr.STEPS) for task, source in SOURCE.items()}
USUAL = {task: tuple(ct.STEPS) if source == "hu" else cxr.USUAL for task, source in SOURCE.items()}
CARD = """# {title}

Bundle `{name}`, version {version}, sha256 of `model.onnx` `{sha256}`.

**Research use only. Not for clinical diagnosis.**

This card is a skeleton. No figure was measured here: run `firstlook models evaluate {name} --data DIR` on data that the
model was not trained on, and write what it gives, with n and intervals.

## Intended use

To be written by the owner of the model.

## Not for

- clinical diagnosis, or any decision on a patient

## Training data and licences

To be written by the owner of the model: sources, licences, patients.

## Figures

None measured here.

## Known shortcuts and weaknesses

To be written by the owner of the model.

## Limitations written into every result

{limitations}"""


def take_in(model: Path, recipe_file: Path, golden: Path, out: Path) -> list[str]:
    """Make the bundle `out` and return what `verify` finds wrong with it: nothing, if all is well.

    Nothing is left at `out` when it is refused. Raises: Refused; InvalidManifest; EngineUnavailable.
    """
    if out.exists():
        raise Refused(f"{out} exists; give another folder or remove it")
    recipe = _recipe(recipe_file)
    source = _source(golden, recipe["bundle"]["task"])
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".import-", dir=out.parent) as scratch:
        folder, aside = Path(scratch) / "bundle" / out.name, Path(scratch) / "aside"
        folder.mkdir(parents=True)
        aside.mkdir()
        given = INPUT[recipe["bundle"]["task"]]
        plain, recipe = as_onnx(model, recipe, given, aside)
        changed(plain, recipe.get("graph", {}), recipe.get("rename", {}), given, folder / "model.onnx")
        manifest = _write_manifest(folder, recipe)
        if wrong := shape_problems(manifest):
            hint = "" if recipe.get("rename") else "; [rename] in the recipe can give graph inputs and outputs other names"
            raise Refused(f"{model}: {'; '.join(wrong)}{hint}")
        _write_golden(manifest, source)
        (folder / "MODEL_CARD.md").write_text(CARD.format(
            title=manifest.title, name=manifest.name, version=manifest.version, sha256=manifest.sha256,
            limitations="".join(f"- {text}\n" for text in manifest.limitations)), encoding="utf-8")
        shutil.move(folder, out)
    return verify(out).problems


def _recipe(path: Path) -> dict[str, Any]:
    try:
        recipe = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise Refused(f"{path}: not a readable TOML file ({error})") from error
    bundle = recipe.get("bundle", {})
    if missing := [key for key in ("version", "title", "task") if key not in bundle]:
        raise Refused(f"{path}: [bundle] lacks {', '.join(missing)}")
    if bundle["task"] not in TASKS:
        raise Refused(f"{path}: task {bundle['task']!r} is unknown; accepted: {', '.join(TASKS)}")
    recipe.setdefault("limitations", recipe.get("card", {}).get("limitations"))
    if missing := [key for key in ("outputs", "limitations") if not recipe.get(key)]:
        raise Refused(f"{path}: {', '.join(missing)} missing or empty")
    return recipe


def _source(path: Path, task: str) -> NDArray[Any]:
    """Read the golden input: `hu` (n, y, x) in HU or `grey` (y, x) uint8."""
    key, axes = SOURCE[task], 3 if SOURCE[task] == "hu" else 2
    try:
        with np.load(path) as arrays:
            found = {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError, EOFError) as error:
        raise Refused(f"{path}: the golden input is missing or no .npz file") from error
    if key not in found or found[key].ndim != axes:
        raise Refused(f"{path}: needs the array {key!r} with {axes} axes; found: "
                      f"{', '.join(f'{k} {v.shape}' for k, v in found.items()) or 'nothing'}")
    return found[key]


def _write_manifest(folder: Path, recipe: dict[str, Any]) -> Manifest:
    try:
        from models.training.toml_text import dumps
    except ImportError as error:
        raise Refused("import writes TOML with models/training/toml_text.py, which is not here: use a checkout") from error
    task = recipe["bundle"]["task"]
    steps = recipe.get("input", {}).get("steps", list(USUAL[task]))
    if unknown := [name for name in steps if name not in STEPS[task]]:
        raise Refused(f"unknown preparation step {unknown[0]!r}; accepted: {', '.join(STEPS[task])}")
    table = {
        "name": folder.name, **{k: recipe["bundle"][k] for k in ("version", "title", "task")},
        "sha256": sha256((folder / "model.onnx").read_bytes()).hexdigest(), "limitations": recipe["limitations"],
        "input": {"steps": steps}, "parameters": recipe.get("parameters", {}), "accepts": recipe.get("accepts", {}),
        **{k: recipe[k] for k in ("placement",) if k in recipe}, "outputs": recipe["outputs"],
    }
    (folder / "manifest.toml").write_text(dumps(table), encoding="utf-8")
    return read_manifest(folder)


def _write_golden(manifest: Manifest, source: NDArray[Any]) -> None:
    """Run the golden input twice; two different answers are refused."""
    case = {SOURCE[manifest.task]: source}
    try:
        tensor = prepare(manifest, case)
    except ValueError as error:
        raise Refused(f"the golden input cannot be prepared: {error}") from error
    network = Network(manifest, 1)
    first, second = network.run(tensor), network.run(tensor)
    for name in OUTPUTS[manifest.task]:
        if not np.array_equal(first[name], second[name]):
            raise Refused(f"two runs of the same input gave different {name}: the model is not deterministic")
    _shown(manifest, first)
    (manifest.folder / "golden").mkdir()
    kept = {name: first[name] for name in OUTPUTS[manifest.task]}
    np.savez_compressed(manifest.folder / "golden" / "case-1.npz", **case, **{INPUT[manifest.task]: tensor}, **kept)




def _shown(manifest: Manifest, answer: dict[str, NDArray[Any]]) -> None:
    """Map an answer back to an image as the service will. Raises: InvalidManifest for a parameter that it would miss."""
    if manifest.task == "cxr-classification":
        cxr.saliency_on_source(answer["activation"][0, 0], 64, 64, manifest.parameters)
    elif manifest.task == "cxr-segmentation":
        cxr.restore(answer["probabilities"][0], 64, 64, manifest.parameters)
