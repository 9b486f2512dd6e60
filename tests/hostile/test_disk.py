"""No room: senders are told so, readiness is false, nothing acknowledged is lost, and with room all goes on."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.sop_class import Verification

from service.domain.job import StudyState
from service.errors import Reason
from tests.builders import ct_series, radiograph, uid
from tests.hospital import TINY, Hospital, hospital, tiny_models
from tests.hostile.test_receive import both_paths as both_paths
from tests.peers import FAST_PATH, HOST, Link, Raw, Station, free_port, listening, store, wait_until

NORMAL = Raw.of(radiograph(patient=9, size=16))
LOCAL_LIMIT_EXCEEDED = (2, 3, 2)
CONTEXT = [(NORMAL.sop_class_uid, ExplicitVRLittleEndian)]


def asked(station: Station, abstract_syntax: str) -> tuple[int, int, int] | None:
    """Ask for an association; return what it was rejected with, None when it was accepted."""
    entity = AE("MODALITY")
    entity.add_requested_context(abstract_syntax)
    association = entity.associate(HOST, station.port, ae_title="FIRSTLOOK")
    if association.is_established:
        association.release()
        return None
    answer = association.acceptor.primitive
    return answer.result, answer.result_source, answer.diagnostic


def test_below_the_mark_senders_are_rejected_for_now_and_echoes_are_answered(tmp_path: Path) -> None:
    with listening(tmp_path, min_free_bytes=1 << 62) as station:
        assert asked(station, CTImageStorage) == LOCAL_LIMIT_EXCEEDED
        assert asked(station, Verification) is None
        assert station.counted("firstlook_associations_total", outcome="rejected") == 1
        station.spool.min_free_bytes = 0
        assert store(station.port, NORMAL) == [0]


def test_a_disk_that_runs_low_on_an_association_refuses_the_image_and_the_association_goes_on(tmp_path: Path) -> None:
    with listening(tmp_path) as station, Link(station.port, CONTEXT) as link:
        station.spool.min_free_bytes = 1 << 62
        assert link.store(NORMAL) == 0xA700
        assert list(station.spool.files()) == []
        station.spool.min_free_bytes = 0
        assert link.store(NORMAL) == 0


def test_readiness_is_false_below_the_mark(tmp_path: Path) -> None:
    port = free_port()
    with hospital(tmp_path, infer=TINY | {"models_dir": tiny_models(tmp_path / "models")}, web={"port": port},
                  receive={"min_free_bytes": 1 << 62}):
        said = httpx.get(f"http://{HOST}:{port}/health/ready")
    assert said.status_code == 503
    assert [c["name"] for c in said.json()["checks"] if not c["ok"]] == ["disk"]


@contextmanager
def small_disk(folder: Path, size_kib: int) -> Iterator[Path]:
    """Mount a small file system of its own; skip where that is not allowed."""
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size_kib}k", "none", folder],
                             capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("a file system can only be mounted by root with the right to mount")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def free_bytes(folder: Path) -> int:
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize


@contextmanager
def filled(disk: Path, left_bytes: int) -> Iterator[None]:
    """Fill a disk but for so many bytes."""
    ballast = disk / "ballast"
    with ballast.open("wb") as file:
        while (room := free_bytes(disk) - left_bytes) >= 4096:
            file.write(bytes(min(room, 65536)))
            file.flush()
    yield
    ballast.unlink()


def acknowledged(running: Hospital, raws: list[Raw]) -> dict[str, int | None]:
    """Send images, each on an association of its own; return the status by SOP Instance UID."""
    assert running.app.listener is not None
    return {raw.sop_instance_uid: store(running.app.listener.port, raw)[0] for raw in raws}


def test_a_disk_that_is_really_full_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    """Images, rows and results share a disk of 24 MB, all of which is filled but for a few images' room."""
    first = [Raw.of(radiograph(patient=p)) for p in range(1, 5)]
    then = [Raw.of(radiograph(patient=p)) for p in range(5, 25)]
    work = {"first_wait_s": 0.1, "wait_factor": 1.0, "lease_s": 2.0}
    with small_disk(tmp_path / "disk", 24_000) as disk, hospital(
            tmp_path, infer=TINY | {"models_dir": tiny_models(tmp_path / "models")}, work=work,
            store={"data_dir": disk / "data"},
            receive={"port": 0, "any_calling_ae": True, "min_free_bytes": 0,
                     "fast_path": os.environ.get(FAST_PATH) != "false"}) as running:
        said = acknowledged(running, first)
        assert set(said.values()) == {0}
        with filled(disk, 900_000):
            said |= acknowledged(running, then)
            refused = [uid for uid, status in said.items() if status]
            assert refused and {said[uid] for uid in refused} == {0xA700}
            assert len(refused) < len(then), "some still had room"
        said |= acknowledged(running, [raw for raw in then if raw.sop_instance_uid in refused])
        assert set(said.values()) == {0}
        for patient in range(1, 25):
            wait_until(lambda patient=patient: running.delivered(uid(patient, 1)), 120)
            assert running.study(uid(patient, 1)).state == StudyState.ASSESSED
            assert sorted(o.kind for o in running.objects(uid(patient, 1))) == ["sc", "sr"]
        assert not list((disk / "data").rglob("*.part"))


@pytest.mark.parametrize(("limits", "kept"), [({"max_study_images": 5}, 5), ({"max_study_bytes": 5 * 36_000}, 5)],
                         ids=["images", "bytes"])
def test_a_study_that_is_too_large_is_refused_from_there_on_and_said_to_be(
        tmp_path: Path, limits: dict[str, int], kept: int) -> None:
    receive = {"port": 0, "any_calling_ae": True, "min_free_bytes": 0, **limits}
    raws = [Raw.of(ds) for ds in ct_series(slices=8)]
    with hospital(tmp_path, infer=TINY | {"models_dir": tiny_models(tmp_path / "models")}, receive=receive) as running:
        assert running.app.listener is not None
        with Link(running.app.listener.port, [(CTImageStorage, ExplicitVRLittleEndian)]) as link:
            assert [link.store(raw) for raw in raws] == [0] * kept + [0xA700] * (8 - kept)
            assert [link.store(raw) for raw in raws[:kept]] == [0] * kept, "duplicates are not counted"
        ended = running.delivered(uid(1, 1))
        assert (ended.state, ended.state_reason) == (StudyState.NOT_ASSESSED, Reason.STUDY_TOO_LARGE)
        said = [line for line in running.trace(uid(1, 1)) if line.startswith("too_large")]
        assert len(said) == 1 and "one study may have" in said[0]
        running.send(radiograph(patient=2))
        assert running.delivered(uid(2, 1)).state == StudyState.ASSESSED
    with hospital(tmp_path, infer=TINY | {"models_dir": tmp_path / "models"}, receive=receive) as running:
        assert running.app.listener is not None
        assert store(running.app.listener.port, raws[7]) == [0xA700], "what was there before the start counts"
