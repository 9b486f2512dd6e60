"""STOW-RS: what a server says of each object, and tokens that are fetched, kept and renewed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from service.deliver.http import MOST_BYTES, Caller
from service.deliver.oauth import Client, ClientCredentials
from service.deliver.target import Parcel
from service.errors import PeerUnavailable, RefusedByPeer
from tests import builders
from tests.contracts.receivers import TIMEOUT_S, Stow, Tokens, told_stored
from tests.peers import HOST, free_port

FIRST, SECOND = builders.uid(1, 1, 1, 1), builders.uid(1, 1, 1, 2)


@pytest.fixture
def parcel(tmp_path: Path) -> Parcel:
    """Two objects."""
    return Parcel(tuple(builders.write(builders.ct_series(slices=2, size=16), tmp_path)))


@pytest.fixture
def stow() -> Iterator[Stow]:
    one = Stow()
    with one.running():
        yield one


def failed(uid: str, reason: int) -> dict[str, int]:
    """Return a failed object as keyword of `told_stored`."""
    return {"_" + uid.replace(".", "_"): reason}


@pytest.mark.parametrize("says", [
    lambda uids: (200, told_stored(uids)), lambda uids: (200, [told_stored(uids)]), lambda uids: (200, b""),
    lambda uids: (202, told_stored(uids)), lambda uids: (200, b"<NativeDicomModel/>"),
    lambda uids: (409, told_stored(uids[:1], **failed(uids[1], 0x0111))),
    lambda uids: (202, told_stored(uids, **failed("1.2.3.99", 0xA900))),
], ids=["all", "all, in a list", "all, without a body", "with warnings", "all, in XML", "one was there already",
        "a foreign object failed"])
def test_what_the_server_says_is_stored_is_stored(stow: Stow, parcel: Parcel, says: Any) -> None:
    stow.says = says
    assert stow.target().deliver(parcel) == [FIRST, SECOND]


@pytest.mark.parametrize(("says", "error", "told"), [
    (lambda uids: (202, told_stored(uids[:1], **failed(uids[1], 0xA900))), RefusedByPeer, "1 of 2 .* 0xA900"),
    (lambda uids: (409, told_stored([], **failed(uids[0], 0xC000), **failed(uids[1], 0xA700))), RefusedByPeer, "0xC000"),
    (lambda uids: (409, told_stored([], **failed(uids[0], 0xA700), **failed(uids[1], 0x0110))), PeerUnavailable, "2 of 2"),
    (lambda uids: (200, told_stored(uids[:1])), PeerUnavailable, "nothing of 1 of 2"),
    (lambda uids: (200, {"00081199": {"vr": "SQ"}}), PeerUnavailable, "nothing of 2 of 2"),
    (lambda uids: (202, b"{}"), PeerUnavailable, "without a list"),
    (lambda uids: (409, b"no"), PeerUnavailable, "without a list"),
    (lambda uids: (200, {"00081198": {"Value": [7, None, {"00081197": {"Value": ["x"]}}]}}), RefusedByPeer, "0xC000"),
    (lambda uids: (202, {"00081199": {"Value": 7}, "00081198": []}), PeerUnavailable, "nothing of 2"),
    (lambda uids: (200, b"[" * 100_000), None, ""),
    (lambda uids: (200, b" " * (MOST_BYTES + 1)), PeerUnavailable, "longer than"),
    (lambda uids: (400, b""), RefusedByPeer, "HTTP 400"), (lambda uids: (413, b""), RefusedByPeer, "HTTP 413"),
    (lambda uids: (429, b""), PeerUnavailable, "HTTP 429"), (lambda uids: (404, b""), PeerUnavailable, "HTTP 404"),
    (lambda uids: (302, b""), PeerUnavailable, "redirects"), (lambda uids: (507, b""), PeerUnavailable, "HTTP 507"),
])
def test_an_object_that_is_not_said_to_be_stored_is_not_delivered(
    stow: Stow, parcel: Parcel, says: Any, error: type[Exception] | None, told: str,
) -> None:
    stow.says = says
    if error is None:
        assert stow.target().deliver(parcel) == [FIRST, SECOND], "200 alone means that all is stored"
        return
    with pytest.raises(error, match=told):
        stow.target().deliver(parcel)


# ---------------------------------------------------------------- OAuth 2.0

@pytest.fixture
def pair() -> Iterator[tuple[Stow, Tokens]]:
    """A DICOMweb server that accepts what a token endpoint issues."""
    stow, tokens = Stow(accepts=set()), Tokens()
    tokens.on_issue = lambda token: stow.accepts.add(f"Bearer {token}")
    with ExitStack() as stack:
        stack.enter_context(stow.running())
        stack.enter_context(tokens.running())
        yield stow, tokens


class Clock:
    """A clock that is set."""

    now = 0.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


def credentials(tokens: Tokens, clock: Clock, secret: str = "s&cret", in_body: bool = False) -> ClientCredentials:
    """Return credentials that are fetched from an endpoint."""
    client = Client(f"{tokens.url}/token", "cli:ent", secret, "dicom.write", in_body)
    return ClientCredentials(client, Caller("place", TIMEOUT_S), clock)


@pytest.mark.parametrize("in_body", [False, True])
def test_a_token_is_fetched_once_and_renewed_before_it_ends(pair: Any, parcel: Parcel, in_body: bool) -> None:
    stow, tokens = pair
    tokens.in_body = in_body
    clock = Clock()
    stow.credentials = credentials(tokens, clock, in_body=in_body)
    target = stow.target()
    target.deliver(parcel)
    target.deliver(parcel)
    assert tokens.issued == ["token-0"] and b"scope=dicom.write" in tokens.requests[0][3]
    clock.now = 3600 - 29
    target.deliver(parcel)
    assert tokens.issued == ["token-0", "token-1"]


def test_a_token_that_is_refused_before_its_end_is_renewed_once(pair: Any, parcel: Parcel) -> None:
    stow, tokens = pair
    stow.credentials = credentials(tokens, Clock())
    target = stow.target()
    target.deliver(parcel)
    stow.accepts.clear()
    target.deliver(parcel)
    assert tokens.issued == ["token-0", "token-1"]
    tokens.on_issue = lambda _: None
    stow.accepts.clear()
    with pytest.raises(PeerUnavailable, match="HTTP 401"):
        target.deliver(parcel)
    assert len(tokens.issued) == 3, "one new token for each request, not one after the other"


def test_a_short_life_is_used_for_nine_tenths_and_an_unknown_one_for_five_minutes(pair: Any, parcel: Parcel) -> None:
    stow, tokens = pair
    for life_s, good_s in ((20, 18), (None, 270)):
        tokens.life_s, tokens.issued = life_s, []
        clock = Clock()
        stow.credentials = credentials(tokens, clock)
        target = stow.target()
        target.deliver(parcel)
        clock.now = good_s - 1
        target.deliver(parcel)
        assert len(tokens.issued) == 1
        clock.now = good_s
        target.deliver(parcel)
        assert len(tokens.issued) == 2


@pytest.mark.parametrize("says", [
    (200, {}), (200, {"access_token": 7}), (200, {"access_token": "a\r\nX-Evil: 1"}), (200, ["no"]), (500, {}),
    (200, {"access_token": "a", "token_type": "mac"}), (400, {"error": "invalid_scope"}), (401, {"error": "Doe^Jane"}),
])
def test_an_endpoint_that_gives_no_token_is_away_for_now(pair: Any, parcel: Parcel, says: Any) -> None:
    stow, tokens = pair
    tokens.says = says
    stow.credentials = credentials(tokens, Clock())
    with pytest.raises(PeerUnavailable, match="token endpoint") as raised:
        stow.target().deliver(parcel)
    assert "Doe" not in str(raised.value) and stow.requests == []


def test_a_wrong_client_secret_is_named_as_such(pair: Any, parcel: Parcel) -> None:
    stow, tokens = pair
    stow.credentials = credentials(tokens, Clock(), secret="wrong")
    with pytest.raises(PeerUnavailable, match=r"HTTP 401 \(invalid_client\); see client_id, client_secret"):
        stow.target().deliver(parcel)


def test_an_endpoint_that_is_away_is_said(stow: Stow, parcel: Parcel) -> None:
    stow.credentials = credentials(Tokens(port=free_port()), Clock())
    with pytest.raises(PeerUnavailable, match="could not be reached"):
        stow.target().deliver(parcel)
    assert HOST in stow.url
