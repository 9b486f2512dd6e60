"""Training of the classifiers: fine-tuned networks, whose answers are averaged where there are several.

`cxr-pattern` and `cxr-findings` are two readings of the same networks: these learn the patterns and the findings together,
from every radiograph that has a label of either, and each bundle takes its own outputs. Trained into one folder, the second
bundle finds the networks there. `ct-pattern` learns its classes from pictures of CT slices.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from models.evaluation.slices import windowed
from models.training import ct_pattern, cxr_data, encoder
from models.training.features import Prepared
from models.training.loop import device_for
from models.training.loop import train as train_network
from models.training.nets import ClassificationNet
from models.training.pictures_pool import bytes_of, made
from models.training.splits import Names
from models.training.varied import Look, Place, Varier
from service.prepare import cxr

PATTERNS, FINDINGS = len(cxr_data.PATTERNS), len(cxr_data.LABELS)
OUTPUTS = {"cxr-pattern": slice(0, PATTERNS), "cxr-findings": slice(PATTERNS, PATTERNS + FINDINGS),
           "ct-pattern": slice(0, len(ct_pattern.CLASSES))}
"""Which outputs of the networks a bundle takes; the patterns, which come first, exclude each other."""
PLACE = Place(turn_deg=9.0, scale=(0.88, 1.22), shift=0.07, mirror_x=0.5)
LOOK = Look(gamma=0.3)


@dataclass(frozen=True, eq=False)
class Examples:
    """What is learned from.

    grey: as read; labels: (n, k), 1, 0, or -1 where not labelled, of which the first `exclusive` exclude each other;
    reported: what figures are of; weights: how often each is drawn.
    """

    names: list[str]
    grey: list[NDArray[np.uint8]]
    labels: NDArray[np.int8]
    held: NDArray[np.bool_]
    reported: NDArray[np.bool_]
    weights: NDArray[np.float32]
    exclusive: int = PATTERNS


def slices(recipe: dict[str, Any], data: Path, fold: int | None) -> Examples:
    """CT slices of papers, by class."""
    every = ct_pattern.load(data)
    held = {id(s) for s in ct_pattern.split(every, fold, recipe["split"]["seed"])[1]}
    classes = len(ct_pattern.CLASSES)
    return Examples(
        [s.file for s in every], [s.grey for s in every], np.eye(classes, dtype=np.int8)[[s.label for s in every]],
        np.array([id(s) in held for s in every]), np.ones(len(every), bool), np.ones(len(every), np.float32), classes)


def examples(recipe: dict[str, Any], data: Path, fold: int | None) -> Examples:
    """Every radiograph with a pattern or a label of a finding; reported: those of the sources that figures are of.

    For `ct-pattern` every picture of a slice.
    """
    if recipe["bundle"]["name"] == "ct-pattern":
        return slices(recipe, data, fold)
    settings, split = recipe["training"], recipe["split"]
    images = [i for i in cxr_data.load(data, split["excluded"], split["seed"])
              if i.original in settings["sources"] and (i.pattern >= 0 or not np.isnan(i.labels).all())]
    labels = np.full((len(images), PATTERNS + FINDINGS), -1, np.int8)
    for row, image in zip(labels, images, strict=True):
        row[PATTERNS:] = np.nan_to_num(image.labels, nan=-1.0)
        if image.pattern >= 0:
            row[:PATTERNS] = np.arange(PATTERNS) == image.pattern
    held = {id(i) for i in cxr_data.split(images, fold)[1]}
    told = recipe["export"].get("sources", settings["sources"])
    pattern = recipe["bundle"]["name"] == "cxr-pattern"
    return Examples(
        [i.file for i in images], [i.grey for i in images], labels, np.array([id(i) in held for i in images]),
        np.array([i.original in told and (i.pattern >= 0 or not pattern) for i in images]),
        np.array([settings["weights"].get(i.original, 1.0) for i in images], np.float32))


def tensor_of(recipe: dict[str, Any], grey: NDArray[np.float32]) -> NDArray[np.float32]:
    """Prepare one picture, grey (y, x) float32 in 0..1, as the service does: (1, 1, s, s)."""
    if "window_hu" in recipe["parameters"]:
        return windowed(grey, tuple(recipe["input"]["steps"]), recipe["parameters"])[None, None]
    return cxr.image_tensor(grey, recipe["parameters"], tuple(recipe["input"]["steps"]))


class ExampleSampler:
    """Draws varied pictures with their labels, on the device: each in one of a few copies with another look."""

    def __init__(self, kept: Examples, recipe: dict[str, Any], seed: int, device: str) -> None:
        self.settings, self.vary = recipe["training"], Varier(seed, device)
        copies, chosen = self.settings["copies"], np.flatnonzero(~kept.held)

        def picture(number: int) -> NDArray[np.uint8]:
            """One copy of one picture, prepared; the first copy is as it is."""
            random = np.random.default_rng([self.settings["seed"], number])
            grey = kept.grey[chosen[number % len(chosen)]].astype(np.float32) / np.float32(255.0)
            return bytes_of(tensor_of(recipe, grey if number < len(chosen) else cxr_data.vary_grey(grey, random))[0, 0])

        pictures = np.stack(made(picture, (copies + 1) * len(chosen)))
        self.pictures = torch.from_numpy(pictures.reshape(copies + 1, len(chosen), *pictures.shape[1:])).to(device)
        self.labels = torch.from_numpy(kept.labels[chosen]).to(device).float()
        self.weights = torch.from_numpy(kept.weights[chosen]).to(device)

    def batch(self, size: int, done: float) -> tuple[Tensor, Tensor]:
        """Return (size, 1, s, s) float32 in 0..1 and labels (size, k), -1 where not labelled."""
        vary, place = self.vary, self.vary.choose(self.weights, size)
        copy = vary.uniform(size, 0, len(self.pictures)).long().clamp(max=len(self.pictures) - 1)
        images = self.pictures[copy, place].float()[:, None] / 255.0
        images = vary.move(images, vary.grids(size, images.shape[-1], PLACE))
        return vary.hide(vary.look(images, LOOK), self.settings["hide_share"], 0.4), self.labels[place]


def loss_of(logits: Tensor, labels: Tensor, smoothing: float, findings_weight: float, softmax: int) -> Tensor:
    """Cross-entropy of the first `softmax` outputs plus binary cross-entropy of the others, each where there are labels."""
    known = (labels[:, :softmax] >= 0).all(dim=1).float()
    entropy = functional.cross_entropy(
        logits[:, :softmax], labels[:, :softmax].argmax(dim=1), reduction="none", label_smoothing=smoothing)
    loss = (entropy * known).sum() / known.sum().clamp(min=1.0)
    if softmax == labels.shape[1]:
        return loss
    told = (labels[:, softmax:] >= 0).float()
    binary = functional.binary_cross_entropy_with_logits(
        logits[:, softmax:], labels[:, softmax:].clamp(min=0.0), reduction="none")
    return loss + findings_weight * (binary * told).sum() / told.sum().clamp(min=1.0)


def train(recipe: dict[str, Any], data: Path, out: Path, fold: int | None) -> Path:
    """Train the members of one split, or of everything, and return the path of their weights, which are kept in 16 bits."""
    if (out / "weights.pt").exists():
        return out / "weights.pt"
    settings, kept, device = recipe["training"], examples(recipe, data, fold), device_for()
    states = []
    if "encoder_of" in settings:
        settings = settings | {"start": encoder.written(settings["encoder_of"], data, out / "start.pt")}
    for member in range(settings["members"]):
        seeded = settings | {"seed": settings["seed"] + 1000 * member}
        network = ClassificationNet(kept.labels.shape[1], settings["dropout"])
        path = train_network(
            network, lambda seed: ExampleSampler(kept, recipe, seed, device),
            lambda logits, labels: loss_of(
                logits, labels, settings["smoothing"], settings.get("findings_weight", 1.0), kept.exclusive),
            seeded, out / f"member-{member}", device)
        states.append(halved(torch.load(path, map_location="cpu", weights_only=True)))
    torch.save(states, out / "weights.pt")
    return out / "weights.pt"


def halved(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Keep convolutions in 16 bits and the statistics of the normalisation in 32; drop the ImageNet classifier."""
    return {name: value.half() if value.ndim == 4 else value for name, value in state.items() if "._fc." not in name}


class Members(nn.Module):
    """Several networks as one: logits and maps are means; features are put side by side.

    (n, 1, s, s) to (logits (n, k), maps (n, k, s / 32, s / 32), features (n, m * 1280)).
    """

    def __init__(self, members: list[ClassificationNet]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See the class."""
        answers = [member(image) for member in self.members]
        logits, maps = (torch.stack([a[place] for a in answers]).mean(dim=0) for place in (0, 1))
        return logits, maps, torch.cat([a[2] for a in answers], dim=1)


def network(recipe: dict[str, Any], weights: Path) -> Members:
    """Read the members and keep the outputs of the recipe's bundle."""
    chosen, members = OUTPUTS[recipe["bundle"]["name"]], []
    for state in torch.load(weights, map_location="cpu", weights_only=True):
        kept = {name: value.float() if value.is_floating_point() else value for name, value in state.items()}
        for name in ("evidence.weight", "evidence.bias"):
            kept[name] = kept[name][chosen]
        member = ClassificationNet(len(kept["evidence.bias"]))
        missing, unknown = member.load_state_dict(kept, strict=False)
        if unknown or any("._fc." not in name for name in missing):
            raise ValueError(f"{weights} does not fit the network: {[*unknown, *missing][:3]}")
        members.append(member)
    return Members(members).eval()


def names(recipe: dict[str, Any], data: Path, fold: int | None) -> tuple[Names, Names]:
    """Return the names of what a split trains on, and of what it holds out and is measured on."""
    every = examples(recipe, data, fold)
    pairs = list(zip(every.names, every.held, every.reported, strict=True))
    return (Names(images=[n for n, held, _ in pairs if not held]),
            Names(images=[n for n, held, told in pairs if held and told]))


def prepared(recipe: dict[str, Any], data: Path, fold: int | None) -> list[Prepared]:
    """Return what a split trains on, prepared as it is."""
    every = examples(recipe, data, fold)

    def tensor(grey: NDArray[np.uint8]) -> NDArray[np.float32]:
        return tensor_of(recipe, grey.astype(np.float32) / np.float32(255.0))

    return [Prepared(name, lambda grey=grey: tensor(grey))
            for name, grey, held in zip(every.names, every.grey, every.held, strict=True) if not held]


