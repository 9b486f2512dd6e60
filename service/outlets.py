"""From the settings to the targets: each place that results go to, what it takes and how it proves that it keeps it."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable

from service.deliver.cstore import CStoreTarget
from service.deliver.folder import FolderTarget
from service.deliver.http import Caller, Credentials, Token
from service.deliver.inquiry import Inquiry
from service.deliver.mllp import MllpTarget
from service.deliver.oauth import Client, ClientCredentials
from service.deliver.oru import Mapped
from service.deliver.places import Hl7Place, Secured, StowPlace, WebhookPlace
from service.deliver.proving import DicomProver, Report
from service.deliver.retrieval import Archive
from service.deliver.stow import StowTarget
from service.deliver.target import Outlet
from service.deliver.ups import StepManager
from service.deliver.webhook import WebhookTarget
from service.domain.commitment import Answer, Proof
from service.receive.policy import image_contexts
from service.receive.reports import report_handler
from service.sections import Target
from service.settings import InvalidSettings, Settings, secret
from service.tls.calling import Calling, calling
from service.tls.contexts import client_context
from service.tls.files import UnusableCertificate
from service.tls.renewal import Renewed
from service.tls.sections import PeerTls

Record = Callable[[Answer], bool]
Use = Callable[[Renewed], None]
_TOLD = frozenset({"sr"})  # what a message tells of: there is a report for each result, and for each refusal


def _unwatched(renewed: Renewed) -> None:
    """Stand in where nobody watches certificates."""


def outlets(settings: Settings, record: Record, clock: Callable[[], float] = time.time,
            use: Use = _unwatched) -> dict[str, Outlet]:
    """Return every target of the settings by its name.

    record: writes down reports of storage commitment; clock: Unix time; use: told of each set of certificates that DICOM
    peers are called with. Raises: InvalidSettings for a file that cannot be used.
    """
    on_report, deliver = report_handler(record), settings.deliver
    made = [
        *(_pacs(settings, t, on_report, use) for t in deliver.targets),
        *(Outlet(_stow(p), frozenset(p.objects)) for p in deliver.stow),
        *(Outlet(FolderTarget(p.name, p.folder), frozenset(p.objects)) for p in deliver.folders),
        *(Outlet(_hl7(p, clock), _TOLD) for p in deliver.hl7),
        *(Outlet(_webhook(p, clock), _TOLD) for p in deliver.webhooks),
    ]
    return {outlet.target.name: outlet for outlet in made}


def kinds_by_target(settings: Settings) -> dict[str, frozenset[str]]:
    """Return the kinds of objects that each target takes, without making the targets."""
    return {place.name: frozenset(getattr(place, "objects", _TOLD)) for place in settings.deliver.all}


def inquiries(settings: Settings, use: Use = _unwatched) -> list[Inquiry]:
    """Return the PACS that are asked how many images of a study they hold. use, errors: as `outlets`."""
    return [Inquiry(CStoreTarget(a.name, a.ae_title, a.host, a.port, a.calling_ae_title or settings.receive.ae_title,
                                 a.timeout_s, calling=_calling(a.tls, f"assemble.ask.{a.name}.tls", a.host, use)))
            for a in settings.assemble.ask]


def archives(settings: Settings, use: Use = _unwatched) -> dict[str, Archive]:
    """Return the archives that earlier studies are fetched from, by name. use, errors: as `outlets`."""
    ours = settings.receive.ae_title
    return {
        a.name: Archive(
            CStoreTarget(a.name, a.ae_title, a.host, a.port, a.calling_ae_title or ours, a.timeout_s,
                         calling=_calling(a.tls, f"priors.archives.{a.name}.tls", a.host, use)),
            a.retrieve, ours, image_contexts(), a.most_images)
        for a in settings.priors.archives}


def managers(settings: Settings, use: Use = _unwatched) -> dict[str, StepManager]:
    """Return the managers that hand out work items, by name. use, errors: as `outlets`."""
    ours = settings.receive.ae_title
    return {
        m.name: StepManager(
            CStoreTarget(m.name, m.ae_title, m.host, m.port, m.calling_ae_title or ours, m.timeout_s,
                         calling=_calling(m.tls, f"workitems.managers.{m.name}.tls", m.host, use)), ours, m.station)
        for m in settings.workitems.managers}


def _pacs(settings: Settings, target: Target, on_report: Report, use: Use) -> Outlet:
    """Return the outlet that a table of deliver.targets describes."""
    calling = _calling(target.tls, f"deliver.targets.{target.name}.tls", target.host, use)
    peer = CStoreTarget(target.name, target.ae_title, target.host, target.port,
                        target.calling_ae_title or settings.receive.ae_title, target.timeout_s, target.transfer_syntax,
                        calling)
    prover = None if target.proof is Proof.NONE else DicomProver(
        peer, target.proof, target.prove_within_s, target.report_wait_s, on_report)
    return Outlet(peer, frozenset(target.objects), prover)


def _calling(wanted: PeerTls, place: str, host: str, use: Use) -> Calling | None:
    try:
        made = calling(wanted, place, host)
    except UnusableCertificate as error:
        raise InvalidSettings(str(error)) from error
    if made is not None:
        use(made.renewed)
    return made


def _stow(place: StowPlace) -> StowTarget:
    context = _context(place, "stow")
    credentials: Credentials | None = None
    if place.token:
        credentials = Token(secret(place.token, f"deliver.stow.{place.name}.token"))
    elif place.token_url:
        client = Client(place.token_url, place.client_id,
                        secret(place.client_secret, f"deliver.stow.{place.name}.client_secret"), place.scope,
                        place.client_in_body)
        credentials = ClientCredentials(client, Caller(place.name, place.timeout_s, context), time.monotonic)
    return StowTarget(Caller(place.name, place.timeout_s, context, credentials), place.url)


def _hl7(place: Hl7Place, clock: Callable[[], float]) -> MllpTarget:
    mapped = Mapped(
        fields=place.fields, priorities=place.priorities, encoding=place.encoding, abnormal=place.abnormal_flag,
        status=place.result_status, text_code=place.text_code, with_text=place.with_text, with_codes=place.with_codes)
    context = _context(place, "hl7") if place.tls else None
    return MllpTarget(place.name, place.host, place.port, mapped, clock, place.timeout_s, context)


def _webhook(place: WebhookPlace, clock: Callable[[], float]) -> WebhookTarget:
    key = secret(place.secret, f"deliver.webhooks.{place.name}.secret")
    caller = Caller(place.name, place.timeout_s, _context(place, "webhooks"))
    return WebhookTarget(caller, place.url, key, place.with_patient, clock)


def _context(place: Secured, section: str) -> ssl.SSLContext:
    try:
        return client_context(place.files(section), check_name=True)
    except UnusableCertificate as error:
        raise InvalidSettings(str(error)) from error
