"""The rules of urgency as a TOML file that the site edits: read, checked against their own examples, and written."""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from service.domain.urgency import Urgency
from service.triage.rules import TEXTS, Facts, Rule

_KEYS = ("name", "urgency", *TEXTS, "hours", "fires", "rests")
_HEAD = """\
# Rules of urgency on arrival. The most urgent rule that matches wins; where none does, the study is routine.
# A priority that was ordered is never lowered by a rule.
#
# name      the reason that worklist, report and trace show
# urgency   stat, urgent, routine or low
# and any of these; all that are given must hold:
#   ordered_priority, modality, calling_aet   regular expression, any case; ^...$ for the whole value
#   text       ... in Study and Series Description, Protocol Name and Requested Procedure Description
#   location   ... in Current Patient Location, Institutional Department Name and Requesting Service
#   prior      ... in the finding for which an earlier study of this patient was flagged ("." for any)
#   hours      [18, 7]: from 18 to 7 o'clock of the machine's local time
# fires, rests   examples that the rule must match, and must not; the file is refused when one does otherwise
#
# Try a change on images before it goes live:  firstlook triage explain --rules THIS_FILE FOLDER
"""


class InvalidRules(ValueError):
    """A file of rules that cannot be used; the text names the file, the rule and what is accepted."""


def load_rules(path: Path) -> tuple[Rule, ...]:
    """Read a file of rules and try each on its own examples.

    Raises: InvalidRules naming the file, the rule, what is wrong and what is accepted.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InvalidRules(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise InvalidRules(f"{path}: not valid TOML ({error})") from error
    return parse_rules(text, str(path))


def parse_rules(text: str, where: str) -> tuple[Rule, ...]:
    """Read the text of a file of rules. where: how the text is called in an error. Raises: InvalidRules."""
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidRules(f"{where}: not valid TOML ({error})") from error
    rows = tree.get("rule")
    if set(tree) != {"rule"} or not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise InvalidRules(f"{where}: accepted are tables [[rule]] and nothing else; at least one")
    rules = tuple(_rule(f"{where}: rule {number}", row) for number, row in enumerate(rows, 1))
    names = [rule.name for rule in rules]
    for name in names:
        if names.count(name) > 1:
            raise InvalidRules(f"{where}: two rules are named {name!r}; a reason must say which rule it was")
    return rules


def rules_as_toml(rules: Sequence[Rule]) -> str:
    """Return the text of a file that `load_rules` reads as these rules, with an explanation at its head."""
    lines = [_HEAD]
    for rule in rules:
        lines += ["[[rule]]", f"name = {_quoted(rule.name)}", f'urgency = "{rule.urgency.value}"']
        lines += [f"{name} = {_pattern(pattern)}" for name, pattern in rule.patterns.items()]
        if rule.hours is not None:
            lines.append(f"hours = [{rule.hours[0]}, {rule.hours[1]}]")
        for key, examples in (("fires", rule.fires), ("rests", rule.rests)):
            if examples:
                lines.append(f"{key} = [{', '.join(_example(one) for one in examples)}]")
        lines.append("")
    return "\n".join(lines)


def _rule(where: str, row: dict[str, Any]) -> Rule:
    name = row.get("name")
    if not isinstance(name, str) or not 0 < len(name.strip()) <= 100 or not name.isprintable():
        raise InvalidRules(f"{where}: name must be a text of 1 to 100 characters")
    where = f"{where} ({name})"
    for key in row:
        if key not in _KEYS:
            close = difflib.get_close_matches(key, _KEYS, n=1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise InvalidRules(f"{where}: unknown key {key!r}; {hint}accepted: {', '.join(_KEYS)}")
    if row.get("urgency") not in [u.value for u in Urgency]:
        raise InvalidRules(f"{where}: urgency is {row.get('urgency')!r}; accepted: {', '.join(u.value for u in Urgency)}")
    patterns = {key: _checked_pattern(where, key, row[key]) for key in TEXTS if key in row}
    hours = _hours(where, row["hours"]) if "hours" in row else None
    if not patterns and hours is None:
        raise InvalidRules(f"{where}: it has no condition; accepted: {', '.join(TEXTS)}, hours")
    rule = Rule(name.strip(), Urgency(row["urgency"]), patterns, hours, _examples(where, "fires", row),
                _examples(where, "rests", row))
    for facts in rule.fires:
        if not rule.matches(facts):
            raise InvalidRules(f"{where}: it does not fire on its example {_example(facts)}")
    for facts in rule.rests:
        if rule.matches(facts):
            raise InvalidRules(f"{where}: it fires on its example {_example(facts)}, where it should rest")
    return rule


def _checked_pattern(where: str, key: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise InvalidRules(f"{where}: {key} must be a regular expression as a text")
    try:
        re.compile(value, re.I)
    except re.error as error:
        raise InvalidRules(f"{where}: {key} is no regular expression: {error}") from error
    return value


def _hours(where: str, value: Any) -> tuple[int, int]:
    if (not isinstance(value, list) or len(value) != 2 or value[0] == value[1]
            or not all(isinstance(hour, int) and not isinstance(hour, bool) and 0 <= hour <= 24 for hour in value)):
        raise InvalidRules(f"{where}: hours is {value!r}; accepted: two different whole hours from 0 to 24, as [18, 7]")
    return value[0], value[1]


def _examples(where: str, key: str, row: dict[str, Any]) -> tuple[Facts, ...]:
    value = row.get(key, [])
    given = value if isinstance(value, list) else [value]
    known = [f.name for f in fields(Facts)]
    for one in given:
        good = isinstance(one, dict) and all(
            name in known and isinstance(said, int if name == "hour" else str) for name, said in one.items())
        if not good:
            raise InvalidRules(f"{where}: {key} must be tables of {', '.join(known)}")
    return tuple(Facts(**one) for one in given)


def _example(facts: Facts) -> str:
    given = [(f.name, getattr(facts, f.name)) for f in fields(Facts) if getattr(facts, f.name) not in ("", None)]
    return "{ " + ", ".join(f"{name} = {said if isinstance(said, int) else _quoted(said)}" for name, said in given) + " }"


def _pattern(text: str) -> str:
    return f"'{text}'" if "'" not in text and text.isprintable() else _quoted(text)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
