"""Turn trained weights into a bundle: model.onnx, figures.json, manifest.toml, golden cases and the card.

`python -m models.training.export ct-lung-infection --weights W.pt --data DIR --uninfected DIR`
`python -m models.training.export cxr-pattern --weights W.pt --data DIR --demo DIR`
Every figure is measured with the ONNX file that was just written, on the split that was held out in training.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from models.training import ct_evaluate, cxr_evaluate, phantoms, toml_text
from models.training.card import write_card
from models.training.cxr_data import load, split
from models.training.nets import LungUNet, RadiographNet
from models.training.onnx_file import Probabilities, ProbabilitiesAndMaps, Runner, sha256_of, write
from models.training.train import read_recipe
from service.prepare import ct, cxr


def export_ct(recipe: dict[str, Any], options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Write the CT bundle's ONNX file and golden cases; return its figures."""
    network = LungUNet()
    network.load_state_dict(torch.load(options.weights, map_location="cpu", weights_only=True))
    side = recipe["parameters"]["side_px"]
    model = folder / "model.onnx"
    write(Probabilities(network), torch.rand(1, 1, side, side), ["slices"], ["probabilities"], model)
    sensitivity = recipe["operating_point"]["sensitivity_slices"]
    figures = ct_evaluate.evaluate(
        model, options.data, options.fold, recipe["parameters"], sensitivity, options.uninfected,
    )
    curve = figures["study_probability"]
    recipe["parameters"]["study_probability"] = {
        "feature": "log_infected_fraction", **{k: curve[k] for k in ("epsilon", "intercept", "slope")},
    }
    recipe["outputs"][2]["threshold"] = figures["study_threshold"]
    shapes = ((320, 320, True), (256, 320, False))
    for number, (rows, columns, sick) in enumerate(shapes, 1):
        hu = phantoms.chest_ct_hu(rows, columns, sick, seed=number)
        tensor = ct.slice_tensor(hu[np.newaxis].astype(np.float32), recipe["parameters"], tuple(ct.STEPS))
        expected = Runner(model)(tensor)[0]
        write_golden(folder, number, hu=hu[np.newaxis], slices=tensor, probabilities=expected.astype(np.float16))
    return figures


def export_cxr(recipe: dict[str, Any], options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Calibrate on the validation patients, write the radiograph bundle's files; return its figures."""
    network = RadiographNet()
    network.load_state_dict(torch.load(options.weights, map_location="cpu", weights_only=True))
    images = load(options.data, recipe["split"]["excluded"], recipe["split"]["seed"])
    validation = [i for i in split(images, options.fold)[1] if i.label >= 0]
    tensors, labels = cxr_evaluate.tensors_of(validation, recipe["parameters"]), np.array([i.label for i in validation])
    with torch.no_grad():
        logits, maps = network.eval()(torch.from_numpy(tensors))
    temperature = cxr_evaluate.fit_temperature(logits.numpy().astype(np.float64), labels)
    network.temperature.fill_(temperature)
    peaks = maps.numpy()[labels > 0, labels[labels > 0]].max(axis=(1, 2)) / temperature
    recipe["parameters"]["saliency_floor"] = float(np.quantile(peaks, 0.25))
    model = folder / "model.onnx"
    write(ProbabilitiesAndMaps(network), torch.from_numpy(tensors[:1]), ["image"], ["probabilities", "activation"], model)
    figures = cxr_evaluate.evaluate(model, options.data, options.fold, recipe, options.demo)
    figures["temperature"] = temperature
    for output in recipe["outputs"]:
        output["threshold"] = figures["thresholds"].get(output["name"], 0.5)
    for number, (rows, columns, sick) in enumerate(((400, 330, True), (240, 380, False)), 1):
        grey = phantoms.radiograph(rows, columns, sick, seed=number)
        tensor = cxr.image_tensor(grey.astype(np.float32) / np.float32(255.0), recipe["parameters"])
        probabilities, activation = Runner(model)(tensor)
        write_golden(folder, number, grey=grey, image=tensor, probabilities=probabilities, activation=activation)
    return figures


def write_golden(folder: Path, number: int, **arrays: np.ndarray) -> None:
    """Write one golden case: the source image, the prepared tensor and what the model answered."""
    (folder / "golden").mkdir(parents=True, exist_ok=True)
    np.savez_compressed(folder / "golden" / f"case-{number}.npz", **arrays)


def manifest_of(bundle: str, recipe: dict[str, Any], digest: str, figures: dict[str, Any]) -> dict[str, Any]:
    """Return the manifest as a table; `figures` holds the plain numbers only, figures.json has all."""
    steps = ct.STEPS if recipe["bundle"]["task"] == "ct-segmentation" else cxr.STEPS
    numbers = {k: v for k, v in figures.items() if isinstance(v, (int, float))}
    return {
        "name": bundle, **recipe["bundle"], "sha256": digest, "limitations": recipe["card"]["limitations"],
        "input": {"steps": list(steps)}, "parameters": recipe["parameters"], "accepts": recipe["accepts"],
        "figures": numbers, "outputs": recipe["outputs"],
    }


def main() -> None:
    """Write one bundle into its folder beside this package."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", choices=["ct-lung-infection", "cxr-pattern"])
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="folder with ct_lesions, ct_lungs and cxr")
    parser.add_argument("--fold", type=int, help="the fold that was held out in training; default: the recipe's")
    parser.add_argument("--uninfected", type=Path, help="a DICOM series of a chest CT without infection")
    parser.add_argument("--demo", type=Path, help="folder with the demonstration's radiographs")
    parser.add_argument("--models", type=Path, default=Path(__file__).parents[1])
    options = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    recipe = read_recipe(options.bundle)
    options.fold = recipe["split"]["fold"] if options.fold is None else options.fold
    folder = options.models / options.bundle
    export = export_ct if options.bundle.startswith("ct") else export_cxr
    figures = export(recipe, options, folder)
    (folder / "figures.json").write_text(json.dumps(figures, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    manifest = manifest_of(options.bundle, recipe, sha256_of(folder / "model.onnx"), figures)
    (folder / "manifest.toml").write_text(toml_text.dumps(manifest), encoding="utf-8")
    write_card(folder, recipe, figures)


if __name__ == "__main__":
    main()
