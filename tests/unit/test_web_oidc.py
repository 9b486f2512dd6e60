"""Login at the hospital's identity provider: a real one on loopback, with signed tokens, honest and not."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from joserfc.jwk import RSAKey
from sqlmodel import select

from service.access import accounts
from service.access.door import Door, Login
from service.access.provider import CALLBACK, OidcProvider
from service.access.sections import Oidc
from service.domain.person import Role
from service.metrics import Metrics
from service.settings import InvalidSettings, Settings, load
from service.store.tables import Account
from service.web.app import WebStyle, create_app
from tests.browser.served import served
from tests.provider import CLIENT, SECRET, SmallProvider, small_provider
from tests.unit.test_access import PASSWORD
from tests.unit.test_web_login import HTML, House, csrf, log_in

ROLES: dict[str, Any] = {"administrators": ["pacs-admins"], "readers": ["radiology", "icu"]}


class Site:
    """A house whose people come by the provider. address: of its pages."""

    def __init__(self, house: House, provider: SmallProvider) -> None:
        self.house, self.provider, self.address = house, provider, ""
        self.now = time.time()

    def door(self, **changes: Any) -> Door:
        wanted = Oidc.model_validate({"issuer": self.provider.issuer, "client_id": CLIENT, "public_url": self.address}
                                     | ROLES | changes)
        ward = self.house.ward
        return Door(ward.database, lambda: ward.now, Login.AUTO, "", ward.sessions, ward.passwords, ward.throttle, None,
                    OidcProvider(wanted, SECRET, lambda: self.now))

    def start(self, **changes: Any) -> None:
        """Serve the pages; their own address has to be known before they are made."""
        late = Late()
        self.address = self.house.still_open.enter_context(served(late))  # type: ignore[arg-type]
        late.app = create_app(self.house.database, Metrics(), lambda: self.house.ward.now, WebStyle(), tuple,
                              self.house.folder / "results", None, None, self.door(**changes))

    def browser(self) -> httpx.Client:
        return self.house.still_open.enter_context(
            httpx.Client(base_url=self.address, trust_env=False, follow_redirects=True, headers=HTML))

    def come_in(self, client: httpx.Client | None = None, wanted: str = "/") -> httpx.Response:
        """Go through the provider like a browser."""
        return (client or self.browser()).get("/login/oidc", params={"next": wanted})

    def people(self) -> dict[str, str]:
        with self.house.database.reading() as session:
            return {a.name: a.role for a in session.exec(select(Account)).all()}


class Late:
    """An application that is made after its server."""

    app: Any = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app(scope, receive, send)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    house = House(tmp_path)
    with small_provider() as provider:
        yield_to = Site(house, provider)
        yield_to.start()
        yield yield_to
        house.still_open.close()
        house.database.close()


def test_a_person_comes_in_by_the_provider_and_gets_the_role_of_their_group(site: Site) -> None:
    client = site.browser()
    assert client.get("/").url.path == "/login", "pages are closed though there is no account yet"
    assert "Hospital login" in client.get("/login").text
    found = site.come_in(client, "/effect")
    assert found.status_code == 200 and found.url.path == "/effect" and "okafor" in found.text
    assert site.people() == {"okafor": "reader"}
    assert "firstlook-away" not in client.cookies, "what tied both ways together is gone"
    (form,) = site.provider.asked
    assert form["grant_type"] == "authorization_code" and len(form["code_verifier"]) >= 43
    page = client.get("/").text
    out = client.post("/logout", data={"csrf": csrf(page)})
    assert out.url.path == "/login" and client.get("/").url.path == "/login"


def test_a_role_follows_the_groups_at_each_login(site: Site) -> None:
    site.come_in()
    site.provider.claims |= {"groups": ["pacs-admins"], "preferred_username": "renamed"}
    assert site.come_in().status_code == 200
    assert site.people() == {"okafor": "administrator"}, "the same subject is the same account, whatever it is called"
    site.provider.claims["groups"] = ["cardiology"]
    refused = site.come_in()
    assert refused.status_code == 403 and "none of their groups has a role here" in refused.text


@pytest.mark.parametrize(("claim", "value"), [
    ("realm_access.roles", {"realm_access": {"roles": ["x", "icu"]}}), ("scope_of", {"scope_of": "a icu b"}),
    ("https://hospital.example/role", {"https://hospital.example/role": "icu"}),
])
def test_groups_may_lie_deeper_or_be_one_text(site: Site, claim: str, value: dict[str, Any]) -> None:
    site.start(roles_claim=claim)
    site.provider.claims |= value
    assert site.come_in().status_code == 200


def changed(**claims: Any) -> Any:
    return lambda told: {k: v for k, v in (told | claims).items() if v is not None}


@pytest.mark.parametrize("how", ["nonce", "audience", "issuer", "over", "no subject", "azp", "other key", "none", "shared",
                                 "early", "no name", "odd name"])
def test_an_id_token_that_is_not_good_lets_nobody_in(site: Site, how: str) -> None:
    now, provider = int(time.time()), site.provider
    changes: dict[str, Any] = {
        "nonce": {"nonce": "another"}, "audience": {"aud": "another"}, "issuer": {"iss": "https://another.example"},
        "over": {"exp": now - 3600, "iat": now - 7200}, "no subject": {"sub": None}, "azp": {"azp": "another"},
        "early": {"nbf": now + 3600}, "no name": {"preferred_username": None}, "odd name": {"preferred_username": "<b>"}}
    provider.change = changed(**changes.get(how, {}))
    if how == "other key":
        provider.key = RSAKey.generate_key(2048, {"kid": "one"})
    if how in ("none", "shared"):
        provider.header = {"alg": {"none": "none", "shared": "HS256"}[how]}
    refused = site.come_in()
    assert refused.status_code == 403 and "Not let in" in refused.text
    assert site.people() == {} and site.browser().get("/").url.path == "/login"


def test_an_answer_of_another_login_is_refused_before_the_provider_is_asked(site: Site) -> None:
    client, other = site.browser(), site.browser()
    began = client.get("/login/oidc", follow_redirects=False)
    answer = httpx.get(began.headers["location"], trust_env=False).headers["location"]
    assert other.get(answer).status_code == 403, "the victim of a forged login has not the cookie"
    assert other.get(CALLBACK).status_code == 403 and site.provider.asked == []
    assert client.get(answer).status_code == 200
    client.cookies.clear()
    assert client.get(answer).status_code == 403


def test_a_code_counts_once(site: Site) -> None:
    client = site.browser()
    began = client.get("/login/oidc", follow_redirects=False)
    cookie = client.cookies["firstlook-away"]
    answer = httpx.get(began.headers["location"], trust_env=False).headers["location"]
    assert client.get(answer).status_code == 200
    client.cookies.clear()
    client.cookies.set("firstlook-away", cookie, path="/login")
    assert "does not know this code" in client.get(answer).text


def test_who_the_provider_refuses_or_is_disabled_here_stays_outside(site: Site) -> None:
    site.provider.refuses = True
    assert site.come_in().status_code == 403
    site.provider.refuses = False
    site.come_in()
    with site.house.database.transaction() as session:
        accounts.disable(session, accounts.known(session, "okafor"), 1.0)
    assert "okafor is disabled" in site.come_in().text


def test_nobody_takes_over_a_local_account_by_its_name(site: Site) -> None:
    site.house.ward.add("okafor", Role.ADMINISTRATOR)
    assert "there is an account okafor already" in site.come_in().text
    client = site.browser()
    client.follow_redirects = False
    assert log_in(client, "okafor", PASSWORD).status_code == 303, "the local one still logs in"


def test_wrong_answers_are_counted(site: Site) -> None:
    client = site.browser()
    found = [client.get(CALLBACK, params={"state": "x", "code": "y"}).status_code for _ in range(6)]
    assert found == [403] * 5 + [429]


def test_new_keys_of_the_provider_are_looked_up(site: Site) -> None:
    assert site.come_in().status_code == 200
    site.provider.turn_keys()
    assert site.come_in().status_code == 403, "not more than once in half a minute"
    site.now += 31
    assert site.come_in().status_code == 200


def test_a_provider_that_is_away_or_another_one_is_told(site: Site) -> None:
    site.start(issuer="http://127.0.0.1:9")
    answer = site.browser().get("/login/oidc")
    assert answer.status_code == 503 and "does not answer" in answer.text
    site.start(issuer=site.provider.issuer + "/other")
    assert site.browser().get("/login/oidc").status_code == 503


def test_wanted_pages_stay_on_this_site(site: Site) -> None:
    assert site.come_in(wanted="//evil.example/").url.path == "/"
    assert site.come_in(wanted="https://evil.example/").url.host == "127.0.0.1"


def test_settings_that_would_let_nobody_or_everybody_in_are_refused(tmp_path: Path) -> None:
    good = {"issuer": "https://idp.example", "client_id": "f", "public_url": "https://f.example", "readers": ["r"]}
    web = Settings.model_validate({"web": {"host": "0.0.0.0", "oidc": good}}).web
    assert web.oidc.enabled and web.login is Login.AUTO
    file = tmp_path / "f.toml"
    for changes, said in (({"readers": "[]"}, "nobody could log in"), ({"issuer": '"http://idp.example"'}, "https"),
                          ({"scopes": '"profile"'}, "openid"), ({"client_id": '""'}, "client_id")):
        lines = {"issuer": '"https://idp.example"', "client_id": '"f"', "public_url": '"https://f.example"',
                 "readers": '["r"]'} | changes
        file.write_text("[web.oidc]\n" + "\n".join(f"{k} = {v}" for k, v in lines.items()))
        with pytest.raises(InvalidSettings, match=said):
            load(file, {})
    with pytest.raises(ValueError, match=r"web\.login"):
        Settings.model_validate({"web": {"login": "off", "oidc": good}})
