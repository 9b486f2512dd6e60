"""Every audit message keeps to the schema of PS3.15 A.5.1, whatever a peer wrote; files and syslog take them whole."""

from __future__ import annotations

import os
import socket
import ssl
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from lxml import etree

from service.audit.events import ROLES_CHANGED, Known
from service.audit.file import AuditFile
from service.audit.message import Source
from service.audit.syslog import Syslog
from service.audit.trail import Trail
from service.tls.contexts import client_context
from service.tls.files import CertificateFiles
from tests.certificates import Hospital
from tests.peers import wait_until

AT = 1_767_400_000.25
SCHEMA = etree.RelaxNG(etree.parse(Path(__file__).parent / "audit-message.rng"))
PATIENT = Known("1.2.840.1", "ACC-1", "P000001", "Okafor^Ngozi")
HOSTILE = "a\x00b\x1b[31m</AuditMessage><x y='\"&amp;\r\nline \ud800\uffff end"
EMPTY = Known("1.2.3")


class Kept:
    """Keeps messages, and parses each as a strict reader would."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []

    def write(self, message: bytes, at: float) -> None:
        self.lines.append(message)

    def close(self) -> None:
        self.lines.append(b"closed")

    @property
    def last(self) -> Any:
        return etree.fromstring(self.lines[-1], etree.XMLParser(resolve_entities=False))


def trail(*sinks: Any, clock: Callable[[], float] = lambda: AT, known: Known | None = PATIENT, **more: Any) -> Trail:
    return Trail(sinks, Source("firstlook-1", "Ward 7"), "FIRSTLOOK", clock, lambda _uid: known, **more)


EVENTS: dict[str, tuple[str, str, Callable[[Trail, str], None]]] = {
    "start": ("110100", "110120", lambda t, _s: t.started()),
    "login": ("110114", "110122", lambda t, s: t.logged_in(s or "okafor", s or "10.0.0.1")),
    "failure": ("110114", "110122", lambda t, s: t.login_failed(s, s or "10.0.0.1", s or "name or password is wrong")),
    "logout": ("110114", "110123", lambda t, s: t.logged_out(s or "okafor", s or "::1")),
    "seen": ("110103", "", lambda t, s: t.seen(s, s, s or "1.2.840.1", s or "study shown")),
    "received": ("110104", "", lambda t, s: t.received(s, s, s or "1.2.840.1", 12)),
    "delivered": ("110104", "", lambda t, s: t.delivered(
        s or "pacs", Known(s, s, s, s) if s else PATIENT, [("1.2.840.10008.5.1.4.1.1.88.34", 1)])),
    "turned away": ("110113", "110126", lambda t, s: t.turned_away(s or "calling_ae_title", s or "10.0.0.1", s, 3)),
    "account": ("110113", "110136", lambda t, s: t.account_changed(s or "root", s or "okafor", s or "made", ROLES_CHANGED)),
    "software": ("110113", "110131", lambda t, s: t.configuration_changed(s or "okafor", s or "cxr is read by next", s)),
}


@pytest.mark.parametrize("text", ["", HOSTILE], ids=["plain", "hostile"])
@pytest.mark.parametrize("name", EVENTS)
def test_each_message_keeps_to_the_schema_with_the_codes_of_its_event(name: str, text: str) -> None:
    event, kind, tell = EVENTS[name]
    kept = Kept()
    tell(trail(kept, known=Known(text, text, text, text) if text else PATIENT), text)
    assert SCHEMA.validate(kept.last), f"{SCHEMA.error_log}\n{kept.lines[-1].decode()}"
    assert kept.last.xpath("string(EventIdentification/EventID/@csd-code)") == event
    assert kept.last.xpath("string(EventIdentification/EventTypeCode/@csd-code)") == kind
    assert kept.last.xpath("string(EventIdentification/@EventDateTime)") == "2026-01-03T00:26:40.250+00:00"
    assert kept.last.xpath("string(AuditSourceIdentification/@AuditSourceID)") == "firstlook-1"
    assert b"\n" not in kept.lines[-1] and b"\r" not in kept.lines[-1]


def test_a_study_without_any_identity_is_told_all_the_same() -> None:
    kept = Kept()
    trail(kept, known=EMPTY).seen("", "", "1.2.3", "study shown")
    assert SCHEMA.validate(kept.last), SCHEMA.error_log
    assert kept.last.xpath("string(ActiveParticipant[@UserIsRequestor='true']/@UserID)") == "(no login)"


def test_who_saw_which_patient_is_in_the_message() -> None:
    kept = Kept()
    trail(kept).seen("okafor", "10.0.0.1", "1.2.840.1", "study shown")
    said = kept.last
    person = said.xpath("ActiveParticipant[@UserIsRequestor='true']")[0]
    assert (person.get("UserID"), person.get("NetworkAccessPointID"), person.get("NetworkAccessPointTypeCode")) == (
        "okafor", "10.0.0.1", "2")
    study, patient = said.findall("ParticipantObjectIdentification")
    assert study.get("ParticipantObjectID") == "1.2.840.1"
    assert study.xpath("string(ParticipantObjectIDTypeCode/@csd-code)") == "110180"
    assert study.xpath("string(ParticipantObjectDescription/Accession/@Number)") == "ACC-1"
    assert (patient.get("ParticipantObjectID"), patient.findtext("ParticipantObjectName")) == ("P000001", "Okafor^Ngozi")
    assert patient.get("ParticipantObjectTypeCode") == patient.get("ParticipantObjectTypeCodeRole") == "1"


def test_failures_are_told_as_such() -> None:
    kept = Kept()
    trail(kept).login_failed("", "10.0.0.1", "name or password is wrong")
    assert kept.last.xpath("string(EventIdentification/@EventOutcomeIndicator)") == "4"
    assert kept.last.findtext("EventIdentification/EventOutcomeDescription") == "name or password is wrong"


def test_the_schema_of_this_test_refuses_what_is_not_a_message() -> None:
    kept = Kept()
    trail(kept).started()
    for change in (lambda m: m.remove(m[0]), lambda m: m.remove(m.find("AuditSourceIdentification")),
                   lambda m: m[0].set("EventOutcomeIndicator", "1"), lambda m: m[1].attrib.pop("UserID"),
                   lambda m: m[0][0].attrib.pop("originalText"), lambda m: m[0].set("EventDateTime", "yesterday")):
        message = kept.last
        change(message)
        assert not SCHEMA.validate(message)


def test_a_page_that_refreshes_itself_is_told_once_a_minute() -> None:
    kept, now = Kept(), [AT]
    told = trail(kept, clock=lambda: now[0])
    for seconds in range(0, 150, 5):
        now[0] = AT + seconds
        told.seen("okafor", "10.0.0.1", "1.2.840.1", "study shown")
    assert len(kept.lines) == 3
    told.seen("moreau", "10.0.0.1", "1.2.840.1", "study shown")
    assert len(kept.lines) == 4


def test_files_are_the_owners_one_a_day_and_old_ones_go(tmp_path: Path) -> None:
    folder, now = tmp_path / "audit", [AT]
    told = trail(AuditFile(folder, keep_days=2), clock=lambda: now[0])
    for _ in range(4):
        told.logged_in("okafor", "10.0.0.1")
        told.logged_out("okafor", "10.0.0.1")
        now[0] += 86400
    told.stopped()
    files = sorted(folder.iterdir())
    assert [f.name for f in files] == ["audit-2026-01-05.xml", "audit-2026-01-06.xml", "audit-2026-01-07.xml"]
    assert {stat.S_IMODE(f.stat().st_mode) for f in files} == {0o600} and stat.S_IMODE(folder.stat().st_mode) == 0o700
    for line in b"".join(f.read_bytes() for f in files).splitlines():
        assert SCHEMA.validate(etree.fromstring(line))


def test_processes_share_a_file_without_mixing_lines(tmp_path: Path) -> None:
    code = ("import sys; from pathlib import Path; from service.audit.file import AuditFile\n"
            "f = AuditFile(Path(sys.argv[1]), 0)\nfor n in range(400): f.write(sys.argv[2].encode() * 3000, 1.0)")
    with ThreadPoolExecutor() as pool:
        done = list(pool.map(lambda letter: subprocess.run(
            [sys.executable, "-c", code, str(tmp_path), letter], env=dict(os.environ), timeout=60, check=False), "abc"))
    assert [one.returncode for one in done] == [0, 0, 0]
    lines = (tmp_path / "audit-1970-01-01.xml").read_bytes().splitlines()
    assert sorted(set(lines)) == [letter * 3000 for letter in (b"a", b"b", b"c")] and len(lines) == 1200


def test_the_service_goes_on_when_the_trail_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "audit").write_text("not a folder")
    failures: list[int] = []
    kept = Kept()
    trail(AuditFile(tmp_path / "audit", 0), kept, failed=lambda: failures.append(1)).logged_in("okafor", "10.0.0.1")
    assert failures == [1] and len(kept.lines) == 1, "the other place has it"


def parsed(message: bytes) -> Any:
    """Check the head of RFC 5424 and return the XML behind it."""
    head, mark, xml = message.partition(b"\xef\xbb\xbf")
    priority, when, _host, app, process, kind, structured = head.split(b" ")[:7]
    assert (priority, app, kind, structured, mark) == (b"<85>1", b"firstlook", b"DICOM+RFC3881", b"-", b"\xef\xbb\xbf")
    assert when == b"2026-01-03T00:26:40.250Z" and process == str(os.getpid()).encode()
    return etree.fromstring(xml)


def test_syslog_over_udp_carries_one_message_a_datagram() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(10)
        told = trail(Syslog("127.0.0.1", receiver.getsockname()[1], None, 5))
        told.started()
        told.logged_in("okafor", "10.0.0.1")
        found = [parsed(receiver.recv(65536)) for _ in range(2)]
        told.stopped()
    assert all(SCHEMA.validate(one) for one in found)
    assert found[1].xpath("string(ActiveParticipant/@UserID)") == "okafor"


@contextmanager
def tls_receiver(folder: Path) -> Iterator[tuple[int, list[bytes], Path]]:
    """Run a receiver of RFC 5425 that ends each connection after its second message; yield port, messages, authority."""
    authority = Hospital(folder)
    made = authority.issue("syslog", "127.0.0.1", "localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.path, made.key_path)
    listener, messages, stopping = socket.create_server(("127.0.0.1", 0)), list[bytes](), threading.Event()
    listener.settimeout(0.1)

    def serve() -> None:
        while not stopping.is_set():
            try:
                with context.wrap_socket(listener.accept()[0], server_side=True) as connection:
                    stream = connection.makefile("rb")
                    for _ in range(2):
                        length = b""
                        while (digit := stream.read(1)) not in (b" ", b""):
                            length += digit
                        if length:
                            messages.append(stream.read(int(length)))
            except OSError:
                continue

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield listener.getsockname()[1], messages, authority.path
    stopping.set()
    thread.join(10)
    listener.close()


def test_syslog_over_tls_frames_each_message_and_knows_its_receiver(tmp_path: Path) -> None:
    with tls_receiver(tmp_path) as (port, messages, authority):
        files = CertificateFiles("audit", authorities=authority)
        told = trail(Syslog("127.0.0.1", port, client_context(files, check_name=True), 5))
        told.logged_in("okafor", "10.0.0.1")
        told.logged_out("okafor", "10.0.0.1")
        wait_until(lambda: len(messages) == 2, 20)
        told.close()
        assert all(SCHEMA.validate(parsed(one)) for one in messages)
        stranger = Hospital(tmp_path / "other", "stranger")
        wrong, lost = CertificateFiles("audit", authorities=stranger.path), list[int]()
        refused = Syslog("127.0.0.1", port, client_context(wrong, check_name=True), 5, lost.append)
        refused.write(b"<a/>", AT)
        refused.write(b"<b/>", AT)
        refused.close()
        assert len(messages) == 2 and sum(lost) >= 1


def test_nothing_is_asked_of_the_database_where_no_trail_is_kept() -> None:
    def who(_uid: str) -> Known:
        raise AssertionError("asked")

    told = Trail((), Source("firstlook"), "", lambda: AT, who)
    told.received("CT1", "10.0.0.1", "1.2.3", 1)
    told.seen("okafor", "10.0.0.1", "1.2.3", "study shown")
