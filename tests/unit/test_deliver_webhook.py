"""The message of a webhook: what it says, what it never says unless asked, and its signature."""

from __future__ import annotations

import json
from typing import Any

import pytest

from service.deliver.target import Parcel
from service.deliver.webhook import signature
from service.errors import PeerUnavailable, RefusedByPeer
from service.report.build import build
from tests import builders
from tests.contracts.assessed import NOW, STYLE, cxr_by_two, pictures
from tests.contracts.receivers import Hook


@pytest.fixture(scope="module")
def parcel(tmp_path_factory: pytest.TempPathFactory) -> Parcel:
    """The report of a radiograph."""
    sources = [builders.radiograph(sop_class="DX", size=256)]
    selection, assessment = cxr_by_two(sources)
    path = tmp_path_factory.mktemp("cxr") / "sr.dcm"
    made = build(selection, sources, assessment, STYLE, "d" * 64, 1, [], NOW, pictures(sources))
    made[-1].dataset.save_as(path, enforce_file_format=True)
    return Parcel((path,), path, "urgent", 2)


def told(parcel: Parcel, with_patient: bool = False) -> tuple[Any, Hook]:
    """Deliver, and return the message and the address that took it."""
    hook = Hook(with_patient=with_patient)
    with hook.running():
        hook.target().deliver(parcel)
    (message,) = hook.taken.values()
    return message, hook


def test_the_message_says_what_was_found_how_urgent_it_is_and_which_objects_there_are(parcel: Parcel) -> None:
    message, _ = told(parcel)
    assert message["notice"].startswith("Research use only") and message["event"] == "result"
    assert (message["urgency"], message["revision"], message["abnormal"]) == ("urgent", 2, True)
    assert message["study_instance_uid"] == builders.uid(2, 1)
    findings = [(f["code"], f["scheme"], f["present"], f["probability_percent"]) for f in message["findings"]]
    assert findings[0] == ("233604007", "SCT", True, 75.0), "what has a region comes first"
    assert ("233604007", "SCT", True, 80.0) in findings
    assert [o["sop_class_uid"] for o in message["objects"]] == ["1.2.840.10008.5.1.4.1.1.88.34"]


def test_patient_data_are_told_only_when_asked_for(parcel: Parcel) -> None:
    plain, hook = told(parcel)
    whole = json.dumps(plain) + str(hook.requests[0][2])
    assert not [text for text in ("P0002", "Test", "19600101", "1960-01-01", "A21") if text in whole]
    asked, _ = told(parcel, with_patient=True)
    assert asked["patient"] == {"PatientID": "P0002", "IssuerOfPatientID": "", "AccessionNumber": "A21"}


def test_the_signature_is_over_time_and_body() -> None:
    one = signature(b"key", "10", b"body")
    assert one == "sha256=fd932a7d773b05314d1787fc7e6fc9ae14a26b14245e3eb7522f137706419526", "as OpenSSL makes it"
    others = [signature(*what) for what in ((b"key", "11", b"body"), (b"key", "10", b"bodx"), (b"kex", "10", b"body"))]
    assert len({one, *others}) == 4


@pytest.mark.parametrize(("does", "error", "said"), [
    ("refuse", RefusedByPeer, "HTTP 422"), ("busy", PeerUnavailable, "HTTP 503"), ("nonsense", PeerUnavailable, "redirects"),
])
def test_an_answer_other_than_2xx_is_told_with_its_status(
    parcel: Parcel, does: str, error: type[Exception], said: str,
) -> None:
    hook = Hook(does=does)
    with hook.running(), pytest.raises(error, match=said):
        hook.target().deliver(parcel)
