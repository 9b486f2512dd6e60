"""Results go out over TLS: both sides show certificates, and a peer that shows the wrong one gets nothing."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread

from service.deliver.cstore import CStoreTarget
from service.deliver.inquiry import Inquiry
from service.domain.job import DeliveryState
from service.errors import PeerUnavailable
from service.tls.calling import Calling, calling
from service.tls.contexts import Demand, server_context
from service.tls.files import CertificateFiles
from service.tls.sections import PeerTls
from tests import builders
from tests.certificates import DAY, Hospital, Made, now
from tests.committing import CommittingPacs, target
from tests.counting import QueryPacs, study_of
from tests.hospital import TINY, hospital, tiny_models
from tests.peers import DEADLINE_S, HOST, dcmtk, free_port, wait_until
from tests.secured import secured

STUDY = builders.uid(2, 1)


@pytest.fixture
def site(tmp_path: Path) -> Hospital:
    return Hospital(tmp_path / "certificates")


def called_with(site: Hospital, own: Made | None = None, host: str = "localhost", **changes: Any) -> Calling:
    """Return how a peer is called that our authority knows; changes: of the settings."""
    own = own or site.issue("firstlook", "firstlook.example")
    wanted = {"enabled": True, "authorities": site.path, "certificate": own.path, "private_key": own.key_path} | changes
    made = calling(PeerTls.model_validate(wanted), "deliver.targets.pacs.tls", host)
    assert made is not None
    return made


def target_at(port: int, how: Calling, timeout_s: float = 5.0, called: str = "FIRSTLOOK") -> CStoreTarget:
    return CStoreTarget("pacs", called, "localhost", port, "MODALITY", timeout_s, calling=how)


@pytest.mark.parametrize("demand", list(Demand))
def test_our_own_listener_takes_what_we_send(tmp_path: Path, demand: Demand):
    files = builders.write([*builders.ct_series(slices=4, size=64), builders.radiograph(size=600)], tmp_path / "sent")
    with secured(tmp_path, demand) as door:
        peer = target_at(door.station.tls_port, called_with(door.hospital))
        peer.echo()
        assert len(peer.send(files)) == len(files)
        assert door.station.counted("firstlook_associations_total", outcome="aborted") == 0


def wrong(door: Any, how: str) -> Calling:
    """Return how a peer is called that shows, or is shown, something wrong."""
    site, other = door.hospital, Hospital(door.hospital.folder / "other", "another authority")
    changes: dict[str, dict[str, Any]] = {
        "authority": {"authorities": other.path}, "name": {"name": "pacs.example"},
        "fingerprint": {"certificate_fingerprint": "ab" * 32},
        "pinned only": {"certificate_fingerprint": "ab" * 32, "authorities": None},
        "our authority": {"own": other.issue("stranger")}, "expired": {"own": site.issue("old", ends=now() - DAY * 0.5)},
        "none": {"certificate": None, "private_key": None}}
    return called_with(site, **changes[how])


@pytest.mark.parametrize(("how", "sentence"), [
    ("authority", "comes from no authority that is trusted"), ("name", "made out to another name than 'pacs.example'"),
    ("fingerprint", "has another fingerprint"), ("pinned only", "has another fingerprint"),
    ("our authority", "refused the TLS handshake; it may not trust our certificate"),
    ("expired", "refused the TLS handshake"), ("none", "refused the TLS handshake")])
def test_a_peer_that_is_not_the_right_one_gets_nothing_and_may_be_tried_again(tmp_path: Path, how: str, sentence: str):
    files = builders.write([builders.radiograph(size=16)], tmp_path / "sent")
    with secured(tmp_path) as door:
        with pytest.raises(PeerUnavailable, match=f"TLS: .*{sentence}"):
            target_at(door.station.tls_port, wrong(door, how)).send(files)
        assert door.station.counted("firstlook_associations_total", outcome="accepted") == 0
        assert len(target_at(door.station.tls_port, called_with(door.hospital)).send(files)) == 1


@pytest.mark.parametrize("changes", [{"check_name": False, "name": "pacs.example"}, {"name": "127.0.0.1"}])
def test_the_name_that_counts_is_told_by_the_settings(tmp_path: Path, changes: dict[str, Any]):
    with secured(tmp_path) as door:
        target_at(door.station.tls_port, called_with(door.hospital, **changes)).echo()


def test_a_certificate_known_by_its_fingerprint_needs_no_authority(tmp_path: Path):
    with secured(tmp_path) as door:
        shown = door.hospital.issue("service").fingerprint
        pinned = called_with(door.hospital, authorities=None, certificate_fingerprint=shown.upper())
        target_at(door.station.tls_port, pinned).echo()


def test_a_certificate_that_was_revoked_is_refused(tmp_path: Path):
    with secured(tmp_path) as door:
        own = door.hospital.issue("service")
        how = called_with(door.hospital, revocation_list=door.hospital.revoke(own))
        with pytest.raises(PeerUnavailable, match=r"TLS: .*has been revoked"):
            target_at(door.station.tls_port, how).echo()


def test_a_port_without_tls_and_one_that_is_silent_are_told_apart(site: Hospital, tmp_path: Path):
    with secured(tmp_path) as door, pytest.raises(PeerUnavailable, match=r"TLS: .*(does not speak TLS|broken off)"):
        target_at(door.station.port, called_with(door.hospital)).echo()
    with socket.create_server((HOST, 0)) as silent, pytest.raises(PeerUnavailable, match=r"TLS: .*not finished in time"):
        target_at(silent.getsockname()[1], called_with(site), timeout_s=0.5).echo()
    with pytest.raises(PeerUnavailable, match="could not be reached"):
        target_at(free_port(), called_with(site)).echo()


def test_new_files_are_used_from_the_next_association_on(site: Hospital, tmp_path: Path):
    with secured(tmp_path) as door:
        known = tmp_path / "authorities.pem"
        shutil.copy(Hospital(tmp_path / "other", "another authority").path, known)
        peer = target_at(door.station.tls_port, called_with(door.hospital, authorities=known))
        with pytest.raises(PeerUnavailable, match="no authority"):
            peer.echo()
        shutil.copy(door.hospital.path, known)
        peer.echo()


# ---------------------------------------------------------------- a PACS that proves

def chatty(files: CertificateFiles, version: ssl.TLSVersion) -> ssl.SSLContext:
    """Return what a listener shakes hands with that sends tickets, as most do and ours does not."""
    context = server_context(files, Demand.REQUIRED)
    context.options &= ~ssl.OP_NO_TICKET
    context.num_tickets, context.maximum_version = 2, version
    return context


@pytest.mark.parametrize("proof", ["commit", "cfind"])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_result_is_stored_and_proven_over_tls(site: Hospital, tmp_path: Path, version: ssl.TLSVersion, proof: str):
    pacs = CommittingPacs(port=free_port(), tls=chatty(site.files(site.issue("pacs")), version))
    own = site.issue("firstlook")
    tls = {"enabled": True, "authorities": str(site.path), "certificate": str(own.path), "private_key": str(own.key_path)}
    deliver = {"targets": [target(pacs, proof=proof, report_wait_s=20, tls=tls)]}
    infer = TINY | {"models_dir": tiny_models(tmp_path / "models")}
    with hospital(tmp_path / "house", pacs=pacs, infer=infer, deliver=deliver) as house:
        house.send(builders.radiograph())
        assert house.delivered(STUDY).delivery == DeliveryState.DELIVERED
        days = house.app.metrics.registry.get_sample_value(
            "firstlook_certificate_days_left", {"place": "deliver.targets.pacs.tls", "file": "certificate"})
        assert days is not None and 19 < days < 20


def test_a_pacs_is_asked_over_tls_how_many_images_it_holds(site: Hospital):
    context = chatty(site.files(site.issue("pacs")), ssl.TLSVersion.TLSv1_3)
    with QueryPacs(lambda asked, before: [study_of(asked, 40)], context) as pacs:
        assert Inquiry(target_at(pacs.port, called_with(site), called="COUNTS")).images("1.2.3", {"1.2.3.1": 40}) == 40


# ---------------------------------------------------------------- DCMTK

@contextmanager
def storescp(folder: Path, site: Hospital, *options: str) -> Iterator[int]:
    """Run DCMTK's storescp with TLS, which asks for a certificate, and yield its port; what it keeps goes to the folder."""
    program, port, own = dcmtk("storescp"), free_port(), site.issue("pacs")
    folder.mkdir()
    with (folder.parent / "storescp.log").open("w") as log, subprocess.Popen(
            [program, "+tls", own.key_path, own.path, "+cf", site.path, *options, "-od", folder, "-aet", "PACS", "--fork",
             str(port)], stdout=log, stderr=log) as process:
        try:
            wait_until(partial(_listens, port))
            yield port
        finally:
            process.terminate()
            process.wait(DEADLINE_S)


def _listens(port: int) -> bool:
    try:
        socket.create_connection((HOST, port), 1).close()
    except OSError:
        return False
    return True


@pytest.mark.peer
@pytest.mark.parametrize("profile", ["+py", "+px", "+pz"])
def test_dcmtk_takes_what_we_send_with_each_of_its_profiles(site: Hospital, tmp_path: Path, profile: str):
    made = [*builders.ct_series(slices=8, size=256), builders.radiograph(size=900)]
    with storescp(tmp_path / "kept", site, profile) as port:
        peer = target_at(port, called_with(site), called="PACS")
        peer.echo()
        assert len(peer.send(builders.write(made, tmp_path / "sent"))) == len(made)
    kept = {ds.SOPInstanceUID: ds.PixelData for ds in map(dcmread, (tmp_path / "kept").iterdir())}
    assert kept == {ds.SOPInstanceUID: ds.PixelData for ds in made}


@pytest.mark.peer
def test_a_result_waits_until_dcmtk_shows_a_certificate_of_an_authority_we_know(site: Hospital, tmp_path: Path):
    infer = TINY | {"models_dir": tiny_models(tmp_path / "models")}
    known, own = tmp_path / "authorities.pem", site.issue("firstlook")
    shutil.copy(Hospital(tmp_path / "other", "another authority").path, known)
    with storescp(tmp_path / "kept", site) as port:
        deliver = {"targets": [{
            "name": "archive", "ae_title": "PACS", "host": "localhost", "port": port, "timeout_s": 5, "tls": {
                "enabled": True, "authorities": str(known), "certificate": str(own.path),
                "private_key": str(own.key_path)}}]}
        with hospital(tmp_path / "house", infer=infer, deliver=deliver) as house:
            house.send(builders.radiograph())
            waits = wait_until(lambda: (s := house.study(STUDY)).delivery_detail and s)
            assert waits.delivery == DeliveryState.PENDING
            assert "TLS: the other side's certificate comes from no authority that is trusted" in waits.delivery_detail
            assert list((tmp_path / "kept").iterdir()) == []
            shutil.copy(site.path, known)
            wait_until(lambda: house.study(STUDY).delivery == DeliveryState.DELIVERED, 60)
    assert {dcmread(path).Modality for path in (tmp_path / "kept").iterdir()} >= {"SR"}
