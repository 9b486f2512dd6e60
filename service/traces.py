"""Traces by OpenTelemetry, where a collector is set: one trace for each study, whichever processes work on it."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Protocol

_STEPS: ContextVar[Callable[[str], AbstractContextManager[object]] | None] = ContextVar("firstlook-steps", default=None)


class Tracing(Protocol):
    """What work is told to. Names and attributes hold our ids and UIDs, never a patient's data."""

    def span(self, name: str, study_instance_uid: str, **attributes: str | int) -> AbstractContextManager[object]:
        """Return what work on a study is done in; `step` inside it makes a part of it."""

    def past(self, name: str, study_instance_uid: str, began_at: float, **attributes: str | int) -> None:
        """Tell of work on a study that began at a moment (Unix time, seconds) and ends now."""

    def close(self) -> None:
        """Send what waits."""


class Silent:
    """Tells nobody."""

    def span(self, name: str, study_instance_uid: str, **attributes: str | int) -> AbstractContextManager[object]:
        """Do nothing."""
        return nullcontext()

    def past(self, name: str, study_instance_uid: str, began_at: float, **attributes: str | int) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


def step(name: str) -> AbstractContextManager[object]:
    """Return what a part of the work under way is done in; outside any span it does nothing."""
    made = _STEPS.get()
    return made(name) if made is not None else nullcontext()


def trace_id_of(study_instance_uid: str) -> int:
    """Return the trace of a study, 128 bits: the same in every process, and again when it is looked at again."""
    return int.from_bytes(hashlib.sha256(f"firstlook trace {study_instance_uid}".encode()).digest()[:16], "big")


class OtlpTracing:
    """Sends spans to a collector by OTLP over HTTP, in the background; one that is away costs nothing but the spans.

    endpoint: its URL, as http://127.0.0.1:4318/v1/traces; role, version: of this process. Raises: ImportError without the
    extra otel.
    """

    def __init__(self, endpoint: str, role: str, version: str, timeout_s: float = 5.0) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.id_generator import IdGenerator

        wanted: ContextVar[int] = ContextVar("firstlook-trace", default=0)

        class ByStudy(IdGenerator):
            def generate_span_id(self) -> int:
                return secrets.randbits(64) or 1

            def generate_trace_id(self) -> int:
                return wanted.get() or secrets.randbits(128)

        self._wanted = wanted
        about = {"service.name": "firstlook", "service.version": version, "firstlook.role": role}
        self._provider = TracerProvider(resource=Resource.create(about), id_generator=ByStudy(), shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint, timeout=timeout_s)))
        self._tracer = self._provider.get_tracer("firstlook", version)

    @contextmanager
    def span(self, name: str, study_instance_uid: str, **attributes: str | int) -> Iterator[None]:
        """Do work on a study in a span of its trace; an error marks it by its type, without its text."""
        token = self._wanted.set(trace_id_of(study_instance_uid))
        steps = _STEPS.set(self._step)
        try:
            with self._guarded(name, {"study": study_instance_uid, **attributes}):
                yield
        finally:
            _STEPS.reset(steps)
            self._wanted.reset(token)

    def past(self, name: str, study_instance_uid: str, began_at: float, **attributes: str | int) -> None:
        """Tell of work that began at a moment and ends now."""
        token = self._wanted.set(trace_id_of(study_instance_uid))
        try:
            self._tracer.start_span(name, start_time=int(began_at * 1e9),
                                    attributes=_named({"study": study_instance_uid, **attributes})).end()
        finally:
            self._wanted.reset(token)

    def close(self) -> None:
        """Send what waits."""
        self._provider.shutdown()

    def _step(self, name: str) -> AbstractContextManager[object]:
        return self._guarded(name, {})

    @contextmanager
    def _guarded(self, name: str, attributes: dict[str, str | int]) -> Iterator[None]:
        from opentelemetry.trace import StatusCode

        with self._tracer.start_as_current_span(name, attributes=_named(attributes), record_exception=False,
                                                set_status_on_exception=False) as span:
            try:
                yield
            except BaseException as error:  # whatever ends the step, the span tells, and it goes on
                span.set_status(StatusCode.ERROR, type(error).__name__)
                raise


def _named(attributes: dict[str, str | int]) -> dict[str, str | int]:
    return {f"firstlook.{name}": value for name, value in attributes.items()}
