"""How soon the first picture of a study is there: python -m tests.benchmarks.pictures [--quick]

A CT of 300 slices, 512 x 512, each compressed without loss, and its result lie in a store; a server serves them over
loopback. Asked for are, one after the other as a browser asks: the study page, then the picture of the slice with most
of the finding and what is marked on it, over the same slice as a PNG file from the server's own static files. "cold" is the
first time that anybody looks at the study. With Chromium there is a row for the click in the list until the picture is on
the canvas, over the same for a bare page with the slice as a PNG file. The plain decode of the slice is told too. Ends with
1 when a ratio exceeds its limit.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import httpx
import imagecodecs
import numpy as np
from fastapi.staticfiles import StaticFiles
from pydicom import dcmread
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGLSLossless
from sqlmodel import select

from service.metrics import Metrics
from service.prepare.codestream import decode_frame
from service.prepare.pixels import decode
from service.store.database import Database
from service.store.tables import Instance
from service.web.app import WebStyle, create_app
from tests.browser import pictured
from tests.browser.chromium import browser, executable, new_tab
from tests.browser.served import served

NOW = time.time()
LIMITS = {"page and picture, cold": 60.0, "page and picture": 8.0, "next slice": 4.0, "click to picture": 4.0}
"""Of the ratio to a static file; of the click, to that on a page with a PNG file. Page and picture are three requests."""

tell = partial(print, flush=True)


def milliseconds(do: Callable[[], object], rounds: int) -> float:
    """Return the median time of doing something."""
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        do()
        times.append(1000 * (time.perf_counter() - began))
    return statistics.median(times)


def compress(folder: Path) -> None:
    """Compress every slice without loss (JPEG-LS), in place."""
    for path in (folder / "spool" / str(pictured.CT)).iterdir():
        ds = dcmread(path)
        stored = np.frombuffer(ds.PixelData, "<u2").reshape(ds.Rows, ds.Columns)
        ds.PixelData = encapsulate([imagecodecs.jpegls_encode(stored)])
        ds["PixelData"].VR = "OB"
        ds.file_meta.TransferSyntaxUID = JPEGLSLossless
        ds.save_as(path, enforce_file_format=True)


def by_requests(address: str, uid: str, slice_path: Path, static: str, rounds: int) -> dict[str, tuple[float, float]]:
    """Return milliseconds of what a page asks for, and those of a static file."""
    with httpx.Client(base_url=address, trust_env=False, timeout=60) as http:
        got: dict[str, object] = {}

        def first() -> None:
            assert "data-view" in http.get(f"/studies/{uid}").text
            view = got.get("view") or http.get(f"/studies/{uid}/view").json()
            got["view"] = view
            for what in ("pixels", "marks"):
                answer = http.get(f"/studies/{uid}/{what}/{view['token']}/0/axial/{view['stacks'][0]['start']}")
                assert answer.status_code == 200 and answer.content

        def following(at: list[int]) -> None:
            at[0] += 1
            for what in ("pixels", "marks"):
                assert http.get(f"/studies/{uid}/{what}/{got['view']['token']}/0/axial/{at[0]}").status_code == 200  # type: ignore[index]

        http.get("/health/live")
        cold = milliseconds(first, 1)
        warm, after = milliseconds(first, rounds), milliseconds(partial(following, [20]), rounds)
        plain = milliseconds(lambda: decode(slice_path, decoder=decode_frame), rounds)
        file = milliseconds(lambda: http.get(static).raise_for_status(), rounds)
    tell(f"plain decode of the slice {plain:.1f} ms, the slice as a static file {file:.1f} ms")
    return {"page and picture, cold": (cold, file), "page and picture": (warm, file), "next slice": (after, file)}


def by_click(address: str, uid: str, rounds: int) -> tuple[float, float]:
    """Return milliseconds from the click in the list to the picture on the canvas, and to a PNG file on a bare page."""
    painted = "requestAnimationFrame(() => requestAnimationFrame(() => ok(performance.timeOrigin + performance.now())))"
    ours, theirs = [], []
    with browser() as chromium, new_tab(chromium) as tab:
        for _ in range(rounds + 1):
            tab.open(f"{address}/?shown=all")
            clicked = tab.ask(f"(() => {{ const at = performance.timeOrigin + performance.now();"
                              f"document.querySelector(\"tr[data-uid='{uid}'] a\").click(); return at; }})()")
            tab.wait("document.getElementById('viewer')?.dataset.drawn")
            drawn = tab.ask("performance.timeOrigin + Number(document.getElementById('viewer').dataset.drawn)")
            ours.append(drawn - clicked)
            tab.open(f"{address}/files/list.html")
            clicked = tab.ask("(() => { const at = performance.timeOrigin + performance.now();"
                              "document.querySelector('a').click(); return at; })()")
            tab.wait("location.pathname.endsWith('one.html') && document.images[0]?.complete")
            theirs.append(tab.ask(f"document.images[0].decode().then(() => new Promise(ok => {painted}))") - clicked)
    return statistics.median(ours[1:]), statistics.median(theirs[1:])


def main() -> int:
    """Measure and print; return 1 when something exceeds its limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer slices and rounds; nothing is judged")
    quick = parser.parse_args().quick
    slices, size, rounds, late = (40, 128, 2, False) if quick else (300, 512, 15, False)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        database = Database(f"sqlite:///{folder / 'pictures.db'}")
        database.migrate()
        uid, _ = pictured.fill(database, NOW, folder, slices, size)
        compress(folder)
        app = create_app(database, Metrics(), lambda: NOW, WebStyle(), tuple, folder / "results",
                         viewer=pictured.viewer(folder))
        with database.reading() as session:
            path = folder / "spool" / session.exec(select(Instance.path).order_by(Instance.path)).all()[slices // 2]
        files = folder / "files"
        files.mkdir()
        grey = np.clip((decode(path, decoder=decode_frame).astype(np.float32) - 424) / 6, 0, 255).astype(np.uint8)
        (files / "one.png").write_bytes(cv2.imencode(".png", grey)[1].tobytes())
        (files / "list.html").write_text("<a href='one.html'>one</a>", encoding="utf-8")
        (files / "one.html").write_text("<img src='one.png'>", encoding="utf-8")
        app.mount("/files", StaticFiles(directory=files))
        with served(app) as address:
            rows = by_requests(address, uid, path, "/files/one.png", rounds)
            if executable():
                rows["click to picture"] = by_click(address, uid, rounds)
        database.close()
    for what, (ours, peer) in rows.items():
        late |= ours / peer > LIMITS[what]
        tell(f"{what:<26} {ours:7.1f} ms over {peer:6.1f} ms, ratio {ours / peer:5.1f}")
    return int(late and not quick)


if __name__ == "__main__":
    raise SystemExit(main())
