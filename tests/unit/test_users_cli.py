"""`firstlook users`: what it makes, and what it refuses."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from service.access.passwords import Passwords
from service.cli import main
from service.store.database import Database
from service.store.tables import Account
from tests.unit.test_access import PASSWORD

Users = Callable[..., tuple[int, str]]


@pytest.fixture
def users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Users:
    """Return what runs one command with a line of standard input: exit code and all it printed."""
    settings = tmp_path / "firstlook.toml"
    settings.write_text(f'[store]\ndata_dir = "{tmp_path.as_posix()}/data"\n')

    def run(*words: str, typed: str = "") -> tuple[int, str]:
        monkeypatch.setattr("sys.stdin", io.StringIO(typed + "\n"))
        code = main(["users", *words, "--settings", str(settings)])
        shown = capsys.readouterr()
        return code, shown.out + shown.err

    return run


def test_an_account_is_made_listed_disabled_and_enabled(users: Users, tmp_path: Path) -> None:
    assert users("list") == (0, "there is no account\n")
    assert users("add", "Okafor", "--role", "administrator", typed=PASSWORD) == (0, "okafor made, administrator\n")
    assert users("add", "okafor", typed=PASSWORD)[0] == 1
    assert re.search(r"^okafor +administrator +\d{4}-\d\d-\d\d +0 +0$", users("list")[1], re.M)
    assert users("disable", "okafor")[0] == 0 and "disabled" in users("list")[1]
    assert users("enable", "okafor")[0] == 0 and "disabled" not in users("list")[1]
    database = Database(f"sqlite:///{tmp_path / 'data' / 'firstlook.db'}")
    with database.reading() as session:
        assert Passwords().matches(session.get_one(Account, 1).password_hash, PASSWORD)
    database.close()


def test_a_weak_password_or_a_bad_name_makes_nothing(users: Users) -> None:
    code, told = users("add", "okafor", typed="short")
    assert code == 1 and "12 to 1024" in told and "short" not in told
    assert users("add", "two words", typed=PASSWORD)[0] == 1
    assert users("password", "nobody", typed=PASSWORD)[0] == 1
    assert users("list")[1] == "there is no account\n"


def test_a_password_is_never_taken_from_the_command_line(users: Users) -> None:
    with pytest.raises(SystemExit):
        users("add", "okafor", "--password", PASSWORD)
    with pytest.raises(SystemExit):
        users("add", "okafor", PASSWORD)


def test_a_token_is_shown_once_and_can_be_revoked(users: Users) -> None:
    code, token = users("token", "prometheus", "--days", "30")
    assert code == 0 and re.fullmatch(r"[\w-]{43}\n", token)
    assert re.search(r"^prometheus +service .* 1$", users("list")[1], re.M) and token.strip() not in users("list")[1]
    assert users("token", "prometheus", "--revoke") == (0, "prometheus: 1 tokens revoked\n")
    users("add", "okafor", typed=PASSWORD)
    assert users("token", "okafor")[0] == 1 and users("password", "prometheus", typed=PASSWORD)[0] == 1
