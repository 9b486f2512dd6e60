"""The documents say what the program does: tables and examples are made by the code and compared here."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from service import DISCLAIMER, __version__, cli
from service.conformance.statement import statement
from service.errors import Reason
from service.example import example
from service.metrics import LABELS, Metrics
from service.metrics_page import SHARED, metrics_page
from service.settings import Settings
from service.triage.rules import RULES

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def part(name: str) -> str:
    """Return what stands in the README between the marks of a generated table."""
    found = re.search(rf"<!-- {name}: begin -->\n(.*?)\n<!-- {name}: end -->", README, re.S)
    assert found, f"the README has no marks for {name}"
    return found[1]


def reasons_table() -> str:
    rows = [f"| `{r.value}` | {r.sentence} |" for r in Reason]
    return "\n".join(["| code | what it says |", "|---|---|", *rows])


def urgency_table() -> str:
    rows = [f"| {r.name} | {', '.join(f'`{name}`' for name in r.patterns)} | {r.urgency.value} |" for r in RULES]
    return "\n".join(["| rule | looks at | urgency |", "|---|---|---|", *rows])


@pytest.mark.parametrize(("name", "table"), [("reasons", reasons_table()), ("urgency", urgency_table())])
def test_tables_of_the_readme_are_those_of_the_code(name: str, table: str) -> None:
    assert part(name) == table


def test_example_settings_are_those_of_the_code() -> None:
    assert (ROOT / "deploy/settings.example.toml").read_text(encoding="utf-8") == example()


def test_the_page_of_the_metrics_is_that_of_the_code() -> None:
    page = (ROOT / "deploy/docs/metrics.md").read_text(encoding="utf-8")
    assert page == metrics_page(), "firstlook metrics > deploy/docs/metrics.md"


def test_metrics_keep_to_the_conventions_of_prometheus() -> None:
    families = Metrics().families()
    assert len({f.name for f in families}) == len(families)
    for one in families:
        assert re.fullmatch(r"firstlook_[a-z][a-z_]*[a-z]", one.name) and one.documentation.endswith("."), one
        assert one.name.endswith("_total") == (one.type == "counter"), one
        assert not re.search(r"_(ms|minutes|hours|percent|mb|gb|kb)(_|$)", one.name), one
        if one.type == "histogram":
            assert one.name.endswith(("_seconds", "_bytes", "_images", "_probability", "_ratio")), one
        assert set(one.labels) <= set(LABELS), f"{one.name}: say in metrics.LABELS what bounds {one.labels}"
    assert {f.name for f in families} >= SHARED


def test_example_settings_load_when_every_line_is_switched_on() -> None:
    on = re.sub(r"^#(?=[a-z_]+ = |\[)", "", example(), flags=re.M).replace('\nname = ""', '\nname = "pacs"')
    tree = tomllib.loads(on)
    settings = Settings.model_validate(tree)
    assert settings.receive.peers[0].ae_title == "PACS" and settings.deliver.targets[0].port == 4242
    assert set(tree) == set(Settings.model_fields)


def test_each_example_of_a_place_for_results_loads() -> None:
    text = (ROOT / "deploy/docs/delivery.md").read_text(encoding="utf-8")
    settings = Settings.model_validate(tomllib.loads("\n".join(re.findall(r"^```toml\n(.*?)^```", text, re.S | re.M))))
    assert [place.name for place in settings.deliver.all] == ["pacs", "archive", "share", "ris", "hook"]


def test_conformance_statement_is_that_of_the_code() -> None:
    written = (ROOT / "deploy/CONFORMANCE.md").read_text(encoding="utf-8")
    assert written == statement(), "make it anew: firstlook conformance > deploy/CONFORMANCE.md"


def test_commands_in_the_readme_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in set(re.findall(r"^make ([a-z]+)", README, re.M)):
        assert re.search(rf"^{target}:", makefile, re.M), f"make {target}"
    commands = set(re.findall(r"^(?:\.venv/bin/)?firstlook ([a-z]+)", README, re.M))
    assert commands >= {"serve", "check", "send"}
    for command in commands:
        with pytest.raises(SystemExit) as ended:
            cli.main([command, "--help"])
        assert ended.value.code == 0


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    text = capsys.readouterr().out
    assert "examples:" in text and DISCLAIMER in text and "firstlook send FOLDER --to" in text


def test_changelog_tells_of_this_version() -> None:
    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_links_between_documents_lead_somewhere() -> None:
    for document in [*ROOT.glob("*.md"), *ROOT.glob("deploy/**/*.md"), *ROOT.glob("models/*.md")]:
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", document.read_text(encoding="utf-8")):
            assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_every_document_says_what_it_is_for() -> None:
    assert DISCLAIMER in README
    for card in ROOT.glob("models/*/MODEL_CARD.md"):
        assert "research use only" in card.read_text(encoding="utf-8").lower()
