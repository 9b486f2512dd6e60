"""Models of other projects: a MONAI bundle's folder or zip, or a TorchXRayVision DenseNet's state dict, as ONNX.

A MONAI bundle has `configs/metadata.json`, which says what goes in and out, and `models/model.onnx` or `models/model.ts`.
What it says is compared with the recipe; a volume of three axes and several channels is refused.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models.evaluation.onnx_graph import Refused

METADATA = "configs/metadata.json"
FILES = ("models/model.onnx", "models/model.ts")
WEIGHTS = (".pt", ".pth")
DENSENET = "torchxrayvision-densenet121"
Recipe = dict[str, Any]


def as_onnx(model: Path, recipe: Recipe, given: str, scratch: Path) -> tuple[Path, Recipe]:
    """Return the ONNX file of a model of any known kind, and the recipe with what is known of that kind.

    given: the name of the task's input; scratch: an empty folder. Raises: Refused.
    """
    if model.suffix in WEIGHTS:
        return _densenet(model, recipe, scratch)
    if model.is_dir() or model.suffix == ".zip":
        return _monai(_opened(model, scratch), recipe, given, scratch)
    return model, recipe


def _densenet(model: Path, recipe: Recipe, scratch: Path) -> tuple[Path, Recipe]:
    """`[weights] network = "torchxrayvision-densenet121"`, and `classes`, one name of that network for each output."""
    table = recipe.get("weights", {})
    if table.get("network") != DENSENET:
        raise Refused(f"{model} is a file of weights: the recipe must say [weights] network = {DENSENET!r}")
    if recipe["bundle"]["task"] != "cxr-classification":
        raise Refused(f"{DENSENET} is for the task cxr-classification, not {recipe['bundle']['task']}")
    try:
        from models.training.densenet121 import PATHOLOGIES, SIDE_PX, WrongWeights, write_onnx
    except ImportError as error:
        raise Refused("weights are turned into ONNX by models/training, which needs requirements/train.lock "
                      f"({error.name} is missing)") from error
    names = [str(name) for name in table.get("classes", [])]
    if unknown := [name for name in names if name not in PATHOLOGIES]:
        raise Refused(f"[weights] classes has {unknown[0]!r}; the network has: {', '.join(PATHOLOGIES)}")
    if len(names) != len(recipe["outputs"]):
        raise Refused(f"[weights] classes names {len(names)}, but there are {len(recipe['outputs'])} outputs; one for each, "
                      "in order")
    _agree(recipe, "rows_px", SIDE_PX)
    _agree(recipe, "columns_px", SIDE_PX)
    try:
        write_onnx(model, [PATHOLOGIES.index(name) for name in names], scratch / "model.onnx")
    except WrongWeights as error:
        raise Refused(str(error)) from error
    return scratch / "model.onnx", {**recipe, "parameters": {"independent": True, **recipe.get("parameters", {})}}


def _opened(model: Path, scratch: Path) -> Path:
    """Return the folder that holds configs/metadata.json; a zip is unpacked, only the files that are needed."""
    if model.is_dir():
        if not (model / METADATA).is_file():
            raise Refused(f"{model}: no {METADATA}, so it is no MONAI bundle")
        return model
    try:
        with zipfile.ZipFile(model) as archive:
            names = [n for n in archive.namelist() if n.endswith(METADATA)]
            if not names:
                raise Refused(f"{model}: no {METADATA} in it, so it is no MONAI bundle")
            root = min(names, key=len).removesuffix(METADATA)
            for name in (METADATA, *FILES):
                if f"{root}{name}" in archive.namelist():
                    (scratch / "monai" / name).parent.mkdir(parents=True, exist_ok=True)
                    (scratch / "monai" / name).write_bytes(archive.read(f"{root}{name}"))
    except (OSError, zipfile.BadZipFile) as error:
        raise Refused(f"{model}: not a readable zip file") from error
    return scratch / "monai"


def _monai(folder: Path, recipe: Recipe, given: str, scratch: Path) -> tuple[Path, Recipe]:
    try:
        metadata = json.loads((folder / METADATA).read_text(encoding="utf-8"))
        layout = metadata["network_data_format"]
        (name_in, image), (name_out, scores) = (_only(layout[side], side) for side in ("inputs", "outputs"))
    except Refused:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Refused(f"{folder / METADATA}: network_data_format with one input and one output is missing") from error
    size = _checked(image, scores, recipe)
    low, high = image.get("value_range") or (0.0, 1.0)
    graph = {"input_range": [float(low), float(high)], **recipe.get("graph", {})}
    target = scratch / "from-monai.onnx"
    if (folder / FILES[0]).is_file():
        target.write_bytes((folder / FILES[0]).read_bytes())
        rename = {name_in: given, name_out: "probabilities", **recipe.get("rename", {})}
    elif (folder / FILES[1]).is_file():
        _script(folder / FILES[1], size, target, given)
        rename = {}
    else:
        raise Refused(f"{folder} has neither {' nor '.join(FILES)}")
    rename = {old: new for old, new in rename.items() if old != new}
    return target, {**recipe, "graph": graph, "rename": rename}


def _script(path: Path, size: tuple[int, int], target: Path, given: str) -> None:
    try:
        from models.training.torchscript import WrongScript, write_onnx
    except ImportError as error:
        raise Refused("model.ts is turned into ONNX by models/training, which needs requirements/train.lock "
                      f"({error.name} is missing)") from error
    try:
        write_onnx(path, size, target, (given, "probabilities"))
    except WrongScript as error:
        raise Refused(str(error)) from error


def _only(table: Mapping[str, Any], side: str) -> tuple[str, dict[str, Any]]:
    if len(table) != 1:
        raise Refused(f"the MONAI bundle has {len(table)} {side} ({', '.join(table)}); a bundle here has one")
    return next((str(name), dict(what)) for name, what in table.items())


def _checked(image: Mapping[str, Any], scores: Mapping[str, Any], recipe: Recipe) -> tuple[int, int]:
    """Compare the metadata with the recipe; returns rows and columns of the input."""
    if image.get("num_channels") != 1:
        raise Refused(f"the MONAI bundle reads {image.get('num_channels')} channels; needed: 1")
    shape = list(image.get("spatial_shape", []))
    if len(shape) != 2:
        raise Refused(f"the MONAI bundle reads {len(shape)} axes ({shape}); needed: 2, single slices or radiographs")
    if scores.get("num_channels") not in (None, len(recipe["outputs"])):
        raise Refused(f"the MONAI bundle gives {scores['num_channels']} channels, the recipe has {len(recipe['outputs'])} "
                      "outputs")
    named = {int(k): str(v).lower() for k, v in dict(scores.get("channel_def", {})).items()}
    for place, output in enumerate(recipe["outputs"]):
        index = output.get("index", place)
        if named.get(index, output["name"].lower()) != output["name"].lower():
            raise Refused(f"output {index} of the MONAI bundle is {named[index]!r}, in the recipe it is {output['name']!r}")
    keys = ("side_px", "side_px") if recipe["bundle"]["task"].startswith("ct") else ("rows_px", "columns_px")
    for key, wanted in zip(keys, shape, strict=True):
        if isinstance(wanted, int):
            _agree(recipe, key, wanted)
    rows, columns = (recipe.get("parameters", {}).get(key) for key in keys)
    if not isinstance(rows, int) or not isinstance(columns, int):
        raise Refused(f"[parameters] needs {' and '.join(dict.fromkeys(keys))}")
    return rows, columns


def _agree(recipe: Recipe, key: str, wanted: int) -> None:
    found = recipe.get("parameters", {}).get(key)
    if found != wanted:
        raise Refused(f"[parameters] {key} is {found}; the model reads {wanted}")
