"""Every kind of object that we make, from every kind of source, written as files beside the source images."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset

from service.assemble.choose import choose
from service.assemble.geometry import GeometryRules
from service.domain.finding import Assessment
from service.domain.study import Selection
from service.errors import Reason
from service.pipeline.frames import read_sources
from service.prepare.frames import frame_headers
from service.receive.header import read_file_header
from service.report.build import build, build_refusal
from tests import builders
from tests.contracts import gate
from tests.contracts.assessed import EVERYTHING, NOW, STYLE, ct, ct_by_two, cxr, cxr_by_two, masks, pictures

Saying = Callable[..., tuple[Selection, Assessment]]


@dataclass
class Output:
    """Files of one study: the source images, and what was made of them by kind."""

    sources: list[Path]
    made: dict[str, list[Path]]
    said: Assessment | None

    def problems(self) -> list[str]:
        """Everything that the gate finds."""
        return gate.problems(self.made, self.sources, self.said)

    def spoil(self, kind: str, change: Callable[[Dataset], None]) -> None:
        """Change one object on disk."""
        path = self.made[kind][0]
        ds = dcmread(path)
        change(ds)
        ds.save_as(path, enforce_file_format=True)


def ct_output(folder: Path, infection: bool = True, keep: int = 7, said_by: Saying = ct, **changes: object) -> Output:
    sources = builders.ct_series(slices=12, size=48, spacing_mm=(10.0, 6.0, 6.5), **changes)
    drawn = masks(12, 48, infection) & np.uint8(keep)
    selection, said = said_by(sources, infection, masks=drawn)
    made = build(selection, headers_of(sources), said, EVERYTHING, "digest", 1, [], NOW, pictures(sources))
    return write(folder, sources, made, said)


def enhanced_output(folder: Path, saying: Saying = ct) -> Output:
    """Return what is made of an enhanced CT, whose frames are read and written by the very code of the pipeline."""
    image = builders.enhanced_ct(builders.ct_series(slices=12, size=48, spacing_mm=(10.0, 6.0, 6.5)))
    [path] = builders.write([image], folder / "sources")
    frames = frame_headers(path, read_file_header(path))
    sources = read_sources([path] * len(frames), frames)
    _, said = saying(sources, masks=masks(12, 48))
    selection = choose([read_file_header(path)], GeometryRules(5, 12.0), lambda a, b: True, lambda _: frames)
    shown = {h.sop_instance_uid: np.zeros((48, 48), np.float32) for h in frames}
    return write(folder, [image], build(selection, sources, said, EVERYTHING, "digest", 1, [], NOW, shown), said)


def cxr_output(folder: Path, *sources: Dataset, present: bool = True, said_by: Saying = cxr) -> Output:
    selection, said = said_by(sources, present)
    made = build(selection, headers_of(sources), said, EVERYTHING, "digest", 1, [], NOW, pictures(sources))
    return write(folder, list(sources), made, said)


def refusal_output(folder: Path, sources: list[Dataset]) -> Output:
    made = build_refusal(
        sources[0], sources, Reason.SLICES_TOO_THICK, "slices are 7 mm apart", STYLE, "digest", [], NOW)
    return write(folder, sources, made, None)


def headers_of(sources: Iterable[Dataset]) -> list[Dataset]:
    """Return the sources as the pipeline reads them: without pixels."""
    headers = []
    for source in sources:
        made = Dataset()
        made.update({e.tag: e for e in source if e.keyword != "PixelData"})
        headers.append(made)
    return headers


def write(folder: Path, sources: list[Dataset], made: list, said: Assessment | None) -> Output:  # type: ignore[type-arg]
    files: dict[str, list[Path]] = {}
    for number, one in enumerate(made):
        path = folder / f"{one.kind}{number}.dcm"
        folder.mkdir(parents=True, exist_ok=True)
        one.dataset.save_as(path, enforce_file_format=True)
        files.setdefault(one.kind, []).append(path)
    return Output(builders.write(sources, folder / "sources"), files, said)


def few_attributes() -> Dataset:
    """A CR as old readers write it: most type 2 attributes are not there, the sex and dates are not valid."""
    return builders.radiograph(
        sop_class="CR", PatientOrientation=None, ViewPosition=None, BodyPartExamined=None, StudyID=None,
        AccessionNumber=None, ReferringPhysicianName=None, PatientBirthDate=None, StudyTime="", PatientName="",
        StudyDescription=None, SoftwareVersions=None, Manufacturer=None, SpecificCharacterSet=None)


CASES: dict[str, Callable[[Path], Output]] = {
    "ct with infection": ct_output,
    "ct without infection": lambda f: ct_output(f, infection=False),
    "ct with one lung": lambda f: ct_output(f, keep=6),
    "ct in which nothing was drawn": lambda f: ct_output(f, keep=0),
    "ct without thickness, study time and id": lambda f: ct_output(
        f, SliceThickness=None, StudyTime="", StudyID="", PatientName="", PatientBirthDate=""),
    "ct with names in UTF-8": lambda f: ct_output(f, PatientName="Müller^Zoë=山田^太郎", PatientID="Ä-17"),
    "ct with lossy pixels": lambda f: ct_output(
        f, LossyImageCompression="01", LossyImageCompressionRatio="12.5", LossyImageCompressionMethod="ISO_10918_1"),
    "ct of one enhanced object": enhanced_output,
    "ct of one enhanced object by two bundles": lambda f: enhanced_output(f, ct_by_two),
    "dx": lambda f: cxr_output(f, builders.radiograph()),
    "dx without finding": lambda f: cxr_output(f, builders.radiograph(), present=False),
    "two dx": lambda f: cxr_output(f, builders.radiograph(), builders.radiograph(instance=2, ViewPosition="AP")),
    "monochrome1": lambda f: cxr_output(f, builders.radiograph(PhotometricInterpretation="MONOCHROME1",
                                                               PresentationLUTShape="INVERSE")),
    "cr with few attributes": lambda f: cxr_output(f, few_attributes()),
    "ct by two bundles": lambda f: ct_output(f, said_by=ct_by_two),
    "ct by two bundles without infection": lambda f: ct_output(f, infection=False, said_by=ct_by_two),
    "dx by two bundles": lambda f: cxr_output(f, builders.radiograph(), said_by=cxr_by_two),
    "two dx by two bundles without finding": lambda f: cxr_output(
        f, builders.radiograph(), builders.radiograph(instance=2), present=False, said_by=cxr_by_two),
    "refused ct": lambda f: refusal_output(f, builders.ct_series(slices=3, size=16)),
    "refused cr": lambda f: refusal_output(f, [few_attributes()]),
}
