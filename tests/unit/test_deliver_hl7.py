"""HL7 v2: the message as another implementation reads and judges it, its escaping, and every kind of acknowledgement."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hl7apy.consts import VALIDATION_LEVEL
from hl7apy.core import Message
from hl7apy.mllp import AbstractHandler, MLLPServer
from hl7apy.parser import parse_message
from hypothesis import given
from hypothesis import strategies as st
from pydicom import dcmread

from service.deliver.mllp import MllpTarget
from service.deliver.narrative import Narrative, narrative
from service.deliver.oru import PRIORITIES, Mapped, escape, message
from service.deliver.target import Parcel
from service.errors import Defect, PeerUnavailable, Reason, RefusedByPeer
from service.report.build import build, build_refusal
from tests import builders
from tests.contracts.assessed import NOW, STYLE, ct, cxr_by_two, pictures
from tests.contracts.receivers import TIMEOUT_S, Hl7
from tests.peers import HOST

AT = 1_800_000_000.0
PLAIN = Mapped({}, PRIORITIES)


def _written(made: list[Any], folder: Path, **changes: str) -> Path:
    path = folder / "sr.dcm"
    for name, value in changes.items():
        setattr(made[-1].dataset, name, value)
    made[-1].dataset.save_as(path, enforce_file_format=True)
    return path


@pytest.fixture(scope="module")
def radiograph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a radiograph with two findings."""
    sources = [builders.radiograph(sop_class="DX", size=256)]
    selection, assessment = cxr_by_two(sources)
    made = build(selection, sources, assessment, STYLE, "d" * 64, 1, [], NOW, pictures(sources))
    return _written(made, tmp_path_factory.mktemp("cxr"))


@pytest.fixture(scope="module")
def volume(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a CT."""
    sources = builders.ct_series(slices=12, size=64)
    selection, assessment = ct(sources)
    made = build(selection, sources, assessment, STYLE, "d" * 64, 1, [], NOW)
    return _written(made, tmp_path_factory.mktemp("ct"))


@pytest.fixture(scope="module")
def refusal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a study that was not assessed."""
    source = builders.radiograph(sop_class="DX", size=256)
    made = build_refusal(source, [source], Reason.LATERAL_VIEW, "view is LL", STYLE, "d" * 64, [], NOW)
    return _written(made, tmp_path_factory.mktemp("refusal"))


def parsed(path: Path | Narrative, mapped: Mapped = PLAIN, urgency: str = "urgent", revision: int = 1) -> Message:
    """Return the message as hl7apy reads it."""
    said = narrative(path) if isinstance(path, Path) else path
    _, text = message(said, mapped, urgency, revision, AT)
    return parse_message(text.decode(mapped.encoding), validation_level=VALIDATION_LEVEL.TOLERANT, find_groups=True)


def observations(whole: Message) -> list[Any]:
    """Return the OBX segments."""
    group = whole.oru_r01_patient_result.oru_r01_order_observation
    return [o.obx for o in group.oru_r01_observation]


@pytest.mark.parametrize("name", ["radiograph", "volume", "refusal"])
def test_another_implementation_finds_no_error_in_the_message(
    name: str, request: pytest.FixtureRequest, tmp_path: Path,
) -> None:
    mapped = replace(PLAIN, fields={"PV1-1": "1", "PV1-2": "U", "ORC-1": "RE", "OBR-3": "{report_uid}^{institution}"})
    whole = parsed(request.getfixturevalue(name), mapped)
    assert whole.validate(report_file=str(tmp_path / "told"))
    told = (tmp_path / "told").read_text().splitlines()
    assert not [line for line in told if not line.startswith("Warning")]
    assert {line.split(" in element")[0] for line in told} <= {  # tables that are older than the codes
        "Warning: Value HD not in table HL70125", "Warning: Value SCT not in table HL70396",
        "Warning: Value UCUM not in table HL70396", "Warning: Value 99FIRSTLOOK not in table HL70396"}


def test_patient_order_and_status_are_those_of_the_study(radiograph: Path) -> None:
    whole = parsed(radiograph)
    source = dcmread(radiograph, stop_before_pixels=True)
    pid = whole.oru_r01_patient_result.oru_r01_patient.pid
    obr = whole.oru_r01_patient_result.oru_r01_order_observation.obr
    assert (pid.pid_3.to_er7(), pid.pid_5.to_er7(), pid.pid_8.to_er7()) == ("P0002", "Test^Patient 2", "O")
    assert (obr.obr_2.to_er7(), obr.obr_3.to_er7()) == (source.AccessionNumber, source.SOPInstanceUID)
    assert (obr.obr_5.to_er7(), obr.obr_25.to_er7(), obr.obr_22.to_er7()) == ("A", "P", "20260102123000+0100")
    assert whole.msh.msh_18.to_er7() == "UNICODE UTF-8"


def test_present_findings_are_flagged_and_absent_ones_stand_under_a_concept_of_their_own(radiograph: Path) -> None:
    coded = [(o.obx_3.to_er7().split("^")[0], o.obx_5.to_er7().split("^")[0], o.obx_8.to_er7(), o.obx_11.to_er7())
             for o in observations(parsed(radiograph)) if o.obx_2.to_er7() == "CE"]
    assert ("121071", "233604007", "A", "P") in coded and ("373572006", "8186001", "", "P") in coded
    assert {flag for name, _, flag, _ in coded if name != "121071"} == {""}


def test_numbers_stand_with_their_units_and_what_they_are_of(volume: Path) -> None:
    found = observations(parsed(volume))
    numbers = {(o.obx_3.to_er7().split("^")[0], o.obx_5.to_er7(), o.obx_6.to_er7().split("^")[0])
               for o in found if o.obx_2.to_er7() == "NM"}
    assert ("122157", "91", "%") in numbers and ("SEVERITY25", "7", "1") in numbers
    of = {o.obx_4.to_er7(): o.obx_5.to_er7() for o in found if o.obx_3.to_er7().startswith("363698007")}
    volumes = [o.obx_4.to_er7() for o in found if o.obx_3.to_er7().startswith("118565006")]
    assert [of[group] for group in volumes] == ["right lung", "left lung", "infection"]


def test_the_text_says_research_use_first_then_what_was_found(radiograph: Path, refusal: Path) -> None:
    lines = [o.obx_5.to_er7() for o in observations(parsed(radiograph)) if o.obx_2.to_er7() == "TX"]
    assert lines[0].startswith("Research use only") and lines[1].startswith("Present: Pneumonia")
    told = [o.obx_5.to_er7() for o in observations(parsed(refusal)) if o.obx_2.to_er7() == "TX"]
    assert any("NOT ASSESSED" in line for line in told) and "lateral_view" in told


def test_a_site_leaves_out_text_or_codes_and_maps_fields_and_priority(radiograph: Path) -> None:
    mapped = Mapped({"MSH-5": "RIS", "OBR-24": "", "ZAI-2": "{urgency}/{revision}", "OBR-18": "{accession}"},
                    dict(PRIORITIES) | {"urgent": "X"}, abnormal="AA", status="R", with_text=False)
    _, text = message(narrative(radiograph), mapped, "urgent", 3, AT)
    segments = [line.split("|") for line in text.decode().split("\r")[:-1]]
    by_name = {s[0]: s for s in segments if s[0] != "OBX"}
    assert [s[0] for s in segments][:4] == ["MSH", "PID", "OBR", "NTE"] and segments[-1] == ["ZAI", "", "urgent/3"]
    assert by_name["MSH"][4] == "RIS" and by_name["OBR"][5] == "X" and by_name["OBR"][24] == ""
    assert by_name["OBR"][18] == by_name["OBR"][2]
    assert not [s for s in segments if s[0] == "OBX" and s[2] == "TX"]
    assert {s[8] for s in segments if s[0] == "OBX"} == {"", "AA"} and {s[11] for s in segments if s[0] == "OBX"} == {"R"}
    _, without = message(narrative(radiograph), replace(PLAIN, with_codes=False), "stat", 1, AT)
    assert b"|CE|" not in without and b"|NM|" not in without and b"|TX|" in without


def test_the_control_id_is_of_report_and_revision(radiograph: Path) -> None:
    said = narrative(radiograph)
    assert message(said, PLAIN, "stat", 1, AT)[0] == message(said, PLAIN, "low", 1, AT + 9)[0]
    assert message(said, PLAIN, "stat", 1, AT)[0] != message(said, PLAIN, "stat", 2, AT)[0]


@pytest.mark.parametrize(("name", "xpn"), [
    ("Doe^Jane^Q^Dr^MD", "Doe^Jane^Q^MD^Dr"),
    ("Doe|Evil^Jane&Co~X", "Doe\\F\\Evil^Jane\\T\\Co\\R\\X"), ("Doe^J\\Roe^K", "Doe^J"),
    ("Müller^Jörg", "Müller^Jörg"), ("山田^太郎=やまだ^たろう", "山田^太郎"), ("", ""), ("^", ""),
])
def test_names_change_prefix_and_suffix_and_cannot_break_the_message(radiograph: Path, name: str, xpn: str) -> None:
    said = narrative(radiograph)
    said.header.PatientName = name
    whole = message(said, PLAIN, "stat", 1, AT)[1].decode()
    pid = next(s for s in whole.split("\r") if s.startswith("PID")).split("|")
    assert pid[5] == xpn and len(pid) == 9


def test_a_text_that_the_encoding_of_the_site_lacks_is_refused_and_not_changed(radiograph: Path) -> None:
    said = narrative(radiograph)
    said.header.PatientName = "山田^太郎"
    with pytest.raises(RefusedByPeer, match="cannot be written in iso-8859-1"):
        message(said, replace(PLAIN, encoding="iso-8859-1"), "stat", 1, AT)
    said.header.PatientName = "Müller"
    text = message(said, replace(PLAIN, encoding="iso-8859-1"), "stat", 1, AT)[1]
    assert "Müller".encode("latin-1") in text and b"|8859/1" in text


@given(st.text())
def test_no_text_breaks_out_of_its_field(text: str) -> None:
    safe = escape(text)
    assert not set(safe) & set("|^&~\r\n\x0b\x1c")
    whole = safe.replace("\\.br\\", "\n")
    for code, sign in (("F", "|"), ("S", "^"), ("T", "&"), ("R", "~"), ("E", "\\")):
        whole = whole.replace(f"\\{code}\\", sign) if code != "E" else whole.replace("\\E\\", sign)
    if "\\" not in text and text.isprintable():
        assert whole == text


def test_a_file_that_is_no_report_is_our_defect(tmp_path: Path) -> None:
    (path,) = builders.write([builders.radiograph(sop_class="CR", size=16)], tmp_path)
    with pytest.raises(Defect):
        narrative(path)


# ---------------------------------------------------------------- acknowledgements

@pytest.mark.parametrize(("acknowledges", "error"), [
    (("AA", ""), None), (("CA", ""), None), (("AE", "103"), RefusedByPeer), (("CE", ""), RefusedByPeer),
    (("AE", "207"), PeerUnavailable), (("AR", "201"), RefusedByPeer), (("AR", ""), PeerUnavailable),
    (("CR", "207"), PeerUnavailable), (("CR", "203"), RefusedByPeer),
])
def test_each_acknowledgement_is_taken_at_its_word(
    radiograph: Path, acknowledges: tuple[str, str], error: type[Exception] | None,
) -> None:
    one = Hl7(acknowledges=acknowledges)
    with one.running():
        if error is None:
            assert len(one.target().deliver(Parcel((radiograph,), radiograph))) == 1
            return
        with pytest.raises(error, match=" ".join(acknowledges).strip()):
            one.target().deliver(Parcel((radiograph,), radiograph))


@pytest.mark.parametrize("says", [
    b"", b"MSH", b"MSH|^~\\&|a\rMSA|AA|another-message\r", b"MSH|^~\\&|a\rMSA|YES|x\r", b"MSH|^~\\&|a\rMSA|AA\r",
    b"MSH|^~\\&|a\rERR|1\r", b"\xff\xfe" * 20, b"PID|1\rMSA|AA|x\r",
], ids=["empty", "a beginning", "another message", "unknown code", "no control id", "no MSA", "bytes", "no MSH"])
def test_an_answer_that_acknowledges_nothing_of_ours_is_no_success(radiograph: Path, says: bytes) -> None:
    one = Hl7(says=says)
    with one.running(), pytest.raises(PeerUnavailable):
        one.target().deliver(Parcel((radiograph,), radiograph))


def test_an_answer_without_an_end_is_given_up(radiograph: Path) -> None:
    one = Hl7(says=b"MSH" * 600_000)
    with one.running(), pytest.raises(PeerUnavailable, match="does not end"):
        one.target().deliver(Parcel((radiograph,), radiograph))


class _Taker(AbstractHandler):  # type: ignore[misc]
    """Acknowledges a message that it can read."""

    def __init__(self, text: str, taken: list[Message]) -> None:
        super().__init__(text)
        self.taken = taken

    def reply(self) -> str:
        """Return the acknowledgement."""
        whole = parse_message(self.incoming_message, find_groups=True)
        self.taken.append(whole)
        answer = Message("ACK", version="2.5.1")
        answer.msa.msa_1, answer.msa.msa_2 = "AA", whole.msh.msh_10.to_er7()
        return str(answer.to_mllp())


@contextmanager
def receiving() -> Iterator[tuple[int, list[Message]]]:
    """Run hl7apy's own receiver."""
    taken: list[Message] = []
    with MLLPServer(HOST, 0, {"ORU^R01^ORU_R01": (_Taker, taken)}) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server.server_address[1], taken
        finally:
            server.shutdown()
            thread.join()


def test_a_receiver_that_others_wrote_takes_the_message(radiograph: Path) -> None:
    with receiving() as (port, taken):
        target = MllpTarget("ris", HOST, port, PLAIN, lambda: AT, TIMEOUT_S * 4)
        assert len(target.deliver(Parcel((radiograph,), radiograph, "stat"))) == 1
    (whole,) = taken
    assert whole.oru_r01_patient_result.oru_r01_order_observation.obr.obr_5.to_er7() == "S"
