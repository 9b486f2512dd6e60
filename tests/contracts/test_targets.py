"""What every target promises: all of a result, or an error of ours. A new kind of target joins `KINDS`."""

from __future__ import annotations

import logging
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread

from service.deliver.target import Parcel
from service.errors import Defect, FirstlookError, PeerUnavailable, RefusedByPeer
from service.report.build import build
from tests import builders
from tests.contracts.assessed import NOW, STYLE, cxr_by_two, pictures
from tests.contracts.receivers import Hl7, Hook, OAuthStow, Pacs, Receiver, SecurePacs, Share, Stow

KINDS: dict[str, Callable[[Path], Receiver]] = {
    "cstore": lambda _: Pacs(), "cstore with tls": lambda path: SecurePacs(folder=path / "certificates"),
    "stow": lambda _: Stow(), "stow with oauth": lambda _: OAuthStow(), "folder": lambda path: Share(folder=path / "share"),
    "hl7": lambda _: Hl7(), "webhook": lambda _: Hook()}
TELLS = ("hl7", "webhook")  # of the report alone
ANSWERING = [kind for kind in KINDS if kind != "folder"]  # a folder neither refuses nor stalls
ADMITTING = ["cstore", "cstore with tls", "stow", "stow with oauth", "webhook"]  # HL7 over plain TCP knows no credentials


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Files of a result: picture and report of a radiograph."""
    folder = tmp_path_factory.mktemp("result")
    sources = [builders.radiograph(sop_class="DX", size=256)]
    selection, assessment = cxr_by_two(sources)
    paths = []
    for one in build(selection, sources, assessment, STYLE, "d" * 64, 1, [], NOW, pictures(sources)):
        paths.append(folder / f"{one.kind}.dcm")
        one.dataset.save_as(paths[-1], enforce_file_format=True)
    return paths


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """One kind of target after the other."""
    return str(request.param)


@pytest.fixture
def receiver(kind: str, tmp_path: Path) -> Iterator[Callable[..., Receiver]]:
    """Start receivers that do as they are told."""
    with ExitStack() as stack:
        def start(does: str = "well") -> Receiver:
            one = KINDS[kind](tmp_path)
            one.does = does
            stack.enter_context(one.running())
            return one

        yield start


@pytest.fixture
def parcel(kind: str, made: list[Path]) -> Parcel:
    """The result as this kind of target gets it."""
    report = made[-1]
    return Parcel(paths=(report,) if kind in TELLS else tuple(made), report=report, urgency="urgent", revision=1)


def uids(parcel: Parcel) -> list[str]:
    """Return the SOP Instance UIDs of a parcel."""
    return [str(dcmread(path, stop_before_pixels=True).SOPInstanceUID) for path in parcel.paths]


def held(one: Receiver) -> int:
    """Return how many different things a receiver holds."""
    return len(list(one.folder.iterdir())) if isinstance(one, Share) else len(one.taken)


def test_a_result_is_delivered_as_a_whole(kind, receiver, parcel):
    one = receiver()
    assert one.target().deliver(parcel) == uids(parcel)
    assert held(one) == (1 if kind in TELLS else 2)


def test_delivering_again_does_no_harm(receiver, parcel):
    one = receiver()
    target = one.target()
    assert target.deliver(parcel) == target.deliver(parcel)
    assert held(one) == len(parcel.paths)


def test_nothing_to_deliver_is_no_work(receiver):
    one = receiver()
    assert one.target(away=True).deliver(Parcel(())) == []
    assert held(one) == 0


@pytest.mark.parametrize("kind", ANSWERING)
@pytest.mark.parametrize(("does", "error"), [
    ("refuse", RefusedByPeer), ("busy", PeerUnavailable), ("stall", PeerUnavailable), ("break", PeerUnavailable),
    ("nonsense", FirstlookError)])
def test_a_fault_of_the_other_side_becomes_an_error_of_ours_in_time_and_a_later_try_succeeds(
    receiver, parcel, does, error,
):
    one = receiver(does)
    began = time.monotonic()
    with pytest.raises(error, match="place") as raised:
        one.target().deliver(parcel)
    assert time.monotonic() - began < 20
    assert isinstance(raised.value, (RefusedByPeer, PeerUnavailable)) and held(one) == 0
    one.does = "well"
    one.free.set()
    assert one.target().deliver(parcel) == uids(parcel)


def test_nobody_there_may_be_tried_again(receiver, parcel):
    with pytest.raises(PeerUnavailable, match="place"):
        receiver().target(away=True).deliver(parcel)


@pytest.mark.parametrize("kind", ADMITTING)
def test_wrong_credentials_are_told_to_the_administrator_and_may_be_tried_again(receiver, parcel):
    one = receiver()
    with pytest.raises(PeerUnavailable, match=r"credentials were refused|calling AE title|refused the TLS handshake|client"):
        one.target(credentials=True).deliver(parcel)
    assert held(one) == 0


@pytest.mark.parametrize("content", [None, b"not DICOM"])
def test_a_file_of_ours_that_cannot_be_read_is_our_defect(receiver, tmp_path, content):
    path = tmp_path / "gone.dcm"
    if content is not None:
        path.write_bytes(content)
    one = receiver()
    with pytest.raises(Defect):
        one.target().deliver(Parcel((path,), report=path))
    assert held(one) == 0


def test_echo_answers_or_says_that_the_target_is_away(receiver):
    one = receiver()
    one.target().echo()
    with pytest.raises(PeerUnavailable):
        one.target(away=True).echo()
    assert held(one) == 0


def test_logs_and_errors_hold_no_patient_and_no_text_of_the_other_side(receiver, parcel, caplog):
    one = receiver()
    with caplog.at_level(logging.DEBUG, logger="firstlook"):
        one.target().deliver(parcel)
    written = "\n".join(str(vars(r)) for r in caplog.records if r.name.startswith("firstlook"))
    assert "place" in written
    assert not any(text in written for text in ("Test^Patient", "P0002", "19600101", "1960-01-01", "good-token"))


def test_a_disk_that_fills_up_half_way_leaves_nothing_behind(tmp_path, made):
    one = Share(folder=tmp_path / "share")
    with one.running():
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
        try:
            with pytest.raises(PeerUnavailable, match="cannot be written"):
                one.target().deliver(Parcel(tuple(made)))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert list(one.folder.iterdir()) == []
        one.target().deliver(Parcel(tuple(made)))
        assert sorted(p.read_bytes() for p in one.folder.iterdir()) == sorted(p.read_bytes() for p in made)


def test_what_a_store_takes_is_what_was_made_to_the_byte(made):
    one: Any = Stow()
    with one.running():
        one.target().deliver(Parcel(tuple(made)))
        assert sorted(one.taken.values()) == sorted(path.read_bytes() for path in made)
