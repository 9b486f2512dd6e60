"""Studies that nobody should send, against the whole service: each ends as it should, and a normal one goes through."""

from __future__ import annotations

import gzip
import socket
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydicom import config
from pydicom.dataset import Dataset, FileDataset
from pydicom.sequence import Sequence
from pydicom.uid import ComprehensiveSRStorage, SecondaryCaptureImageStorage
from pynetdicom import AE, build_role
from pynetdicom.sop_class import StorageCommitmentPushModel, StorageCommitmentPushModelInstance

from service.domain.job import DeliveryState, StudyState
from service.errors import Reason
from service.receive.policy import Peer
from service.store.tables import Instance
from tests.builders import ct_series, radiograph, uid
from tests.hospital import TINY, Hospital, hospital, tiny_models
from tests.peers import HOST, Raw, listening, store, wait_until

pytestmark = pytest.mark.filterwarnings("ignore:::pydicom")  # as service.logs does: pydicom tells of each odd value
numbers = count(100)
SCRIPT = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hospital]:
    """Run the whole service for all of these."""
    folder = tmp_path_factory.mktemp("studies")
    with hospital(folder, infer=TINY | {"models_dir": tiny_models(folder / "models")}) as running:
        yield running


@pytest.fixture
def patient(service: Hospital) -> Iterator[int]:
    """Give the number of a hostile patient; at the end a normal radiograph goes through."""
    yield next(numbers)
    service.pacs.resume()
    good = next(numbers)
    service.send(radiograph(patient=good))
    assert service.delivered(uid(good, 1)).state == StudyState.ASSESSED


@pytest.fixture(autouse=True)
def lenient() -> Iterator[None]:
    """Let pydicom write values that no scanner should send."""
    before = config.settings.writing_validation_mode, config.settings.reading_validation_mode
    config.settings.writing_validation_mode = config.settings.reading_validation_mode = config.IGNORE
    yield
    config.settings.writing_validation_mode, config.settings.reading_validation_mode = before


def sent(service: Hospital, *raws: Raw) -> list[int | None]:
    """Send images exactly as given; return the statuses."""
    assert service.app.listener is not None
    return store(service.app.listener.port, *raws)


def page(service: Hospital, path: str, **options: Any) -> httpx.Response:
    method = options.pop("method", "GET")
    return httpx.request(method, f"http://{HOST}:{service.app.web_port}{path}", timeout=20, **options)


def cxr(**changes: Any) -> Callable[[int], list[FileDataset]]:
    return lambda patient: [radiograph(patient=patient, **changes)]


def ct(**changes: Any) -> Callable[[int], list[FileDataset]]:
    return lambda patient: ct_series(patient=patient, slices=12, size=16, **changes)


def long_rows(patient: int) -> list[FileDataset]:
    """Return a radiograph whose Rows are of a longer representation, and absurd."""
    made = radiograph(patient=patient)
    del made.Rows
    made.add_new(0x00280010, "UL", 2**31)
    return [made]


PIXELS, GEOMETRY, RESCALE = Reason.INVALID_PIXEL_DESCRIPTION, Reason.INVALID_GEOMETRY, Reason.INVALID_RESCALE

REFUSED: dict[str, tuple[Callable[[int], list[FileDataset]], Reason]] = {
    "15 pixels cut off": (cxr(PixelData=bytes(1000)), Reason.UNREADABLE_PIXELS),
    "19 no rows": (cxr(Rows=0), PIXELS),
    "19 65535 x 65535": (cxr(Rows=65535, Columns=65535), PIXELS),
    "19 rows of another representation": (long_rows, PIXELS),
    "19 more bits stored than allocated": (cxr(BitsStored=17, HighBit=16), PIXELS),
    "19 high bit elsewhere": (cxr(HighBit=3), PIXELS),
    "20 a million frames": (cxr(NumberOfFrames="1000000"), Reason.MULTIFRAME),
    "21 no spacing": (ct(PixelSpacing=[0, 0]), GEOMETRY),
    "21 negative spacing": (ct(PixelSpacing=[-1, 1]), GEOMETRY),
    "21 spacing that is no number": (ct(PixelSpacing=["NaN", "NaN"]), GEOMETRY),
    "21 no orientation": (ct(ImageOrientationPatient=[0, 0, 0, 0, 0, 0]), GEOMETRY),
    "21 directions that are not at right angles": (ct(ImageOrientationPatient=[1, 0, 0, 0.5, 0.5, 0]), GEOMETRY),
    "22 slope of zero": (ct(RescaleSlope=0), RESCALE),
    "22 no slope": (ct(RescaleSlope=None), RESCALE),
    "22 slope that is no number": (ct(RescaleSlope="NaN"), RESCALE),
}


@pytest.mark.parametrize("name", REFUSED)
def test_images_that_describe_themselves_wrongly_are_not_assessed_and_say_why(
        service: Hospital, patient: int, name: str) -> None:
    make, reason = REFUSED[name]
    assert set(sent(service, *map(Raw.of, make(patient)))) == {0}
    ended = service.delivered(uid(patient, 1))
    assert (ended.state, ended.state_reason) == (StudyState.NOT_ASSESSED, reason), ended.state_detail
    assert [o.kind for o in service.objects(uid(patient, 1))] == ["sr"]


ODD: dict[str, dict[str, Any]] = {
    "11 script and path as identity": {"PatientID": f"../../{SCRIPT}"[:64], "PatientName": f"{SCRIPT}^../../x"},
    "27 unknown character set": {"SpecificCharacterSet": "ISO_IR 999"},
    "35 date in the future": {"StudyDate": "20991231"},
    "35 no date": {"StudyDate": "", "StudyTime": ""},
    "35 date that is none": {"StudyDate": "NOTADATE", "PatientBirthDate": "19991399", "StudyTime": "256199"},
    "25 identity that is only odd": {"AccessionNumber": "\\\\host\\share"[:16]},
}


@pytest.mark.parametrize("name", ODD)
def test_odd_texts_do_no_harm(service: Hospital, patient: int, name: str) -> None:
    assert sent(service, Raw.of(radiograph(patient=patient, **ODD[name]))) == [0]
    assert service.delivered(uid(patient, 1)).state == StudyState.ASSESSED
    for path in ("/", "/rows", f"/studies/{uid(patient, 1)}"):
        answer = page(service, path)
        assert answer.status_code == 200 and "<script>alert" not in answer.text
    inside = "\n".join(str(p.relative_to(service.folder)) for p in (service.folder / "data").rglob("*"))
    assert "script" not in inside and ".." not in inside and "NOTADATE" not in inside


def test_27_bytes_that_are_not_of_their_character_set_are_kept(service: Hospital, patient: int) -> None:
    raw = Raw.of(radiograph(patient=patient, SpecificCharacterSet="ISO_IR 192", PatientName="Aaaa^Bbbb"))
    data = (raw.data or b"").replace(b"Aaaa^Bbbb", b"A\xff\xe4\x80^\x1b$B\xfe")
    assert sent(service, Raw(data, raw.sop_class_uid, raw.sop_instance_uid)) == [0]
    assert service.delivered(uid(patient, 1)).state == StudyState.ASSESSED
    [row] = service.rows(Instance, uid(patient, 1))
    assert data in service.app.spool.locate(row.path).read_bytes()


def test_1_unknown_titles_and_2_addresses_are_rejected(tmp_path: Path) -> None:
    normal = Raw.of(radiograph(patient=9, size=16))
    peers = (Peer("MODALITY", "127.0.0.1"), Peer("ELSEWHERE", "192.0.2.0/24"))
    with listening(tmp_path, any_calling_ae=False, peers=peers) as station:
        for called, calling in (("OTHER", "MODALITY"), ("FIRSTLOOK", "STRANGER"), ("FIRSTLOOK", "ELSEWHERE")):
            entity = AE(calling)
            entity.add_requested_context(normal.sop_class_uid)
            association = entity.associate(HOST, station.port, ae_title=called)
            assert not association.is_established
        assert station.counted("firstlook_associations_total", outcome="accepted") == 0
        assert store(station.port, normal) == [0]


def test_23_a_duplicate_is_idempotent_and_a_changed_one_set_aside(service: Hospital, patient: int) -> None:
    first, changed = radiograph(patient=patient), radiograph(patient=patient, PatientComments="changed")
    assert sent(service, Raw.of(first), Raw.of(first), Raw.of(changed)) == [0, 0, 0]
    assert service.delivered(uid(patient, 1)).revision == 1
    assert len(service.rows(Instance, uid(patient, 1))) == 1
    assert any(Reason.CHANGED_DUPLICATE.sentence in line for line in service.trace(uid(patient, 1)))


def test_24_one_study_of_two_patients_is_held(service: Hospital, patient: int) -> None:
    service.send(radiograph(patient=patient), radiograph(patient=patient, instance=2, PatientID="SOMEONE ELSE"))
    ended = service.ended(uid(patient, 1))
    assert (ended.state, ended.state_reason) == (StudyState.NOT_ASSESSED, Reason.PATIENT_MISMATCH)
    assert service.objects(uid(patient, 1)) == [] and service.in_pacs(uid(patient, 1)) == []


def test_25_a_program_in_the_preamble_does_not_come_along(service: Hospital, patient: int) -> None:
    image = radiograph(patient=patient)
    image.preamble = b"MZ" + b"\x90" * 126
    service.send(image)
    service.delivered(uid(patient, 1))
    [row] = service.rows(Instance, uid(patient, 1))
    file = service.app.spool.locate(row.path)
    assert b"MZ" not in file.read_bytes()[:128]
    wait_until(lambda: file.read_bytes()[:132] == bytes(128) + b"DICM")
    assert all(Path(r.path).read_bytes()[:2] != b"MZ" for r in service.pacs.received())


@pytest.mark.parametrize(("objects", "status"), [(5_000, 0x0000), (20_000, 0x0115)])
def test_31_reports_of_unknown_transactions_are_ignored_and_huge_ones_refused(
        service: Hospital, patient: int, objects: int, status: int) -> None:
    assert service.app.listener is not None
    report = Dataset()
    report.TransactionUID = "1.2.3.4"
    items = []
    for number in range(objects):
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = ComprehensiveSRStorage, f"1.2.{number}"
        items.append(item)
    report.ReferencedSOPSequence = Sequence(items)
    entity = AE("PACS")
    entity.add_requested_context(StorageCommitmentPushModel)
    association = entity.associate(HOST, service.app.listener.port, ae_title="FIRSTLOOK",
                                   ext_neg=[build_role(StorageCommitmentPushModel, scp_role=True)])
    answer, _ = association.send_n_event_report(
        report, 1, StorageCommitmentPushModel, StorageCommitmentPushModelInstance)
    association.release()
    assert answer.Status == status


def test_32_own_results_that_come_back_and_36_captures_are_no_input(service: Hospital, patient: int) -> None:
    service.send(radiograph(patient=patient))
    before = service.delivered(uid(patient, 1))
    service.send(*service.in_pacs(uid(patient, 1)))
    capture = radiograph(patient=patient, instance=7, SOPClassUID=SecondaryCaptureImageStorage, Modality="OT",
                         BurnedInAnnotation="YES")
    service.send(capture)
    wait_until(lambda: any(Reason.OWN_RESULT.sentence in line or "own results" in line
                           for line in service.trace(uid(patient, 1))))
    after = service.study(uid(patient, 1))
    assert (after.revision, after.state) == (before.revision, StudyState.ASSESSED)
    assert len(service.rows(Instance, uid(patient, 1))) == 1


def test_33_requests_of_web_attackers(service: Hospital, patient: int) -> None:
    bomb = gzip.compress(bytes(50_000_000))
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        answer = page(service, "/", method=method, content=bomb,
                      headers={"Content-Encoding": "gzip", "Origin": "http://evil.example"})
        assert answer.status_code in (403, 404, 405, 413, 415, 421)
    for path in ("/static/../../../etc/passwd", "/static/%2e%2e/%2e%2e/app.py", "/studies/..%2f..%2fetc%2fpasswd",
                 "/studies/%00", f"/studies/{SCRIPT}", "/studies/1.2/objects/..%2f..%2fx.dcm"):
        answer = page(service, path)
        assert answer.status_code == 404 and "root:" not in answer.text and "<script>alert" not in answer.text
    with socket.create_connection((HOST, service.app.web_port), timeout=20) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999\r\n\r\n")
        assert connection.recv(64).startswith(b"HTTP/1.1 4")
    with socket.create_connection((HOST, service.app.web_port), timeout=20) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n")
        assert connection.recv(64).startswith(b"HTTP/1.1 421"), "a foreign name of this machine is not answered"


@pytest.mark.parametrize("trouble", ["away for now", "aborts", "refuses for good"])
def test_34_a_pacs_that_misbehaves_delays_or_parks_the_result(service: Hospital, patient: int, trouble: str) -> None:
    if trouble == "away for now":
        service.pacs.refuse(0xA700, times=2)
    elif trouble == "aborts":
        service.pacs.abort(times=2)
    else:
        service.pacs.refuse(0xA900)
    service.send(radiograph(patient=patient))
    assert service.ended(uid(patient, 1)).state == StudyState.ASSESSED
    if trouble != "refuses for good":
        assert service.delivered(uid(patient, 1)).delivery == DeliveryState.DELIVERED
        return
    wait_until(lambda: service.study(uid(patient, 1)).delivery == DeliveryState.PARKED, 60)
    assert Reason.PEER_REFUSED.value in service.study(uid(patient, 1)).delivery_detail
