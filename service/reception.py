"""From the settings to what stands between the service and its users: the door of the pages, and the audit trail."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from service import __version__, logs
from service.access.door import Door
from service.access.identity import Provider
from service.access.passwords import Passwords
from service.access.sessions import Sessions
from service.access.throttle import Throttle
from service.audit.file import AuditFile
from service.audit.lookup import look_up
from service.audit.message import Source
from service.audit.syslog import Syslog
from service.audit.trail import Sink, Trail
from service.settings import InvalidSettings, Settings, secret
from service.store.database import Database
from service.tls.contexts import client_context
from service.tls.files import UnusableCertificate
from service.traces import OtlpTracing, Silent, Tracing

_log = logs.get("app")


def door_of(settings: Settings, database: Database, clock: Callable[[], float], trail: Trail) -> Door:
    """Return the door of the pages as these settings want it, and warn where nobody could come in."""
    web = settings.web
    sessions = Sessions(database, clock, web.session_idle_h * 3600, web.session_longest_h * 3600)
    door = Door(database, clock, web.login, web.access_token, sessions, Passwords(), Throttle(database, clock), trail,
                _provider(settings, clock))
    if door.asks() and door.provider is None and not door.has_people():
        _log.warning("nobody can log in yet: firstlook users add NAME --role administrator")
    return door


def _provider(settings: Settings, clock: Callable[[], float]) -> Provider | None:
    """Return the identity provider, if there is one. Raises: InvalidSettings when the extra is not installed."""
    wanted = settings.web.oidc
    if not wanted.enabled:
        return None
    try:
        from service.access.provider import OidcProvider
    except ImportError as error:
        raise InvalidSettings(f"web.oidc: {error.name} is not installed; it comes with the extra oidc") from error
    return OidcProvider(wanted, secret(wanted.client_secret, "web.oidc.client_secret"), clock)


def tracing_of(settings: Settings, roles: Iterable[str]) -> Tracing:
    """Return where traces go. roles: of this process. Raises: InvalidSettings when the extra is not installed."""
    if not settings.monitor.otlp_endpoint:
        return Silent()
    try:
        return OtlpTracing(settings.monitor.otlp_endpoint, ",".join(sorted(roles)), __version__)
    except ImportError as error:
        raise InvalidSettings(f"monitor.otlp_endpoint: {error.name} is not installed; it comes with the extra otel"
                              ) from error


def trail_of(settings: Settings, database: Database, clock: Callable[[], float],
             failed: Callable[[int], object] = lambda _number: None) -> Trail:
    """Return the audit trail as these settings want it. failed: told how many messages a place did not take.

    Raises: InvalidSettings for a certificate that cannot be used.
    """
    audit = settings.audit
    sinks: list[Sink] = []
    if audit.file:
        sinks.append(AuditFile(settings.store.data_dir.resolve() / "audit", audit.keep_days))
    if audit.syslog_host:
        try:
            context = client_context(audit.files, check_name=True) if audit.syslog_transport == "tls" else None
        except UnusableCertificate as error:
            raise InvalidSettings(str(error)) from error
        sinks.append(Syslog(audit.syslog_host, audit.syslog_port, context, audit.syslog_timeout_s, failed))
    return Trail(sinks, Source(audit.source_id, audit.site_id), settings.receive.ae_title, clock,
                 partial(look_up, database), lambda: failed(1))
