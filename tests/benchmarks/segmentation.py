"""What building a SEG costs: python -m tests.benchmarks.segmentation [--quick]

300 slices of 512 x 512 with three segments, of which one lies in another: built and saved by us from one bit for each
segment, and by highdicom's own constructor from a mask of four axes, each in a process of its own, one after the other.
Each row is a ratio of rounds that follow each other. Ends with 1 when a ratio exceeds its limit, or when a voxel does not
come back.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Callable
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
from highdicom.seg import Segmentation
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from service.report.document import Context
from service.report.identity import equipment_of
from service.report.segmentation import describe, drawn, grid, segmentation
from tests import builders
from tests.contracts.assessed import CT_BUNDLE, NOW, SEGMENTS, STYLE, ct, geometry

SECONDS_LIMIT, MEMORY_LIMIT = 0.25, 0.25
tell = partial(print, flush=True)


def sources(slices: int, side: int) -> list[Dataset]:
    """Return CT slices without pixels."""
    made = []
    first = builders.ct_series(slices=1, size=8)[0]
    del first.PixelData
    for k in range(slices):
        one = Dataset()
        one.update({e.tag: e for e in first if e.keyword not in ("SOPInstanceUID", "ImagePositionPatient")})
        one.SOPInstanceUID, one.ImagePositionPatient = builders.uid(1, 1, 1, k + 1), [0, 0, 1.25 * k]
        made.append(one)
    made[0].Rows = made[0].Columns = side  # the element is shared by all
    return made


def lungs(slices: int, side: int) -> NDArray[np.uint8]:
    """Return (z, y, x) bits: two lungs with edges as rough as a network draws them, and an infection in a third of them."""
    random = np.random.default_rng(1)
    y, x = np.mgrid[0:side, 0:side] / side
    made = np.zeros((slices, side, side), np.uint8)
    for k in range(2, slices - 2):
        edge = 0.01 * random.standard_normal((side, side))
        for bit, middle in ((1, 0.3), (2, 0.7)):
            made[k] |= ((((x - middle) / 0.17) ** 2 + ((y - 0.5) / 0.3) ** 2 + edge) < 1).astype(np.uint8) * np.uint8(bit)
        if slices // 3 < k < 2 * slices // 3:
            made[k] |= ((made[k] & 1 != 0) & (y > 0.55)).astype(np.uint8) * np.uint8(4)
    return made


def ours(images: list[Dataset], masks: NDArray[np.uint8]) -> Dataset:
    """Build the SEG as the service does."""
    found = drawn(ct(images, masks=masks)[1])
    assert found is not None
    return segmentation(_context(images), images, geometry(images), found).dataset


def theirs(images: list[Dataset], masks: NDArray[np.uint8]) -> Dataset:
    """Build a SEG of the same segments from (z, y, x, segment), as highdicom's documentation does."""
    context = _context(images)
    planes = np.stack([(masks >> n) & np.uint8(1) for n in range(len(SEGMENTS))], axis=-1)
    return Segmentation(
        source_images=grid(images, geometry(images)), pixel_array=planes, segmentation_type="BINARY",
        segment_descriptions=[describe(s, context) for s in SEGMENTS], transfer_syntax_uid=ExplicitVRLittleEndian,
        omit_empty_frames=True, manufacturer="m", manufacturer_model_name="n", software_versions="1",
        device_serial_number="1", **context.series("seg"))


def _context(images: list[Dataset]) -> Context:
    return Context(source=images[0], style=STYLE, equipment=equipment_of(CT_BUNDLE, "0"), key=("benchmark",), now=NOW,
                   modality="CT", urgent=False)


def _peak_bytes() -> int:
    status = Path("/proc/self/status").read_text()
    return 1024 * int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])


def _measure(build: Callable[..., Dataset], slices: int, side: int, answer: Any) -> None:
    build(sources(6, 32), lungs(6, 32))  # what is loaded once is not counted
    images, masks = sources(slices, side), lungs(slices, side)
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before, began = _peak_bytes(), time.perf_counter()
    made = build(images, masks)
    built_s = time.perf_counter() - began
    buffer = BytesIO()
    made.save_as(buffer, enforce_file_format=True)
    took_s, peak = time.perf_counter() - began, _peak_bytes() - before
    buffer.seek(0)
    back = hd.seg.segread(buffer).get_pixels_by_source_instance(
        [str(i.SOPInstanceUID) for i in images], ignore_spatial_locations=True, assert_missing_frames_are_empty=True)
    exact = all(np.array_equal(back[..., n], (masks >> n) & 1) for n in range(len(SEGMENTS)))
    answer.send((built_s, took_s, peak, int(made.NumberOfFrames), len(buffer.getbuffer()), exact))


def measured(build: Callable[..., Dataset], slices: int, side: int) -> tuple[float, float, int, int, int, bool]:
    """Return seconds to build, seconds with saving, bytes over the base, frames, bytes of the file, exactness."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_measure, args=(build, slices, side, there))
    process.start()
    found: tuple[float, float, int, int, int, bool] = here.recv()
    process.join()
    return found


def main() -> int:
    """Measure and print; return 1 when a ratio exceeds its limit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a small volume, once; only exactness is judged")
    quick = parser.parse_args().quick
    slices, side, rounds = (20, 64, 1) if quick else (300, 512, 3)
    pairs = [(measured(ours, slices, side), measured(theirs, slices, side)) for _ in range(rounds)]
    mine, other = pairs[0]
    tell(f"{slices} slices of {side} x {side}, {mine[3]} frames, {mine[4] / 1e6:.1f} MB; highdicom's: {other[3]} frames")
    seconds = [a[1] / b[1] for a, b in pairs]
    memory = [a[2] / b[2] for a, b in pairs]
    for who, n in (("ours", 0), ("highdicom of a 4-D mask", 1)):
        built, took, peak = (statistics.median(pair[n][k] for pair in pairs) for k in (0, 1, 2))
        tell(f"{who:<24} built in {built:.2f} s, built and saved in {took:.2f} s, {peak / 1e6:.0f} MB over the base")
    for what, ratios, limit in (("seconds", seconds, SECONDS_LIMIT), ("memory", memory, MEMORY_LIMIT)):
        tell(f"{what:<10} ratio {statistics.median(ratios):.2f} [{min(ratios):.2f}-{max(ratios):.2f}], limit {limit}")
    exact = all(pair[n][5] for pair in pairs for n in (0, 1))
    tell("every voxel comes back" if exact else "NOT EVERY VOXEL COMES BACK")
    late = statistics.median(seconds) > SECONDS_LIMIT or statistics.median(memory) > MEMORY_LIMIT
    return int(not exact or (late and not quick))


if __name__ == "__main__":
    raise SystemExit(main())
