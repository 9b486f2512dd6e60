"""What is audited, each as PS3.15 A.5.3 wants it: codes of PS3.16 CID 400 and 402, participants and what it was about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from service.audit.message import MINOR_FAILURE, Code, Happening, Participant, Subject

_ACTIVITY = Code("110100", "Application Activity")
_LOG_USED = Code("110101", "Audit Log Used")
_ACCESSED = Code("110103", "DICOM Instances Accessed")
_TRANSFERRED = Code("110104", "DICOM Instances Transferred")
_ALERT = Code("110113", "Security Alert")
_AUTHENTICATION = Code("110114", "User Authentication")
EVENTS = {code.value: code.meaning for code in (_ACTIVITY, _LOG_USED, _ACCESSED, _TRANSFERRED, _ALERT, _AUTHENTICATION)}
"""Every Event ID that is told, with its meaning."""
RESTRICTED = Code("110127", "Use of Restricted Function")
START, STOP = Code("110120", "Application Start"), Code("110121", "Application Stop")
LOGIN, LOGOUT = Code("110122", "Login"), Code("110123", "Logout")
NODE_AUTHENTICATION, SOFTWARE = Code("110126", "Node Authentication"), Code("110131", "Software Configuration")
ROLES_CHANGED = Code("110136", "Security Roles Changed")
ATTRIBUTES_CHANGED = Code("110137", "User Security Attributes Changed")
_APPLICATION, _LAUNCHER = Code("110150", "Application"), Code("110151", "Application Launcher")
_DESTINATION, _SOURCE = Code("110152", "Destination Role ID"), Code("110153", "Source Role ID")
_STUDY_UID, _PATIENT_NUMBER = Code("110180", "Study Instance UID"), Code("2", "Patient Number", "RFC-3881")
_URI, _USER_ID = Code("12", "URI", "RFC-3881"), Code("11", "User Identifier", "RFC-3881")


@dataclass(frozen=True)
class Host:
    """This service as it takes part in events: its AE title, process id and host name."""

    ae_title: str
    process_id: int
    name: str

    def took_part(self, role: Code, requestor: bool = False) -> Participant:
        """Return the service as a participant."""
        return Participant(self.ae_title, role, requestor, name="firstlook", alternative=str(self.process_id),
                           address=self.name)

    def alerted(self, said: str) -> Subject:
        """Return the service as what an alert is about. said: what happened."""
        return Subject(f"dicom://{self.name}/{self.ae_title}", _URI, "2", "13", self.ae_title,
                       details=[("Alert Description", said)])


@dataclass(frozen=True)
class Known:
    """A study and its patient, as the audit trail names them."""

    study_instance_uid: str
    accession_number: str = ""
    patient_id: str = ""
    patient_name: str = ""

    def subjects(self, instances: Sequence[tuple[str, int]] = ()) -> tuple[Subject, Subject]:
        """Return study and patient. instances: SOP Class UID with a number of instances."""
        return (Subject(self.study_instance_uid, _STUDY_UID, "2", "3", "DICOM study", self.accession_number, instances),
                Subject(self.patient_id, _PATIENT_NUMBER, "1", "1", self.patient_name))


def activity(host: Host, type: Code, by: str) -> Happening:
    """The application starts or stops. by: who runs it."""
    return Happening(_ACTIVITY, "E", (host.took_part(_APPLICATION), Participant(by, _LAUNCHER, True, address=host.name)),
                     type=type)


def authentication(host: Host, type: Code, name: str, address: str, failed: str = "") -> Happening:
    """Somebody logs in or out. name: of the account, "" for one that is not known; failed: why it did not work."""
    person = Participant(name or "(unknown name)", None, True, address=address)
    return Happening(_AUTHENTICATION, "E", (person, host.took_part(_APPLICATION)), type=type,
                     outcome=MINOR_FAILURE if failed else "0", description=failed)


def seen(host: Host, name: str, address: str, known: Known, what: str) -> Happening:
    """Somebody looks at a study. name: of the account, "" where nobody logs in; what: free of patient data."""
    person = Participant(name or "(no login)", None, True, address=address)
    return Happening(_ACCESSED, "R", (person, host.took_part(_SOURCE)), known.subjects(), description=what)


def log_used(host: Host, name: str, address: str) -> Happening:
    """Somebody reads the audit trail itself. name: of the account, "" where nobody logs in."""
    person = Participant(name or "(no login)", None, True, address=address)
    about = Subject(f"file://{host.name}/audit", _URI, "2", "13", "Security Audit Log")
    return Happening(_LOG_USED, "R", (person,), (about,))


def received(host: Host, calling_aet: str, address: str, known: Known, instances: Sequence[tuple[str, int]]) -> Happening:
    """Images of a study came over one association."""
    peer = Participant(calling_aet, _SOURCE, True, address=address)
    return Happening(_TRANSFERRED, "C", (peer, host.took_part(_DESTINATION)), known.subjects(instances))


def delivered(host: Host, target: str, known: Known, instances: Sequence[tuple[str, int]]) -> Happening:
    """Results of a study were stored in a target. target: its name in the settings."""
    return Happening(_TRANSFERRED, "R", (host.took_part(_SOURCE, requestor=True), Participant(target, _DESTINATION)),
                     known.subjects(instances))


def turned_away(host: Host, because: str, address: str, calling: str, not_told_since: int) -> Happening:
    """A caller was turned away. because: the code of the reason; not_told_since: how many more there were unaudited."""
    caller = Participant(calling or "(unknown)", None, True, address=address)
    about = host.alerted(f"turned away: {because}; {not_told_since} more not audited before")
    return Happening(_ALERT, "E", (host.took_part(_APPLICATION), caller), (about,), NODE_AUTHENTICATION, MINOR_FAILURE,
                     because)


def refused(host: Host, name: str, address: str, what: str) -> Happening:
    """An account was refused what it may not do. what: it asked for, method and path."""
    said = f"refused: {what}"
    person = Participant(name, None, True, address=address)
    return Happening(_ALERT, "E", (person, host.took_part(_APPLICATION)), (host.alerted(said),), RESTRICTED, MINOR_FAILURE,
                     said)


def account_changed(host: Host, by: str, name: str, what: str, type: Code = ATTRIBUTES_CHANGED,
                    address: str = "") -> Happening:
    """An account was made or changed. by: who did it; what: was done, in words; address: of the caller, "": this machine."""
    about = Subject(name, _USER_ID, "1", "11", name, details=[("Alert Description", what)])
    return Happening(_ALERT, "E", (Participant(by, None, True, address=address or host.name), host.took_part(_APPLICATION)),
                     (about,), type, description=what)


def configuration_changed(host: Host, by: str, what: str, address: str = "") -> Happening:
    """What the service works with was changed while it runs. by, what, address: as of `account_changed`."""
    return Happening(_ALERT, "E", (Participant(by, None, True, address=address or host.name), host.took_part(_APPLICATION)),
                     (host.alerted(what),), SOFTWARE, description=what)
