"""Takes what happened, makes messages of it and gives them to file and syslog; the service goes on when that fails."""

from __future__ import annotations

import os
import pwd
import socket
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Protocol

from service import logs
from service.audit import events
from service.audit.events import Host, Known
from service.audit.message import Code, Happening, Source, as_xml

_AGAIN_S = 60.0  # the same person at the same study is told once in this time
_REMEMBERED = 4096
_log = logs.get("audit")


class Sink(Protocol):
    """A place for messages."""

    def write(self, message: bytes, at: float) -> None:
        """Take one message. at: Unix time, seconds. Raises: OSError."""

    def close(self) -> None:
        """Write what waits, and end."""


class Trail:
    """The audit trail of one process; safe to share between threads. Without sinks it does nothing.

    who: looks up study and patient of a Study Instance UID, None where there is none; failed: told of a message that a
    sink did not take.
    """

    def __init__(self, sinks: Sequence[Sink], source: Source, ae_title: str, clock: Callable[[], float],
                 who: Callable[[str], Known | None] = lambda _uid: None,
                 failed: Callable[[], object] = lambda: None) -> None:
        self._sinks, self._source, self._clock, self._who, self._failed = sinks, source, clock, who, failed
        self._host = Host(ae_title, os.getpid(), socket.gethostname())
        self._lock = threading.Lock()
        self._seen: OrderedDict[tuple[str, str, str, str], float] = OrderedDict()

    def started(self) -> None:
        """The service starts."""
        self._tell(events.activity(self._host, events.START, runner()))

    def stopped(self) -> None:
        """The service stops: the last message."""
        self._tell(events.activity(self._host, events.STOP, runner()))
        self.close()

    def close(self) -> None:
        """Write what waits, and end."""
        for sink in self._sinks:
            sink.close()

    def logged_in(self, name: str, address: str) -> None:
        """A login was good."""
        self._tell(events.authentication(self._host, events.LOGIN, name, address))

    def login_failed(self, name: str, address: str, why: str) -> None:
        """A login was not. name: "" for one that nobody has, which may be a password."""
        self._tell(events.authentication(self._host, events.LOGIN, name, address, why))

    def logged_out(self, name: str, address: str) -> None:
        """Somebody left."""
        self._tell(events.authentication(self._host, events.LOGOUT, name, address))

    def seen(self, name: str, address: str, study_instance_uid: str, what: str) -> None:
        """Somebody looked at a study; a page that refreshes itself counts once a minute."""
        if not self._sinks or not self._anew((name, address, study_instance_uid, what)):
            return
        known = self._who(study_instance_uid)
        if known is not None:
            self._tell(events.seen(self._host, name, address, known, what))

    def log_used(self, name: str, address: str) -> None:
        """Somebody reads the audit trail. name: of the account, "" where nobody logs in."""
        self._tell(events.log_used(self._host, name, address))

    def refused(self, name: str, address: str, what: str) -> None:
        """An account was refused what it may not do; the same again counts once a minute. what: method and path."""
        if self._sinks and self._anew((name, address, "", what)):
            self._tell(events.refused(self._host, name, address, what))

    def _anew(self, key: tuple[str, str, str, str]) -> bool:
        """Tell whether this was not told in the last minute, and remember it."""
        now = self._clock()
        with self._lock:
            if key in self._seen and now - self._seen[key] < _AGAIN_S:
                return False
            self._seen[key] = now
            self._seen.move_to_end(key)
            while len(self._seen) > _REMEMBERED:
                self._seen.popitem(last=False)
        return True

    def received(self, calling_aet: str, address: str, study_instance_uid: str, images: int) -> None:
        """Images of a study came over one association."""
        known = self._who(study_instance_uid) if self._sinks else None
        if known is not None:
            self._tell(events.received(self._host, calling_aet, address, known, [("", images)]))

    def delivered(self, target: str, known: Known, instances: Sequence[tuple[str, int]]) -> None:
        """Results of a study were stored in a target."""
        self._tell(events.delivered(self._host, target, known, instances))

    def turned_away(self, because: str, address: str, calling: str = "", not_told_since: int = 0) -> None:
        """A caller was turned away."""
        self._tell(events.turned_away(self._host, because, address, calling, not_told_since))

    def account_changed(self, by: str, name: str, what: str, type: Code = events.ATTRIBUTES_CHANGED,
                        address: str = "") -> None:
        """An account was made or changed. address: of the caller, "" for this machine."""
        self._tell(events.account_changed(self._host, by, name, what, type, address))

    def configuration_changed(self, by: str, what: str, address: str = "") -> None:
        """Other models are in use. address: of the caller, "" for this machine."""
        self._tell(events.configuration_changed(self._host, by, what, address))

    def _tell(self, happening: Happening) -> None:
        if not self._sinks:
            return
        at = self._clock()
        message = as_xml(happening, self._source, at)
        with self._lock:
            for sink in self._sinks:
                try:
                    sink.write(message, at)
                except OSError as error:
                    self._failed()
                    _log.error("an audit message could not be written", extra={"error": type(error).__name__})


def silent() -> Trail:
    """Return a trail that tells nobody."""
    return Trail((), Source("firstlook"), "", lambda: 0.0)


def runner() -> str:
    """Return the name of the account of this machine that runs this process, or its number."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"
