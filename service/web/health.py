"""Health and metrics: on the page of the service, or alone where a process has no page (`firstlook listen | work`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from fastapi import FastAPI
from fastapi.responses import JSONResponse, Response

from service.metrics import Metrics
from service.web import guard

METRICS_TYPE = "text/plain; version=1.0.0; charset=utf-8"


@dataclass(frozen=True)
class Check:
    """One thing that must be well for the service to take work. detail: free of patient data."""

    name: str
    ok: bool
    detail: str = ""


Ready = Callable[[], Sequence[Check]]


def add_health(app: FastAPI, metrics: Metrics, ready: Ready) -> None:
    """Add /health/live, /health/ready and /metrics."""

    @app.get("/health/live")
    def live() -> dict[str, bool]:
        """Tell that the process answers."""
        return {"live": True}

    @app.get("/health/ready")
    def is_ready() -> JSONResponse:
        """Tell whether every part is well: 200, or 503 with what is not."""
        checks = ready()
        well = all(check.ok for check in checks)
        return JSONResponse({"ready": well, "checks": [asdict(check) for check in checks]}, 200 if well else 503)

    @app.get("/metrics")
    def exposition() -> Response:
        """Return the metrics for Prometheus."""
        return Response(metrics.exposition(), media_type=METRICS_TYPE)


def create_monitor(metrics: Metrics, ready: Ready, access_token: str) -> FastAPI:
    """Return an application with health and metrics only, guarded as the page is."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(guard.Guard, access_token=access_token)
    add_health(app, metrics, ready)
    return app
