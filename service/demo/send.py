"""Send DICOM files to a peer, one association for each study."""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from pydicom import dcmread
from pydicom.errors import InvalidDicomError
from rich.console import Console

from service.deliver.cstore import CStoreTarget
from service.errors import FirstlookError

_ADDRESS = re.compile(r"(?P<aet>[^@]{1,16})@(?P<host>[^@:]+|\[[^\]]+\]):(?P<port>\d{1,5})")


def studies_in(paths: Sequence[Path]) -> dict[str, list[Path]]:
    """Return the DICOM files of the paths (folders are searched) by Study Instance UID, in order of their names."""
    found: dict[str, list[Path]] = defaultdict(list)
    files = [f for p in paths for f in (sorted(p.rglob("*")) if p.is_dir() else [p]) if f.is_file()]
    for file in files:
        try:
            ds = dcmread(file, stop_before_pixels=True, specific_tags=["StudyInstanceUID"])
        except InvalidDicomError:
            continue
        found[str(ds.get("StudyInstanceUID", ""))].append(file)
    return dict(found)


def send(paths: Sequence[Path], address: str, calling_ae_title: str) -> int:
    """Send everything to AET@HOST:PORT; print a line for each study; return 1 when a study was not taken."""
    match = _ADDRESS.fullmatch(address)
    if match is None or not 0 < int(match["port"]) < 65536:
        print(f"firstlook: --to {address!r}: accepted: AET@HOST:PORT", file=sys.stderr)  # noqa: T201
        return 2
    studies = studies_in(paths)
    if not studies:
        print("firstlook: no DICOM file was found", file=sys.stderr)  # noqa: T201
        return 1
    target = CStoreTarget("peer", match["aet"], match["host"].strip("[]"), int(match["port"]), calling_ae_title)
    console, failed = Console(), 0
    for uid, files in studies.items():
        try:
            target.send(files)
            console.print(f"[green]stored[/]  {len(files):4} objects  {uid}")
        except FirstlookError as error:
            failed += 1
            console.print(f"[red]failed[/]  {len(files):4} objects  {uid}: {error.detail or error.reason.sentence}")
    return 1 if failed else 0
