"""Who may see the pages, and the headers of each answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from service.metrics import Metrics
from service.store.database import Database
from service.web.app import WebStyle, create_app
from service.web.forms import MOST_BYTES
from tests.browser.served import asked

TOKEN = "a pass phrase with an ü"
GUARDED = ("/", "/rows", "/studies/1.2.3", "/api/worklist", "/api/studies/1.2.3", "/api/openapi.json", "/metrics",
           "/static/style.css", "/nowhere")


Ask = Callable[..., httpx.Client]


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Ask]:
    """Yield what makes a client of a service with the given token."""
    database = Database(f"sqlite:///{tmp_path / 'guard.db'}")
    database.migrate()
    with ExitStack() as still_open:
        def make(token: str = TOKEN) -> httpx.Client:
            app = create_app(database, Metrics(), lambda: 0.0, WebStyle(access_token=token), tuple, tmp_path)
            return still_open.enter_context(asked(app))

        yield make
    database.close()


def test_without_the_token_nothing_is_shown(client: Ask) -> None:
    here = client()
    for path in GUARDED:
        answer = here.get(path)
        assert answer.status_code == 401, path
        assert answer.headers["www-authenticate"].startswith("Basic")


def test_health_needs_no_token(client: Ask) -> None:
    assert client().get("/health/live", headers={"Host": "10.1.2.3:8042"}).status_code == 200
    assert client().get("/health/ready").status_code == 200


def test_the_token_is_taken_as_password_or_bearer(client: Ask) -> None:
    assert client().get("/", auth=("anyone", TOKEN)).status_code == 200
    plain = client("plain")
    assert plain.get("/", headers={"Authorization": "Bearer plain"}).status_code == 200
    assert plain.get("/metrics", headers={"Authorization": "bearer plain"}).status_code == 200


def test_a_wrong_token_is_refused(client: Ask) -> None:
    here = client("plain")
    for header in ("Bearer", "Bearer other", "Basic", "Basic !!", "Basic gICA", "Basic cGxhaW4=", "Digest plain", "plain"):
        assert here.get("/", headers={"Authorization": header}).status_code == 401, header


def test_without_a_token_only_requests_to_this_machine_are_answered(client: Ask) -> None:
    here = client("")
    for host in ("localhost", "127.0.0.1:8042", "[::1]:8042"):
        assert here.get("/", headers={"Host": host}).status_code == 200, host
    for host in ("evil.example", "localhost.evil.example", "10.0.0.1:8042"):
        assert here.get("/", headers={"Host": host}).status_code == 421, host


def test_each_answer_carries_the_security_headers(client: Ask) -> None:
    for here in (client(), client("")):
        for path in ("/", "/nowhere", "/api/worklist", "/static/style.css", "/health/live", "/metrics"):
            sent = here.get(path).headers
            policy = sent["content-security-policy"]
            assert "default-src 'self'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy
            assert sent["x-content-type-options"] == "nosniff"
            assert sent["referrer-policy"] == "no-referrer"
            assert sent["cache-control"] == "no-store"


def test_only_reading_is_possible(client: Ask) -> None:
    here = client("")
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        for path in ("/", "/api/worklist", "/studies/1.2.3", "/metrics"):
            searches = (method, path) == ("POST", "/")  # what is searched for stands in no address
            assert here.request(method, path).status_code == (200 if searches else 405), (method, path)


def test_a_body_that_is_announced_as_too_large_is_not_waited_for(client: Ask) -> None:
    for here in (client(), client("")):
        answer = here.post("/", content=b"text=" + b"a" * MOST_BYTES)
        assert answer.status_code == 413 and answer.headers["connection"] == "close"
