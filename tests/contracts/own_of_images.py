"""Own checks of what has a place on the images: segmentations and their volumes, presentation states, pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import highdicom as hd
import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset

from service.domain import codes
from service.domain.finding import Assessment
from tests.contracts.own_of_reports import groups, name_of
from tests.contracts.tools import dcmqi_voxels


def on_source_grid(seg: Dataset, images: Sequence[Dataset]) -> list[str]:
    """Compare frame of reference, size, orientation and every plane position with the source slices."""
    found = []
    if any(seg.FrameOfReferenceUID != i.FrameOfReferenceUID for i in images):
        found.append("Frame of Reference UID differs from the source")
    if (seg.Rows, seg.Columns) != (images[0].Rows, images[0].Columns):
        found.append("Rows or Columns differ from the source")
    shared = seg.SharedFunctionalGroupsSequence[0]
    cosines = shared.PlaneOrientationSequence[0].ImageOrientationPatient
    if not np.allclose(cosines, images[0].ImageOrientationPatient, atol=1e-6):
        found.append("orientation differs from the source")
    if not np.allclose(shared.PixelMeasuresSequence[0].PixelSpacing, images[0].PixelSpacing, atol=1e-6):
        found.append("Pixel Spacing differs from the source")
    at = {place: np.array(i.ImagePositionPatient, dtype=float) for i in images for place in [_place(i)]}
    for number, frame in enumerate(seg.PerFrameFunctionalGroupsSequence, 1):
        position = np.array(frame.PlanePositionSequence[0].ImagePositionPatient, dtype=float)
        source = frame.DerivationImageSequence[0].SourceImageSequence[0]
        place = str(source.ReferencedSOPInstanceUID), int(source.get("ReferencedFrameNumber") or 0)
        if place not in at or np.abs(at[place] - position).max() > 1e-3:
            found.append(f"frame {number} is not at the position of its source slice")
    listed = [str(r.ReferencedSOPInstanceUID) for s in seg.ReferencedSeriesSequence for r in s.ReferencedInstanceSequence]
    if sorted(listed) != sorted({uid for uid, _ in at}):
        found.append("Referenced Series Sequence does not list the source images")
    return found


def slices_of(image: Dataset) -> list[Dataset]:
    """Return the frames of an enhanced CT as images, by their functional groups; another image as it is."""
    if "PerFrameFunctionalGroupsSequence" not in image:
        return [image]
    made = []
    for number, own in enumerate(image.PerFrameFunctionalGroupsSequence, 1):
        one = Dataset()
        one.update({e.tag: e for e in image if e.VR != "SQ" and e.keyword != "InstanceNumber"})
        for functional in (image.SharedFunctionalGroupsSequence[0], own):
            for group in functional:
                one.update({e.tag: e for e in group.value[0]})
        one.InstanceNumber = number
        made.append(one)
    return made


def _place(image: Dataset) -> tuple[str, int]:
    """Return the SOP Instance UID of a slice and, of a frame, its number."""
    return str(image.SOPInstanceUID), int(image.InstanceNumber) if "NumberOfFrames" in image else 0


def voxels(path: Path, said: Assessment) -> list[str]:
    """Read the SEG back with highdicom and dcmqi and compare each segment's voxels with the mask."""
    try:
        seg = hd.seg.segread(path)
        other = dcmqi_voxels(path, path.parent / f"{path.stem}-dcmqi")
    except (AttributeError, KeyError, ValueError, RuntimeError) as error:
        return [f"it cannot be read back: {error}"[:400]]
    wanted = {s.label: int(said.mask(s).sum()) for s in said.segments if said.mask(s).any()}
    labels = {n: str(seg.get_segment_description(n).SegmentLabel) for n in seg.segment_numbers}
    volume = seg.get_volume(combine_segments=False).array
    found = [] if sorted(labels.values()) == sorted(wanted) else [f"segments {sorted(labels.values())}"]
    for place, number in enumerate(seg.segment_numbers):
        mine, theirs = int(volume[..., place].sum()), other.get(number)
        if {mine, theirs} != {wanted.get(labels[number])}:
            found.append(f"segment {labels[number]}: {mine} and {theirs} voxels, {wanted.get(labels[number])} in the mask")
    return found


def slice_thickness(images: Sequence[Dataset]) -> dict[tuple[float, ...], float]:
    """Return what each slice stands for, mm, by its position: the median distance, or, where distances vary in runs, half
    of the distance to either neighbour."""
    points = np.array([i.ImagePositionPatient for i in images], dtype=float)
    cosines = np.array(images[0].ImageOrientationPatient, dtype=float)
    along = points @ np.cross(cosines[:3], cosines[3:])
    order = np.argsort(along)
    steps = np.diff(along[order])
    median, wide = float(np.median(steps)), int(np.count_nonzero(np.abs(steps - np.median(steps)) > 0.1 * np.median(steps)))
    own = (np.r_[steps[0], steps] + np.r_[steps, steps[-1]]) / 2 if wide > 1 else np.full(len(along), median)
    return {tuple(round(float(v), 2) for v in points[n]): float(t) for n, t in zip(order, own, strict=True)}


def volumes(path: Path, report: Dataset, images: Sequence[Dataset]) -> list[str]:
    """Recompute each volume of the SR from the frames of the SEG it refers to and the distances of their slices."""
    seg = dcmread(path)
    numbers = [int(s.SegmentNumber) for s in seg.SegmentSequence]
    if seg.NumberOfFrames != len(seg.PerFrameFunctionalGroupsSequence):
        return ["frames and functional groups differ"]
    area_mm2 = float(np.prod(seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing))
    thickness = slice_thickness(images)
    found, ml = [], dict.fromkeys(numbers, 0.0)
    for frame, pixels in zip(seg.PerFrameFunctionalGroupsSequence, seg.pixel_array.reshape(-1, seg.Rows, seg.Columns),
                             strict=True):
        position = tuple(round(float(v), 2) for v in frame.PlanePositionSequence[0].ImagePositionPatient)
        number = int(frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
        ml[number] = ml.get(number, 0.0) + int(np.count_nonzero(pixels)) * area_mm2 * thickness.get(position, 0.0) / 1000
    for group in groups(report):
        segment = [i for i in group.ContentSequence if name_of(i) == "121191"]
        said = [i for i in group.ContentSequence if name_of(i) == codes.VOLUME.value]
        for item in said if segment else []:
            number = int(segment[0].ReferencedSOPSequence[0].ReferencedSegmentNumber)
            volume = ml.get(number, 0.0)
            if abs(float(item.MeasuredValueSequence[0].NumericValue) - volume) > 1e-4 * max(volume, 1):
                found.append(f"volume of segment {number} differs from the SEG ({volume:.3f} cm3)")
    return found


def outlined(state: Dataset, images: Sequence[Dataset]) -> list[str]:
    """Check a presentation state: closed lines within an image of the study, its size, and the warning."""
    by_uid = {str(i.SOPInstanceUID): i for i in images}
    found = []
    for annotation in state.get("GraphicAnnotationSequence", []):
        image = by_uid.get(str(annotation.ReferencedImageSequence[0].ReferencedSOPInstanceUID))
        if image is None:
            found.append("an annotation refers to an image that does not exist")
            continue
        area = [int(v) for v in state.DisplayedAreaSelectionSequence[0].DisplayedAreaBottomRightHandCorner]
        if area != [image.Columns, image.Rows]:
            found.append(f"the displayed area is {area}")
        for line in annotation.GraphicObjectSequence:
            points = list(zip(line.GraphicData[::2], line.GraphicData[1::2], strict=True))
            if points[0] != points[-1] or any(not (0 <= x <= image.Columns and 0 <= y <= image.Rows) for x, y in points):
                found.append("an outline is open or leaves its image")
        if not any("NOT FOR DIAGNOSIS" in t.UnformattedTextValue for t in annotation.TextObjectSequence):
            found.append("the warning is missing")
    inverse = images[0].get("PhotometricInterpretation") == "MONOCHROME1"
    if state.PresentationLUTShape != ("INVERSE" if inverse else "IDENTITY"):
        found.append(f"Presentation LUT Shape is {state.PresentationLUTShape}")
    return found


def captured(picture: Dataset, images: Sequence[Dataset]) -> list[str]:
    """Check a picture of ours: marked as burned in, made of images of the study, with something written at its top."""
    known = {str(i.SOPInstanceUID) for i in images}
    found = [] if picture.BurnedInAnnotation == "YES" else ["burned-in text is not declared"]
    if not {str(i.ReferencedSOPInstanceUID) for i in picture.SourceImageSequence} <= known:
        found.append("a picture is made of an image that does not exist")
    if np.count_nonzero(picture.pixel_array[:min(36, max(12, picture.Columns // 24))] > 150) < 100:
        found.append("the warning is not burned in")
    return found
