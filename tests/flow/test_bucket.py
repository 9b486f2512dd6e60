"""Images and results in a bucket of a real S3 server: machines that share nothing else, and a bucket that is away."""

from __future__ import annotations

import shutil
from pathlib import Path

import httpx
import pytest

from service.app import App
from service.domain.job import StudyState
from service.errors import Unavailable
from service.store.files import Bucket
from service.store.tables import Instance
from tests.bucket import S3
from tests.bucket import s3 as s3
from tests.builders import ct_series, radiograph, uid
from tests.hospital import TINY, Hospital, settings_for, tiny_models
from tests.peers import Link, Raw, ScriptedPacs

CT_STUDY, CXR_STUDY = uid(1, 1), uid(2, 1)


def machine(folder: Path, pacs: ScriptedPacs, s3: S3, *roles: str) -> App:
    """Return a service of some roles with folders of its own; what it shares is the database and the bucket."""
    settings = settings_for(
        folder, pacs, infer=TINY | {"models_dir": folder.parent / "models", "device": "cpu"},
        store={"data_dir": folder / "data", "bucket": s3.url, "bucket_endpoint": s3.endpoint,
               "database_url": f"sqlite:///{folder.parent / 'shared.db'}"})
    return App(settings, roles)


def test_three_machines_that_share_a_bucket_do_a_study(tmp_path: Path, s3: S3) -> None:
    tiny_models(tmp_path / "models")
    with ScriptedPacs(tmp_path / "pacs") as pacs:
        listen, work, web = (machine(tmp_path / role, pacs, s3, role) for role in ("listen", "work", "web"))
        try:
            for app in (listen, work, web):
                app.start()
            house = Hospital(listen, pacs, tmp_path / "sent")
            house.folder.mkdir()
            house.send(*ct_series())
            house.send(radiograph())
            for study in (CT_STUDY, CXR_STUDY):
                assert house.delivered(study).state == StudyState.ASSESSED
            kept = house.rows(Instance, CT_STUDY) + house.rows(Instance, CXR_STUDY)
            made = house.objects(CT_STUDY) + house.objects(CXR_STUDY)
            assert s3.names("spool") == sorted(f"spool/{i.path}" for i in kept)
            assert {f"results/{o.path}" for o in made} <= set(s3.names("results"))
            seg = next(o for o in made if o.kind == "seg")
            page = f"http://127.0.0.1:{web.web_port}/studies/{CT_STUDY}/objects/{seg.sop_instance_uid}"
            assert httpx.get(f"{page}.dcm").content == (work.results / seg.path).read_bytes()
            assert httpx.get(f"{page}.png").content.startswith(b"\x89PNG")  # with the images, fetched
            house.send(radiograph())  # a second copy stays nowhere
            assert len(s3.names("spool")) == len(kept)
        finally:
            for app in (listen, work, web):
                app.stop()


def test_nothing_is_acknowledged_that_the_bucket_does_not_hold(tmp_path: Path, s3: S3) -> None:
    tiny_models(tmp_path / "models")
    with ScriptedPacs(tmp_path / "pacs") as pacs:
        app = machine(tmp_path / "one", pacs, s3, "listen", "work")
        app.start()
        assert app.listener is not None
        slices = [Raw.of(dataset) for dataset in ct_series(slices=12)]
        try:
            with Link(app.listener.port, [(slices[0].sop_class_uid, slices[0].transfer_syntax_uid)]) as link:
                assert [link.store(raw) for raw in slices[:6]] == [0] * 6
                rows = Hospital(app, pacs, tmp_path).rows(Instance, CT_STUDY)  # each before its answer
                assert s3.names("spool") == sorted(f"spool/{row.path}" for row in rows) and len(rows) == 6
                s3.stop()
                assert link.store(slices[6]) == Unavailable.dimse_status
                assert len(Hospital(app, pacs, tmp_path).rows(Instance, CT_STUDY)) == 6
                assert len(list(app.spool.files())) == 6
        finally:
            app.stop()


def test_files_of_a_bucket_come_here_once_and_go_everywhere(tmp_path: Path, s3: S3) -> None:
    here, there = (Bucket(s3.url, tmp_path / name, s3.endpoint) for name in ("here", "there"))
    (tmp_path / "here" / "ab").mkdir(parents=True)
    for number in range(20):
        (tmp_path / "here" / "ab" / f"ab{number}.dcm").write_bytes(bytes([number]) * 1000)
        here.keep(f"ab/ab{number}.dcm")
    there.bring(f"ab/ab{number}.dcm" for number in range(20))
    assert (there / "ab/ab7.dcm").read_bytes() == bytes([7]) * 1000
    assert not (there / "ab/none.dcm").exists()
    assert there.forget(3600) == 0 and there.forget(-10) == 20 and not list((tmp_path / "there").rglob("*.dcm"))
    assert (there / "ab/ab7.dcm").read_bytes() == bytes([7]) * 1000
    (tmp_path / "here" / "quarantine").mkdir()
    here.move("ab/ab1.dcm", "quarantine/ab1.dcm")
    here.remove("ab/ab2.dcm")
    here.remove("ab/ab2.dcm")
    shutil.rmtree(tmp_path / "there")
    assert not (there / "ab/ab1.dcm").exists() and not (there / "ab/ab2.dcm").exists()
    assert (there / "quarantine/ab1.dcm").read_bytes() == bytes([1]) * 1000
    s3.stop()
    for act in (lambda: there / "ab/ab9.dcm", lambda: here.keep("ab/ab9.dcm"), lambda: here.remove("ab/ab9.dcm")):
        with pytest.raises(Unavailable, match=r"a file could not be (fetched|put|removed)"):
            act()
    assert (here / "ab/ab9.dcm").exists()


def test_a_url_that_is_none_is_refused() -> None:
    with pytest.raises(Unavailable, match="accepted: s3://BUCKET/PREFIX"):
        Bucket("nonsense://x/y", Path("/nowhere"))
