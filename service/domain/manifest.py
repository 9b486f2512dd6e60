"""What a bundle says of itself: `models/<bundle>/manifest.toml`, read and checked."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import Any

from service.domain import codes
from service.domain.codes import Code
from service.domain.study import Kind
from service.domain.urgency import Urgency
from service.domain.variant import Precision, Use, Variant

TASKS = {
    "ct-segmentation": Kind.CT, "ct-classification": Kind.CT, "cxr-classification": Kind.CXR,
    "cxr-quality": Kind.CXR, "cxr-segmentation": Kind.CXR,
}
READERS = ("ct-segmentation", "ct-classification", "cxr-classification")
"""The tasks that say findings of a study; the others look at its images first."""


class Gate(StrEnum):
    """What the score of a quality class does to an image, by the class's threshold."""

    REQUIRE = "require"  # under it the image is refused
    REFUSE = "refuse"  # over it the image is refused
    NOTE = "note"  # over it the result is limited, and says so


class InvalidManifest(ValueError):
    """A manifest that cannot be used; the text names the file, the key and what is accepted."""


@dataclass(frozen=True)
class Output:
    """One class a model scores. index: its place in the output tensor; threshold in 0..1; code None: not reported."""

    name: str
    index: int
    code: Code | None
    threshold: float
    urgency: Urgency | None


@dataclass(frozen=True)
class Accepts:
    """What a bundle may read. Empty or 0: no limit.

    modality: values of Modality (0008,0060); least_slices and most_slice_spacing_mm are for CT; most_unfamiliarity: of
    the network's own output `unfamiliarity`, for an image, or for the median slice of a CT. least_age_years: of the
    patient; where the headers do not tell, a radiograph that the gate takes for a child's is too young.
    """

    modality: tuple[str, ...] = ()
    least_slices: int = 0
    most_slice_spacing_mm: float = 0.0
    most_unfamiliarity: float = 0.0
    least_age_years: float = 0.0


@dataclass(frozen=True)
class Aggregate:
    """How the scores of slices become that of a study: the mean of the `share` of slices with the highest.

    least_lung_share: a slice counts when it shows at least this part of the lung of the slice that shows most.
    """

    rule: str = "mean_of_top"
    share: float = 0.3
    least_lung_share: float = 0.2


@dataclass(frozen=True)
class Placement:
    """What a session of a bundle takes of the machine it is put on, where an engine places sessions on several.

    gpus: share of one GPU where there are any, 0.25 for four sessions on one; cpus: cores, as threads and for the placing.
    devices: numbers of the GPUs of this machine that it may be put on, none: any; memory_bytes: that it takes there, the
    bound of its arena on a GPU, 0: not known.
    """

    gpus: float = 0.25
    cpus: float = 1.0
    devices: tuple[int, ...] = ()
    memory_bytes: int = 0


@dataclass(frozen=True)
class Manifest:
    """A bundle's manifest.

    steps: names of the preparation steps in `service.prepare`, in order; parameters: their arguments and those of the
    read-out; sha256: of model.onnx; figures: as measured, by name; others: the files beside model.onnx.
    """

    folder: Path
    name: str
    version: str
    title: str
    task: str
    sha256: str
    steps: tuple[str, ...]
    parameters: dict[str, Any]
    outputs: tuple[Output, ...]
    accepts: Accepts
    limitations: tuple[str, ...]
    figures: dict[str, Any]
    others: tuple[Variant, ...] = ()
    placement: Placement = Placement()

    @property
    def kind(self) -> Kind:
        """The kind of study that this bundle reads."""
        return TASKS[self.task]

    @property
    def aggregate(self) -> Aggregate:
        """How slices become a study; checked when the manifest is read."""
        return Aggregate(**self.parameters.get("aggregate", {}))

    @property
    def gate(self) -> dict[str, Gate]:
        """What each output of a quality network does to an image; empty for other tasks."""
        return {name: Gate(rule) for name, rule in self.parameters.get("gate", {}).items()}

    @property
    def model_path(self) -> Path:
        """The ONNX file in single precision."""
        return self.folder / "model.onnx"

    @property
    def variants(self) -> tuple[Variant, ...]:
        """Every ONNX file of the bundle, model.onnx first."""
        return (Variant(Precision.FP32, self.sha256), *self.others)

    def variant_for(self, use: Use, eight_bits: bool = True) -> Variant:
        """Return the file that the manifest names for a place; model.onnx where it names none.

        eight_bits: whether a file in 8 bits may be it.
        """
        return next((v for v in self.others if v.use is use and (eight_bits or v.precision is not Precision.INT8)),
                    self.variants[0])

    def variant_of(self, precision: Precision) -> Variant:
        """Return the file of a precision; model.onnx where the bundle has none of it."""
        return next((v for v in self.others if v.precision is precision), self.variants[0])

    def path_of(self, variant: Variant) -> Path:
        """Return the path of one of the bundle's files."""
        return self.folder / variant.file_name


def read_manifest(folder: Path) -> Manifest:
    """Read and check `folder/manifest.toml`.

    Raises: InvalidManifest when the file is absent, not TOML, lacks a key or holds an unknown code, task or urgency.
    """
    path = folder / "manifest.toml"
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidManifest(f"{path}: cannot be read ({error.strerror})") from error
    except tomllib.TOMLDecodeError as error:
        raise InvalidManifest(f"{path}: not valid TOML ({error})") from error
    try:
        manifest = Manifest(
            folder=folder, name=raw["name"], version=raw["version"], title=raw["title"], task=raw["task"],
            sha256=raw["sha256"], steps=tuple(raw["input"]["steps"]), parameters=dict(raw.get("parameters", {})),
            outputs=tuple(_output(path, row) for row in raw["outputs"]), accepts=_accepts(path, raw.get("accepts", {})),
            limitations=tuple(raw["limitations"]), figures=dict(raw.get("figures", {})),
            others=_variants(path, raw.get("variants", {})), placement=_placement(path, raw.get("placement", {})),
        )
    except KeyError as error:
        raise InvalidManifest(f"{path}: the key {error} is missing") from error
    if manifest.task not in TASKS:
        raise InvalidManifest(f"{path}: task {manifest.task!r} is unknown; accepted: {', '.join(TASKS)}")
    if manifest.name != folder.name:
        raise InvalidManifest(f"{path}: name {manifest.name!r} differs from its folder {folder.name!r}")
    if manifest.task == "cxr-quality":
        _check_gate(path, manifest)
    if manifest.task == "ct-classification":
        _check_aggregate(path, manifest.parameters.get("aggregate"))
    return manifest


def _variants(path: Path, table: dict[str, Any]) -> tuple[Variant, ...]:
    """Read [variants.int8] and [variants.fp16]: sha256 and use; a place may be named once."""
    found: list[Variant] = []
    names = [p.value for p in Precision if p is not Precision.FP32]
    for name, row in table.items():
        if name not in names:
            raise InvalidManifest(f"{path}: variants.{name} is unknown; accepted: {', '.join(names)}")
        if not isinstance(row, dict) or set(row) - {"sha256", "use"} or not isinstance(row.get("sha256"), str):
            raise InvalidManifest(f"{path}: variants.{name} must be a table of sha256 and use, got {row!r}")
        use = row.get("use", "")
        if use not in list(Use):
            raise InvalidManifest(f"{path}: variants.{name}.use is {use!r}; accepted: {_either(Use)}")
        if use and any(v.use == use for v in found):
            raise InvalidManifest(f"{path}: two variants are for the {use}; accepted: one")
        found.append(Variant(Precision(name), row["sha256"], Use(use)))
    return tuple(found)


def _placement(path: Path, table: dict[str, Any]) -> Placement:
    known = [f.name for f in fields(Placement)]
    if unknown := sorted(set(table) - set(known)):
        raise InvalidManifest(f"{path}: placement.{unknown[0]} is unknown; accepted: {', '.join(known)}")
    devices, memory_bytes = table.get("devices", ()), table.get("memory_bytes", 0)
    if not isinstance(devices, list | tuple) or any(not isinstance(n, int) or isinstance(n, bool) or n < 0 for n in devices):
        raise InvalidManifest(f"{path}: placement.devices is {devices!r}; accepted: a list of numbers of GPUs, from 0")
    if not isinstance(memory_bytes, int) or isinstance(memory_bytes, bool) or memory_bytes < 0:
        raise InvalidManifest(f"{path}: placement.memory_bytes is {memory_bytes!r}; accepted: a whole number, 0 or more")
    shares = {key: value for key, value in table.items() if key in ("gpus", "cpus")}
    for key, value in shares.items():
        most = 1 if key == "gpus" else 256
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= most:
            raise InvalidManifest(f"{path}: placement.{key} is {value!r}; accepted: a number over 0, at most {most}")
    return Placement(**{k: float(v) for k, v in shares.items()}, devices=tuple(devices), memory_bytes=memory_bytes)


def _accepts(path: Path, table: dict[str, Any]) -> Accepts:
    known = {f.name for f in fields(Accepts)}
    if unknown := sorted(set(table) - known):
        raise InvalidManifest(f"{path}: accepts.{unknown[0]} is unknown; accepted: {', '.join(sorted(known))}")
    modality = table.get("modality", ())
    modalities = (modality,) if isinstance(modality, str) else tuple(str(m) for m in modality)
    limits = ("least_slices", "most_slice_spacing_mm", "most_unfamiliarity", "least_age_years")
    numbers = {k: table.get(k, 0) for k in limits}
    for key, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
            raise InvalidManifest(f"{path}: accepts.{key} is {value!r}; accepted: a number, 0 or more")
    return Accepts(modalities, int(numbers["least_slices"]), float(numbers["most_slice_spacing_mm"]),
                   float(numbers["most_unfamiliarity"]), float(numbers["least_age_years"]))


def _check_aggregate(path: Path, table: object) -> None:
    known = [f.name for f in fields(Aggregate)]
    if not isinstance(table, dict) or table.get("rule") != Aggregate.rule or not set(table) <= set(known):
        raise InvalidManifest(f"{path}: parameters.aggregate is {table!r}; accepted: rule = {Aggregate.rule!r}, and "
                              "share and least_lung_share in 0..1")
    for key in ("share", "least_lung_share"):
        value = table.get(key, 0.5)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
            raise InvalidManifest(f"{path}: parameters.aggregate.{key} is {value!r}; accepted: a number in 0..1")


def _check_gate(path: Path, manifest: Manifest) -> None:
    rules, names = manifest.parameters.get("gate"), [o.name for o in manifest.outputs]
    if not isinstance(rules, dict) or not rules:
        raise InvalidManifest(f"{path}: the table parameters.gate is missing; a line is NAME = {_either(Gate)}")
    for name, rule in rules.items():
        if name not in names:
            raise InvalidManifest(f"{path}: parameters.gate.{name} is no output; accepted: {', '.join(names)}")
        if rule not in list(Gate):
            raise InvalidManifest(f"{path}: parameters.gate.{name} is {rule!r}; accepted: {_either(Gate)}")


def _either(values: type[StrEnum]) -> str:
    return " | ".join(f'"{value}"' for value in values)


def _output(path: Path, row: dict[str, Any]) -> Output:
    code = row.get("code")
    if code is not None and code not in codes.BY_NAME:
        raise InvalidManifest(f"{path}: output code {code!r} is not in service/domain/codes.py")
    urgency = row.get("urgency")
    if urgency is not None and urgency not in list(Urgency):
        raise InvalidManifest(f"{path}: urgency {urgency!r} is unknown; accepted: {', '.join(Urgency)}")
    threshold = float(row.get("threshold", 0.5))
    if not 0.0 <= threshold <= 1.0:
        raise InvalidManifest(f"{path}: threshold {threshold} of output {row['name']!r} is outside 0..1")
    return Output(
        name=row["name"], index=int(row["index"]), code=codes.BY_NAME[code] if code else None,
        threshold=threshold, urgency=Urgency(urgency) if urgency else None,
    )
