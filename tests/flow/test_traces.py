"""Traces go to a collector that runs in the test: one for each study, in parts, without a patient's data."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from service.settings import InvalidSettings, Settings, load
from service.traces import trace_id_of
from tests.builders import radiograph, uid
from tests.hospital import TINY, hospital, tiny_models
from tests.peers import HOST, free_port


class Collector:
    """What came by OTLP over HTTP."""

    def __init__(self) -> None:
        self.requests: list[ExportTraceServiceRequest] = []
        self.raw = b""

    def spans(self) -> list[Any]:
        return [span for request in self.requests for resource in request.resource_spans
                for scope in resource.scope_spans for span in scope.spans]

    def named(self, trace_id: int) -> dict[str, Any]:
        """Return the spans of a trace by name."""
        return {s.name: s for s in self.spans() if int.from_bytes(s.trace_id, "big") == trace_id}


@contextmanager
def collector() -> Iterator[tuple[Collector, str]]:
    """Run a collector; yield it and its endpoint."""
    kept = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            kept.raw += body
            kept.requests.append(ExportTraceServiceRequest.FromString(body))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer((HOST, 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield kept, f"http://{HOST}:{server.server_address[1]}/v1/traces"
        server.shutdown()
        thread.join()


def test_a_study_is_one_trace_from_its_first_image_to_its_delivery(tmp_path: Path) -> None:
    infer = TINY | {"models_dir": tiny_models(tmp_path / "models")}
    with collector() as (kept, endpoint):
        with hospital(tmp_path / "house", infer=infer, monitor={"otlp_endpoint": endpoint}) as house:
            for patient in (1, 2):
                house.send(radiograph(patient=patient, PatientName="Marked^Name", PatientID=f"MARKED{patient}"))
            for patient in (1, 2):
                house.delivered(uid(patient, 1))
        traces = [kept.named(trace_id_of(uid(patient, 1))) for patient in (1, 2)]
    for spans in traces:
        assert {"receive", "admit", "infer", "decode", "report", "deliver pacs", "deliver"} <= spans.keys()
        looked = next(s for s in kept.spans() if s.name == "infer" and s.span_id == spans["decode"].parent_span_id)
        assert spans["report"].parent_span_id == looked.span_id, "stages are parts of the look"
        assert spans["deliver"].parent_span_id == spans["deliver pacs"].span_id
        assert spans["receive"].start_time_unix_nano <= spans["admit"].start_time_unix_nano
        assert spans["receive"].start_time_unix_nano <= spans["report"].start_time_unix_nano, "an early look does not wait"
        told = {a.key: a.value.string_value or a.value.int_value for a in spans["receive"].attributes}
        assert told["firstlook.calling_aet"] == "CT1" and told["firstlook.images"] == 1
    assert {int.from_bytes(s.trace_id, "big") for s in kept.spans()} == {trace_id_of(uid(p, 1)) for p in (1, 2)}
    names = {a.value.string_value for r in kept.requests for s in r.resource_spans for a in s.resource.attributes
             if a.key == "service.name"}
    assert names == {"firstlook"}
    assert b"Marked" not in kept.raw and b"MARKED" not in kept.raw


def test_a_collector_that_is_away_holds_nothing_up(tmp_path: Path) -> None:
    infer = TINY | {"models_dir": tiny_models(tmp_path / "models")}
    away = {"otlp_endpoint": f"http://{HOST}:{free_port()}/v1/traces"}
    with hospital(tmp_path / "house", infer=infer, monitor=away) as house:
        house.send(radiograph())
        assert house.delivered(uid(2, 1)).state == "assessed"


def test_an_endpoint_is_a_url(tmp_path: Path) -> None:
    assert Settings().monitor.otlp_endpoint == ""
    (file := tmp_path / "f.toml").write_text('[monitor]\notlp_endpoint = "collector:4317"\n')
    with pytest.raises(InvalidSettings, match="otlp_endpoint"):
        load(file, {})
