"""The DICOM conformance statement (PS3.2) as a document in Markdown."""

from __future__ import annotations

from collections.abc import Iterable

from service import DISCLAIMER
from service.conformance import tables
from service.conformance.dump import attributes, tree
from service.conformance.samples import of_ct, of_radiograph, of_refusal
from service.report.build import Made
from service.report.identity import IMPLEMENTATION_CLASS_UID, MANUFACTURER
from service.tls.contexts import SUITES

_MADE_BY = "firstlook conformance > deploy/CONFORMANCE.md"
_TREES = ("sr", "ko")


def statement() -> str:
    """Return the text of deploy/CONFORMANCE.md."""
    parts = (_head(), *_network(), *_beside(), *_security(), *_input(), *_results(), *_dumps())
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _head() -> str:
    return f"""# DICOM conformance statement

{DISCLAIMER} This document is made by the code (`{_MADE_BY}`)
and compared with it in a test.

## 1 What it is

firstlook receives chest radiographs and chest CT from a PACS or a modality, puts the studies in order of urgency, lets
models look at them, and sends the results back as DICOM objects.

- Implementation Class UID: {IMPLEMENTATION_CLASS_UID}
- Implementation Version Name: FIRSTLOOK_ and the version
- Manufacturer (0008,0070) of every object: {MANUFACTURER}"""


def _network() -> Iterable[str]:
    return (_accepted(), _proposed(), _bounds(), _completeness())


def _accepted() -> str:
    return f"""## 2 Networking

One application entity (`receive.ae_title`) receives; it calls the targets by the same title unless `calling_ae_title` says
otherwise. A caller must name our AE title; its own must be under `receive.peers`, with its network where one is given.

### 2.1 Accepted presentation contexts

{tables.accepted()}

Uncompressed: {tables.uncompressed()}.

Compressed: {tables.compressed()}.

Neither deflated nor big endian transfer syntaxes are accepted. Objects of classes that hold results are acknowledged and not
kept: a router that sends everything back causes no error and no loop. Except: a Segmentation drawn by hand or half so
(Segment Algorithm Type MANUAL or SEMIAUTOMATIC), or an SR that is verified (Verification Flag) or observed by a person
(Observer Type), of a study that is here, is kept and attached as feedback (`receive.corrections`); its segments are matched
by Segmented Property Type and laterality, its findings by what stands under Finding and Clinical finding absent. The
notices (Modality Performed Procedure Step, Instance Availability Notification) are taken unless `receive.notices` is off."""


def _proposed() -> str:
    return f"""### 2.2 Proposed presentation contexts

{tables.proposed()}

Only the classes of the objects at hand are proposed. A peer that accepts a class in no syntax gets nothing; the study page
says so. Storage commitment is requested and reports of the peer are taken on the same association or on one that the peer
opens, where `deliver.targets.proof` is `commit`; with `cfind` a query at IMAGE level is the proof.

Archives under `priors.archives` are asked for earlier studies of a patient by Patient ID at STUDY level (Study Root; keys
Issuer of Patient ID, Patient's Birth Date, Study Date and Time, Modalities in Study, Number of Study Related Instances), and
series of the modality in question are fetched one by one at SERIES level, by C-GET or by C-MOVE to `receive.ae_title`.

Managers under `workitems.managers` hand out work as Unified Procedure Steps (PS3.4 CC; performer of IHE AIW-I by pull). They
are asked by C-FIND (UPS Pull) for steps that are SCHEDULED and READY, name one study and carry one of `codes`; a step is
claimed by N-ACTION (IN PROGRESS, our Transaction UID), told of by N-SET (progress; then performed procedure with Output
Information Sequence: every object of the result), and ended by N-ACTION (COMPLETED, or CANCELED with a reason where the
study was not assessed, no image came, or it was asked for). With `subscribe` reports are asked for (N-ACTION, UPS Watch) and
taken (N-EVENT-REPORT, UPS Event, on an association that the manager opens, where it is the SCP): event type 2 asks us to
cancel."""


def _bounds() -> str:
    return f"""### 2.3 Rejected associations

{tables.rejections()}

### 2.4 Statuses of C-STORE

{tables.statuses()}

### 2.5 Timers and limits

{tables.limits()}

A delivery that fails for a passing reason is tried again, each wait longer than the last, for `work.deliver_for_h`; a final
refusal is shown on the worklist and tried again only when a person asks for it."""


def _completeness() -> str:
    return """### 2.6 Completeness

DICOM sends no end of study. A study is judged when a notice says that it is whole, when a PACS that is asked counts as many
images as have come, or when no image came for the quiet time after the association was released; at the latest after the
longest wait. Images that come later make a new revision: new objects with new UIDs, and an SR that names the one it replaces
(Predecessor Documents Sequence)."""


def _beside() -> Iterable[str]:
    yield """### 2.7 Other ways out

A target may take results otherwise than by C-STORE; all of them are tried again, parked and sent once more alike.

- `stow`: a DICOMweb Store transaction (STOW-RS, PS3.18 10.5): multipart/related of application/dicom, each object as it is.
  Taken is what stands in the Referenced SOP Sequence of the answer.
- `folder`: files (PS3.10), each under its final name only when it is whole and synced.
- `hl7`: HL7 v2.5.1 ORU^R01 over MLLP: the text of the SR, coded findings, OBX-8 and OBX-11 P, as mapped by the site. Taken
  when MSA-1 is AA or CA for our control ID.
- `webhook`: JSON over HTTP, signed (HMAC-SHA-256). Taken with a status from 200 to 299.

A Store request carries a token or one of OAuth 2.0 client credentials (RFC 6749 4.4) where the target says so. No Query,
Retrieve or Store transaction of DICOMweb is served, no media are written, and nothing is printed."""


def _input() -> Iterable[str]:
    yield f"""## 4 Input

### 4.1 Attributes that are read

Beside the pixels and how they are described (PS3.3 C.7.6.3, C.7.6.16, C.7.6.11, C.8.7.3, C.11), these attributes decide what
is read, in which order, and what is said of it. None but the UIDs is required to be there.

{tables.attributes_read()}

### 4.2 What is chosen

- CT: one series, PRIMARY and no localizer, MIP or reformation; axial within 32 degrees; ordered by position along the
  normal, never by Instance Number. Of several: not in expiration, slices at most 3 mm apart, the kernel of
  `assemble.ct_kernel`, longest coverage, lowest Series Number. Enhanced CT: each frame is a slice, by its functional groups.
- Distances: one missing slice is said, more refuse the series; runs of different distances are counted slice by slice;
  images with equal pixels at one position count once. Rescale is that of each slice; padding is air.
- Radiographs: every frontal CR and DX for presentation. Modality LUT, then VOI LUT or the first window (LINEAR,
  LINEAR_EXACT, SIGMOID), then inversion of MONOCHROME1. Shutter and collimator are followed; regions are told in pixels of
  the source.
- Sides come from patient coordinates or Patient Orientation; where that contradicts itself none is told.

### 4.3 Reasons of refusal

A study that is not assessed has one of these codes, the same in the SR (NOTASSESSED, 99FIRSTLOOK), on the worklist and in
the trace. Others of them are those of objects that are not taken and of deliveries.

{tables.reasons()}"""


def _security() -> Iterable[str]:
    suites = "\n".join(f"- {suite}" for suite in SUITES if not suite.startswith("@"))
    yield f"""## 3 Security

TLS follows the BCP 195 RFC 8996, 9325 profile (PS3.15 B.12): TLS 1.2 at least, 1.3 where the peer has it. Suites of TLS 1.2:

{suites}

No compression, no renegotiation, no resumption of sessions. An AE title is no proof of identity: callers are bound to
networks, and to certificates where TLS asks for them. Logs, metrics and file names hold UIDs, never names or birth dates.

Audit messages (PS3.15 A.5) are written to files and sent to a syslog receiver (RFC 5424; over TLS, RFC 5425, or UDP, RFC
5426): Application Activity, User Authentication, DICOM Instances Accessed, DICOM Instances Transferred, Security Alert."""


def _results() -> Iterable[str]:
    yield f"""## 5 Results

{tables.results()}

Every object belongs to the study of its images: patient and study attributes are copied as they are. Each kind has a series
of its own. UIDs follow from the images and the weights of the models: the same input gives the same object, whatever the
number of tries; new weights give a new Device UID (0018,1002) and new objects. Native pixels, Explicit VR Little Endian.

- Contributing Equipment Sequence: one item for each model, (109102, DCM, "Processing Equipment") with its Device UID.
- Content Qualification RESEARCH; of an SR: Completion COMPLETE, Preliminary PRELIMINARY, Verification UNVERIFIED.
- A finding that is absent stands under (373572006, SCT, "Clinical finding absent"), never under "Finding".
- "Normal" is never said: a study that was not assessed has an SR with (111245, DCM) and its reason code.
- Numbers of the model are percentages with the threshold in words; they are no calibrated probabilities of disease.
- Time zone: that of the source where it says one, else UTC. Character set: that of the source, else UTF-8.
- SEG: one multi-segment BINARY object; a lung holds its findings, so Segments Overlap is YES where it does.
- Image library: key slices only; the evidence sequence lists every image that was read."""
    yield f"""### 5.1 Coded concepts

Codes of the scheme 99FIRSTLOOK are private; Coding Scheme Identification Sequence declares it.

{tables.concepts()}"""


def _dumps() -> Iterable[str]:
    yield ("## 6 Examples\n\nOne object of each kind, made by the code from images that exist on paper only. Of sequences "
           "only the first item is shown.")
    ct = {m.kind: m for m in reversed(of_ct())}
    radiograph = {m.kind: m for m in reversed(of_radiograph())}
    (refused,) = of_refusal()
    for title, made in (
        ("SR of a CT", ct["sr"]), ("SR of a radiograph", radiograph["sr"]), ("SR of a study that was not assessed", refused),
        ("Segmentation", ct["seg"]), ("Secondary Capture", radiograph["sc"]), ("Presentation state", radiograph["pr"]),
        ("Key object selection", ct["ko"]),
    ):
        yield f"### {title}\n\n```\n{_dump(made)}\n```"


def _dump(made: Made) -> str:
    return "\n".join((tree if made.kind in _TREES else attributes)(made.dataset))
