"""Images come from DCMTK, whole and compressed."""

from __future__ import annotations

from pathlib import Path

import pydicom
import pytest
from sqlmodel import select

from service.receive.header import read_file_header
from service.store.tables import Event, Instance
from tests import builders
from tests.peers import FAST_PATH, HOST, Station, dcmtk_run, echo, listening, send, wait_until

pytestmark = pytest.mark.peer


@pytest.fixture(params=["true", "false"], ids=["fast", "plain"], autouse=True)
def both_paths(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test is run with the fast path and without."""
    monkeypatch.setenv(FAST_PATH, request.param)


def rows(station: Station) -> list[Instance]:
    with station.database.reading() as session:
        return list(session.exec(select(Instance).order_by(Instance.id)))


def test_echo(tmp_path: Path):
    with listening(tmp_path) as station:
        assert echo(HOST, station.port).returncode == 0
        refused = echo(HOST, station.port, called="OTHER")
        assert refused.returncode != 0
        assert "Called AE Title Not Recognized" in refused.stderr


def test_a_ct_a_radiograph_and_a_cr_arrive_with_their_pixels(tmp_path: Path):
    made = [*builders.ct_series(slices=8, size=64), builders.radiograph(size=64),
            builders.radiograph(patient=3, size=64, sop_class="CR")]
    with listening(tmp_path) as station:
        sent = send(builders.write(made, tmp_path / "sent"), HOST, station.port)
        assert sent.returncode == 0, sent.stderr
        kept = {row.sop_instance_uid: pydicom.dcmread(station.spool.locate(row.path)) for row in rows(station)}
        assert {uid: ds.PixelData for uid, ds in kept.items()} == {ds.SOPInstanceUID: ds.PixelData for ds in made}


def test_a_second_copy_is_answered_with_success_and_changes_nothing(tmp_path: Path):
    paths = builders.write(builders.ct_series(slices=5, size=32), tmp_path / "sent")
    with listening(tmp_path) as station:
        assert send(paths, HOST, station.port).returncode == 0
        before = [row.model_dump() for row in rows(station)]
        assert send(paths, HOST, station.port).returncode == 0
        assert [row.model_dump() for row in rows(station)] == before
        assert len(list(station.spool.files())) == 5


@pytest.mark.parametrize(("tool", "options", "proposal", "syntax"), [
    ("dcmcjpeg", ["+e1"], "-xs", "1.2.840.10008.1.2.4.70"),
    ("dcmcjpls", [], "-xt", "1.2.840.10008.1.2.4.80"),
    ("dcmcrle", [], "-xr", "1.2.840.10008.1.2.5"),
])
def test_compressed_images_arrive_as_they_were_compressed(tmp_path: Path, tool: str, options: list[str], proposal: str,
                                                          syntax: str):
    [plain] = builders.write([builders.radiograph(size=64)], tmp_path / "sent")
    packed = tmp_path / "packed.dcm"
    done = dcmtk_run(tool, *options, plain, packed)
    assert done.returncode == 0, done.stderr
    with listening(tmp_path) as station:
        sent = send([packed], HOST, station.port, "MODALITY", "FIRSTLOOK", proposal)
        assert sent.returncode == 0, sent.stderr
        [row] = rows(station)
        assert row.header["transfer_syntax_uid"] == syntax
        file = station.spool.locate(row.path)
        assert read_file_header(file).transfer_syntax_uid == syntax
        assert pydicom.dcmread(file).PixelData == pydicom.dcmread(packed).PixelData


def test_the_files_of_the_spool_are_dicom_files_to_dcmtk(tmp_path: Path):
    with listening(tmp_path) as station:
        send(builders.write([builders.radiograph(size=32)], tmp_path / "sent"), HOST, station.port)
        [row] = rows(station)
        checked = dcmtk_run("dcmftest", station.spool.locate(row.path))
        assert checked.stdout.startswith("yes:")
        dumped = dcmtk_run("dcmdump", station.spool.locate(row.path))
        assert (dumped.returncode, dumped.stderr) == (0, "")


def test_the_trace_names_the_sender(tmp_path: Path):
    with listening(tmp_path) as station:
        send(builders.write(builders.ct_series(slices=3, size=16), tmp_path / "sent"), HOST, station.port, "CT_ROOM_2")

        def event() -> Event | None:
            with station.database.reading() as session:
                return session.exec(select(Event)).first()

        assert wait_until(event).data == {"calling_aet": "CT_ROOM_2", "stored": 3}
