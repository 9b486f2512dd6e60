"""Results told to a web address: a JSON message without patient data by default, signed, the same when told again."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable, Sequence
from typing import Any

from service import logs
from service.deliver.http import Caller
from service.deliver.narrative import first_value, narrative
from service.deliver.objects import Object, read_object
from service.deliver.target import Parcel
from service.errors import Defect, Reason

NOTICE = "Research use only. Not for clinical diagnosis."
SIGNATURE, TIMESTAMP, DELIVERY = "X-Firstlook-Signature", "X-Firstlook-Timestamp", "X-Firstlook-Delivery"
_PATIENT = ("PatientID", "IssuerOfPatientID", "AccessionNumber")
log = logs.get("deliver.webhook")


class WebhookTarget:
    """A web address that is told of each result by POST.

    secret: key of the signature; with_patient: Patient ID, its issuer and Accession Number are told too; clock: Unix time.
    """

    def __init__(self, caller: Caller, url: str, secret: str, with_patient: bool, clock: Callable[[], float]) -> None:
        self.name = caller.name
        self._caller = caller
        self._url = url
        self._secret = secret.encode()
        self._with_patient = with_patient
        self._clock = clock

    def deliver(self, parcel: Parcel) -> list[str]:
        """Tell of a result and return the UIDs of its objects once the address has answered 2xx.

        Raises: RefusedByPeer for another answer that is final; PeerUnavailable; Defect.
        """
        if not parcel.paths:
            return []
        objects = [read_object(path) for path in parcel.paths]
        uids = [o.sop_instance for o in objects]
        body = json.dumps(self._message(parcel, objects), ensure_ascii=False, separators=(",", ":")).encode()
        answer = self._caller.call("POST", self._url, self._headers(body, uids), body)
        log.info("result told", extra={"target": self.name, "status": answer.status})
        if not 200 <= answer.status < 300:
            raise self._caller.failure(answer.status, "the message")
        return uids

    def echo(self) -> None:
        """Send a signed message that tells of nothing. Raises: PeerUnavailable or RefusedByPeer."""
        body = json.dumps({"notice": NOTICE, "event": "ping"}).encode()
        answer = self._caller.call("POST", self._url, self._headers(body, ["ping"]), body)
        if not 200 <= answer.status < 300:
            raise self._caller.failure(answer.status, "a ping")

    def _headers(self, body: bytes, uids: Sequence[str]) -> dict[str, str]:
        """Return the headers. The signature is over time and body, so that an old message cannot be sent by others."""
        at = str(int(self._clock()))
        return {
            "Content-Type": "application/json", TIMESTAMP: at,
            SIGNATURE: signature(self._secret, at, body),
            DELIVERY: hashlib.sha256("\n".join(uids).encode()).hexdigest()[:32],
        }

    def _message(self, parcel: Parcel, objects: Sequence[Object]) -> dict[str, Any]:
        if parcel.report is None:
            raise Defect(Reason.INTERNAL_ERROR, "a result without a report cannot be told")
        said = narrative(parcel.report)
        message: dict[str, Any] = {
            "notice": NOTICE, "event": "result", "study_instance_uid": str(said.header.StudyInstanceUID),
            "revision": parcel.revision, "urgency": parcel.urgency, "abnormal": said.abnormal,
            "status": said.status.meaning if said.status else "",
            "findings": [
                {"code": f.code.value, "scheme": f.code.scheme, "meaning": f.code.meaning, "present": f.present,
                 "place": f.place, "probability_percent": float(f.probability), "model": f.model} for f in said.findings],
            "objects": [
                {"sop_class_uid": str(o.sop_class), "sop_instance_uid": o.sop_instance} for o in objects],
        }
        if self._with_patient:
            message["patient"] = {name: first_value(said.header, name) for name in _PATIENT}
        return message


def signature(secret: bytes, at: str, body: bytes) -> str:
    """Return the signature of a message: "sha256=" and the HMAC, in hex, of time, a dot and the body."""
    return "sha256=" + hmac.new(secret, at.encode() + b"." + body, hashlib.sha256).hexdigest()
