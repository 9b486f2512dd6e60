"""Orthanc and this service speak TLS with each other, both ways, both showing certificates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlmodel import select

from service.deliver.cstore import CStoreTarget
from service.errors import PeerUnavailable
from service.store.tables import Instance
from service.tls.calling import calling
from service.tls.sections import PeerTls
from tests import builders
from tests.certificates import Hospital, Made
from tests.peers import HOST, Orthanc, orthanc, wait_until
from tests.secured import secured

pytestmark = pytest.mark.peer


def tls_of(site: Hospital, own: Made, port: int) -> dict[str, Any]:
    """Return the settings of an Orthanc that speaks TLS only, asks callers for certificates, and knows our listener."""
    return {
        "DicomTlsEnabled": True, "DicomTlsCertificate": str(own.path), "DicomTlsPrivateKey": str(own.key_path),
        "DicomTlsTrustedCertificates": str(site.path), "DicomTlsRemoteCertificateRequired": True,
        "DicomModalities": {"firstlook": {"AET": "FIRSTLOOK", "Host": HOST, "Port": port, "UseDicomTls": True}}}


def uploaded(server: Orthanc, paths: list[Path]) -> list[str]:
    return [server.post("/instances", path.read_bytes())["ID"] for path in paths]


def sent(server: Orthanc, ids: list[str]) -> int:
    """Have Orthanc send instances to the listener; return the HTTP status of its answer."""
    return httpx.post(f"{server.url}/modalities/firstlook/store", json=ids, timeout=60).status_code


def test_orthanc_sends_over_tls_and_only_with_a_certificate_that_we_know(tmp_path: Path):
    made = builders.ct_series(slices=6, size=128)
    paths = builders.write(made, tmp_path / "sent")
    stranger = Hospital(tmp_path / "elsewhere", "another authority").issue("orthanc")
    with secured(tmp_path) as door:
        port = door.station.tls_port
        with orthanc(tmp_path / "strange", more=tls_of(door.hospital, stranger, port)) as server:
            assert sent(server, uploaded(server, paths[:1])) == 500
            wait_until(lambda: door.turned_away("tls_certificate_untrusted") == 1)
        known = tls_of(door.hospital, door.hospital.issue("orthanc", "orthanc.example"), port)
        with orthanc(tmp_path / "known", more=known) as server:
            assert sent(server, uploaded(server, paths)) == 200
        with door.station.database.reading() as session:
            assert set(session.exec(select(Instance.sop_instance_uid))) == {ds.SOPInstanceUID for ds in made}


def test_orthanc_takes_what_we_send_over_tls_and_nothing_from_who_shows_no_certificate(tmp_path: Path):
    site = Hospital(tmp_path / "certificates")
    own = site.issue("firstlook", "firstlook.example")
    paths = builders.write(builders.ct_series(slices=6, size=128), tmp_path / "sent")
    with orthanc(tmp_path / "orthanc", more=tls_of(site, site.issue("orthanc"), 1)) as server:
        def target(**changes: Any) -> CStoreTarget:
            wanted = {"enabled": True, "authorities": site.path, "certificate": own.path, "private_key": own.key_path}
            how = calling(PeerTls.model_validate(wanted | changes), "deliver.targets.pacs.tls", "localhost")
            return CStoreTarget("pacs", "ORTHANC", "localhost", server.port, "FIRSTLOOK", 5.0, calling=how)

        with pytest.raises(PeerUnavailable):
            target(certificate=None, private_key=None).send(paths)
        with pytest.raises(PeerUnavailable):
            target(authorities=Hospital(tmp_path / "other", "another authority").path).send(paths)
        assert server.get("/statistics")["CountInstances"] == 0
        target().echo()
        assert len(target().send(paths)) == len(paths)
        assert server.get("/statistics")["CountInstances"] == len(paths)
