"""What decoding apart costs: python -m tests.benchmarks.decoding [--quick]

Each row is a ratio of rounds that follow each other: compressed CT slices of 512 x 512 decoded in warm processes of their
own (service.prepare.decoders), over the same slices decoded in this one, both by two threads, as a volume is. Ends with 1
when the ratio of a slice exceeds its limit.
"""

from __future__ import annotations

import argparse
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from service.metrics import Metrics
from service.prepare.codestream import FrameDecoder, FrameShape, decode_frame
from service.prepare.decoders import Decoders
from tests.benchmarks.models import SYNTAXES
from tests.builders import chest, phantom_hu

SIDE = 512
LIMIT = 1.5
"""Of a volume by two threads. What each frame pays: two copies, two messages, two switches of process."""

tell = partial(print, flush=True)


def slices(count: int) -> list[NDArray[np.uint16]]:
    """Return CT-like slices: a phantom with the noise of a scanner."""
    spacing_mm = (300.0 / count, 0.7, 0.7)
    volume = phantom_hu(count, spacing_mm, SIDE, chest(count, spacing_mm, SIDE))
    noise = np.random.default_rng(1).normal(0, 12, volume.shape)
    return [(plane + 1024).clip(0, 4095).astype(np.uint16) for plane in volume + noise]


def seconds(decoder: FrameDecoder, codestreams: list[bytes], syntax: str, threads: int) -> float:
    """Decode all of them and return the time it took."""
    shape = FrameShape(SIDE, SIDE, 1, 2)
    with ThreadPoolExecutor(threads) as pool:
        began = time.perf_counter()
        for _ in pool.map(lambda codestream: decoder(codestream, syntax, shape), codestreams):
            pass
        return time.perf_counter() - began


def main() -> int:
    """Measure and print; return 1 when a ratio exceeds its limit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer slices and rounds; nothing is judged")
    quick = parser.parse_args().quick
    count, rounds = (8, 1) if quick else (60, 7)
    planes, decoders, late = slices(count), Decoders(Metrics(), 2), False
    began = time.perf_counter()
    decoders.warm()
    first = bytes(imagecodecs.jpegls_encode(planes[0]))
    seconds(decoders, [first, first], SYNTAXES["JPEG-LS"][0], 2)
    tell(f"two processes started, and their first frames, in {1000 * (time.perf_counter() - began):.0f} ms, once")
    for name, (syntax, encode) in SYNTAXES.items():
        codestreams = [bytes(encode(plane)) for plane in planes]
        for threads in (1, 2):
            found = [(seconds(decode_frame, codestreams, syntax, threads), seconds(decoders, codestreams, syntax, threads))
                     for _ in range(rounds)]
            ratios = [apart / here for here, apart in found]
            here_ms, apart_ms = (1000 * statistics.median(times) / count for times in zip(*found, strict=True))
            ratio = statistics.median(ratios)
            late |= threads == 2 and ratio > LIMIT
            tell(f"{name:<16} threads: {threads}  here {here_ms:6.2f}, apart {apart_ms:6.2f} ms a slice, "
                 f"ratio {ratio:.2f} [{min(ratios):.2f}-{max(ratios):.2f}]")
    decoders.close()
    return int(late and not quick)


if __name__ == "__main__":
    raise SystemExit(main())
