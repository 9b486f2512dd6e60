"""Is everything in place? One check for each part: for /health/ready and for `firstlook check`."""

from __future__ import annotations

import errno
import shutil
import socket
from datetime import datetime
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError

from service.deliver.archives import ArchivePlace
from service.deliver.retrieval import Archive, Retrieve
from service.deliver.target import Target
from service.deliver.ups import StepManager
from service.deliver.worklists import ManagerPlace
from service.domain.commitment import Proof
from service.domain.manifest import READERS, TASKS
from service.domain.study import Kind
from service.errors import FirstlookError
from service.infer.catalogue import Catalogue
from service.infer.networks import Networks
from service.sections import Asked
from service.sections import Target as TargetTable
from service.settings import InvalidSettings, Settings
from service.store.database import Database
from service.tls.calling import calling
from service.tls.files import UnusableCertificate
from service.tls.handshake import HandshakeFailed
from service.tls.inspection import Use, inspect, look
from service.web.health import Check

Called = TargetTable | Asked | ArchivePlace | ManagerPlace


def check_database(database: Database) -> Check:
    """Tell whether the database answers and has its tables."""
    try:
        with database.reading() as session:
            session.connection().execute(text("SELECT 1 FROM job LIMIT 1"))
    except SQLAlchemyError as error:
        return Check("database", False, f"{type(error).__name__}: the database does not answer or has no tables")
    return Check("database", True, database.engine.dialect.name)


def check_migrated(url: str) -> Check:
    """Tell whether the database can be opened and its tables brought up to date."""
    try:
        database = Database(url)
        try:
            database.migrate()
            return check_database(database)
        finally:
            database.close()
    except (SQLAlchemyError, OSError, ImportError) as error:
        return Check("database", False, f"store.database_url: {trouble(error)}")


def trouble(error: Exception) -> str:
    """Say what is wrong with a database in one line, without its password."""
    if isinstance(error, ArgumentError | NoSuchModuleError):
        return "not a database URL; accepted: sqlite:///FILE or postgresql+psycopg://USER:PASSWORD@HOST:PORT/NAME"
    if isinstance(error, ImportError):
        return f"the driver {error.name!r} of this database is not installed; accepted: SQLite and postgresql+psycopg"
    cause = error.orig if isinstance(error, DBAPIError) and error.orig else error
    return f"{type(cause).__name__}: {str(cause).splitlines()[0][:200] if str(cause) else 'no answer'}"


def check_ports(settings: Settings) -> list[Check]:
    """Tell whether the ports can be listened on; one that is taken may be held by the running service."""
    checks = []
    receive = settings.receive
    wanted = [("receive", receive.host, receive.port)] if receive.plain else []
    wanted += [("receive.tls", receive.host, receive.tls.port)] if receive.tls.enabled else []
    for name, host, port in (*wanted, ("web", settings.web.host, settings.web.port)):
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as error:
                taken = " (perhaps by the running service)" if error.errno == errno.EADDRINUSE else ""
                what = f"{name.partition('.')[0]}.host {host}, {name}.port {port}: {error.strerror}{taken}"
                checks.append(Check(f"{name} port", False, what))
            else:
                checks.append(Check(f"{name} port", True, f"{host}:{port} is free"))
    return checks


def check_disk(folder: Path, min_free_bytes: int) -> Check:
    """Tell whether images still have room."""
    free = shutil.disk_usage(folder).free
    said = f"{free / 1e9:.1f} GB free, {min_free_bytes / 1e9:.1f} GB needed"
    return Check("disk", free >= min_free_bytes, said)


def check_bundles(settings: Settings, engine: Networks) -> Check:
    """Tell which bundle runs where."""
    wanted = settings.infer.bundles
    running = engine.providers()
    said = "; ".join(f"{name} on {running.get(name, 'nothing')}" for name in wanted) or "no bundle is set"
    return Check("bundles", all(name in running for name in wanted), said)


def require_tasks(settings: Settings, catalogue: Catalogue) -> None:
    """Compare the task of each bundle with the place that the settings give it.

    Raises: InvalidSettings naming the setting, the bundle and the tasks accepted; UnusableStudy (no_model) when one is
    not installed.
    """
    infer = settings.infer
    places = (
        ("ct_bundles", infer.ct_bundles, [t for t in READERS if TASKS[t] is Kind.CT]),
        ("cxr_bundles", infer.cxr_bundles, [t for t in READERS if TASKS[t] is Kind.CXR]),
        ("cxr_gate", (infer.cxr_gate,), ["cxr-quality"]), ("cxr_lungs", (infer.cxr_lungs,), ["cxr-segmentation"]),
        ("shadow_bundles", infer.shadow_bundles, list(READERS)),
    )
    for place, names, accepted in places:
        for name in filter(None, names):
            task = catalogue.get(name).task
            if task not in accepted:
                raise InvalidSettings(f"infer.{place}: {name!r} has the task {task}; accepted: {', '.join(accepted)}")


def _uninvited(settings: Settings, ae_title: str) -> bool:
    """Tell whether our listener would reject this caller."""
    known = {peer.ae_title.strip() for peer in settings.receive.peers}
    return not settings.receive.any_calling_ae and ae_title.strip() not in known


def check_reports(settings: Settings) -> list[Check]:
    """Tell whether the targets that prove by storage commitment may call our listener with their reports."""
    return [
        Check(f"target {t.name}", False, f"proof = \"commit\", but {t.ae_title} is not under receive.peers: a report on an "
              "association of its own would be rejected")
        for t in settings.deliver.targets if t.proof is Proof.COMMIT and _uninvited(settings, t.ae_title)]


def check_archives(settings: Settings) -> list[Check]:
    """Tell whether archives that send by C-MOVE may call our listener."""
    return [
        Check(f"archive {a.name}", False, f"retrieve = \"move\", but {a.ae_title} is not under receive.peers: the images "
              "that it is to send would be rejected")
        for a in settings.priors.archives if a.retrieve is Retrieve.MOVE and _uninvited(settings, a.ae_title)]


def check_managers(settings: Settings) -> list[Check]:
    """Tell whether managers that report on work items may call our listener."""
    return [
        Check(f"manager {m.name}", False, f"subscribe = true, but {m.ae_title} is not under receive.peers: its reports "
              "would be rejected, and work could not be canceled")
        for m in settings.workitems.managers if m.subscribe and _uninvited(settings, m.ae_title)]


def check_certificates(settings: Settings, now: datetime) -> list[Check]:
    """Tell of each end with TLS whose certificates it has, until when, and whether they can be used; ask peers for theirs.

    now: with time zone.
    """
    checks, receive, deliver = [], settings.receive.tls, settings.deliver
    if receive.enabled:
        checks.append(Check("tls receive", *inspect(receive.files, Use.LISTENING, now)))
    peers: list[tuple[str, Called]] = [("deliver.targets", t) for t in deliver.targets]
    peers += [*(("assemble.ask", a) for a in settings.assemble.ask),
              *(("priors.archives", a) for a in settings.priors.archives),
              *(("workitems.managers", m) for m in settings.workitems.managers)]
    for place, peer in peers:
        if peer.tls.enabled:
            checks.append(Check(f"tls {peer.name}", *_peer_certificates(f"{place}.{peer.name}.tls", peer, now)))
    for section in ("stow", "hl7", "webhooks"):
        for secured in getattr(deliver, section):
            if secured.files(section).paths():
                checks.append(Check(f"tls {secured.name}", *inspect(secured.files(section), Use.CALLING, now)))
    if settings.audit.syslog_host and settings.audit.syslog_transport == "tls":
        checks.append(Check("tls syslog", *inspect(settings.audit.files, Use.CALLING, now)))
    return checks


def _peer_certificates(place: str, peer: Called, now: datetime) -> tuple[bool, str]:
    """Tell of our files for a peer, then of what it shows."""
    well, said = inspect(peer.tls.files(place), Use.CALLING, now)
    if not well:
        return False, said
    try:
        how = calling(peer.tls, place, peer.host)
        theirs = look(how, peer.host, peer.port, peer.timeout_s, now) if how else ""
    except HandshakeFailed as failed:
        return False, f"{failed.trouble.sentence}; ours: {said}"
    except UnusableCertificate as error:
        return False, str(error)
    except OSError as error:
        return False, f"it could not be reached ({error.strerror or 'no answer'}); ours: {said}"
    return True, f"{theirs}; ours: {said}"


def check_target(target: Target | Archive | StepManager, what: str = "target") -> Check:
    """Ask a target, or what else can be asked, whether it answers."""
    try:
        target.echo()
    except FirstlookError as error:
        return Check(f"{what} {target.name}", False, error.detail)
    return Check(f"{what} {target.name}", True, "answers")
