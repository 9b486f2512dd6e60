"""Results by STOW-RS (PS3.18 10.5): one request with all objects of a result, and its answer for each of them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service import logs
from service.deliver.http import Answer, Caller
from service.deliver.objects import Object, read_object
from service.deliver.target import Parcel
from service.errors import PeerUnavailable, Reason, RefusedByPeer

_BOUNDARY = "firstlook-2f9d1c7ab04e4c5c"
_PIECE_BYTES = 262_144
_REFERENCED, _FAILED = "00081199", "00081198"
_UID, _FAILURE = "00081155", "00081197"
_DUPLICATE = 0x0111  # there already: our UIDs stand for content, so it is the same object
_PASSING = frozenset({0x0110, 0x0213})
_OUT_OF_RESOURCES = range(0xA700, 0xA800)
log = logs.get("deliver.stow")


@dataclass(frozen=True)
class _Part:
    ours: Object
    head: bytes


class StowTarget:
    """A DICOMweb server. url: of the service, without "/studies"."""

    def __init__(self, caller: Caller, url: str) -> None:
        self.name = caller.name
        self._caller = caller
        self._url = url.rstrip("/") + "/studies"

    def deliver(self, parcel: Parcel) -> list[str]:
        """Send all objects in one request and return their SOP Instance UIDs once all are stored.

        A warning counts as stored, and so does an object that was there already. Raises: RefusedByPeer when the server
        will never take one; PeerUnavailable when it is away, refuses our credentials or gives no clear answer; Defect.
        """
        parts = [_part(path) for path in parcel.paths]
        if not parts:
            return []
        end = f"--{_BOUNDARY}--\r\n".encode()
        size = sum(len(p.head) + p.ours.size_bytes + 2 for p in parts) + len(end)
        headers = {
            "Content-Type": f'multipart/related; type="application/dicom"; boundary={_BOUNDARY}',
            "Content-Length": str(size), "Accept": "application/dicom+json",
        }
        answer = self._caller.call("POST", self._url, headers, lambda: _body(parts, end))
        uids = [p.ours.sop_instance for p in parts]
        log.info("objects sent", extra={"target": self.name, "objects": len(uids), "status": answer.status})
        self._judge(answer, uids)
        return uids

    def echo(self) -> None:
        """Search for one study. A server that only stores may refuse that; then it answers all the same."""
        answer = self._caller.call("GET", self._url + "?limit=1", {"Accept": "application/dicom+json"})
        if answer.status in (401, 403) or answer.status >= 500 or answer.status == 404 or 300 <= answer.status < 400:
            raise self._caller.failure(answer.status, "a search")

    def _judge(self, answer: Answer, uids: Sequence[str]) -> None:
        """Return when every object is stored. Table 10.5.3-1: 200 all, 202 some or with warnings, 409 none."""
        if answer.status not in (200, 202, 409):
            raise self._caller.failure(answer.status, "the objects")
        told = _told(answer)
        if told is None:
            if answer.status == 200:
                return
            raise self._caller.unavailable(f"HTTP {answer.status} without a list of what was stored")
        failed = {uid: reason for uid, reason in told.failed.items() if reason != _DUPLICATE}
        ours = {uid: reason for uid, reason in failed.items() if uid in uids or not uid}
        if ours:
            raise self._failure(ours, len(uids))
        silent = set(uids) - told.stored - told.failed.keys()
        if silent:  # with 200, too: a server may drop what it does not understand and call that success
            raise self._caller.unavailable(f"HTTP {answer.status}: it says nothing of {len(silent)} of {len(uids)} objects")

    def _failure(self, failed: Mapping[str, int], count: int) -> PeerUnavailable | RefusedByPeer:
        codes = ", ".join(f"0x{code:04X}" for code in sorted(set(failed.values())))
        what = f"{len(failed)} of {count} objects were not stored, failure reason {codes}"
        if all(code in _PASSING or code in _OUT_OF_RESOURCES for code in failed.values()):
            return self._caller.unavailable(what)
        return RefusedByPeer(Reason.PEER_REFUSED, f"{self.name}: {what}")


@dataclass(frozen=True)
class _Told:
    """What a Store Instances Response says: the objects stored, and the Failure Reason of those that were not."""

    stored: frozenset[str]
    failed: Mapping[str, int]


def _told(answer: Answer) -> _Told | None:
    """Read the response (PS3.18 I.2.2, DICOM JSON); None where it is none."""
    try:
        tree: Any = json.loads(answer.body)
    except (ValueError, RecursionError):
        return None
    if isinstance(tree, list) and len(tree) == 1:
        tree = tree[0]
    if not isinstance(tree, dict) or not (_REFERENCED in tree or _FAILED in tree):
        return None
    stored = frozenset(str(_first(i, _UID)) for i in _items(tree, _REFERENCED))
    failed = {str(_first(i, _UID) or ""): _number(_first(i, _FAILURE)) for i in _items(tree, _FAILED)}
    return _Told(stored, failed)


def _items(tree: Any, tag: str) -> list[Any]:
    element = tree.get(tag) if isinstance(tree, dict) else None
    value = element.get("Value") if isinstance(element, dict) else None
    return value if isinstance(value, list) else []


def _first(item: Any, tag: str) -> Any:
    return next(iter(_items(item, tag)), None)


def _number(value: Any) -> int:
    return value & 0xFFFF if isinstance(value, int) else 0xC000


def _part(path: Path) -> _Part:
    """Prepare a part of the request. Its type names no transfer syntax: some servers drop a part whose type does."""
    return _Part(read_object(path), f"--{_BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n".encode())


def _body(parts: Sequence[_Part], end: bytes) -> Iterator[bytes]:
    """Yield the request in pieces, so that no object is in memory as a whole."""
    for part in parts:
        yield part.head
        with part.ours.path.open("rb") as file:
            while piece := file.read(_PIECE_BYTES):
                yield piece
        yield b"\r\n"
    yield end
