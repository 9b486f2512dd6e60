"""Try other rules of urgency on the facts of past studies, in a process apart: a pattern that never ends stops nobody."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from service.domain.urgency import Urgency
from service.triage.rules import Facts, Rule, decide, table_of
from service.triage.rules_file import InvalidRules, parse_rules, rules_as_toml

MOST_TEXT = 40_000
"""Characters of a file of rules that is tried."""
_TIMEOUT_S = 60.0
_NAME = "the rules"


@dataclass(frozen=True)
class Move:
    """One study whose urgency or reason would be another. at: its place among the facts."""

    at: int
    before: Urgency
    before_reason: str
    after: Urgency
    after_reason: str


@dataclass(frozen=True)
class Trial:
    """What other rules would have done. before, after: studies by urgency; fired: studies that each rule matched, by name.

    moves: studies whose urgency would be another, in the order of the facts.
    """

    studies: int
    before: Mapping[Urgency, int]
    after: Mapping[Urgency, int]
    fired: Mapping[str, int]
    moves: Sequence[Move]


def try_rules(text: str, rules: Sequence[Rule], ae_titles: Sequence[str], facts: Sequence[Facts],
              timeout_s: float = _TIMEOUT_S) -> Trial:
    """Decide each study by the rules in use and by others, and compare.

    text: a file of rules; rules: those in use, without the one for emergency senders, which `ae_titles` makes for both.
    Raises: InvalidRules, also when the patterns take too long.
    """
    if len(text) > MOST_TEXT:
        raise InvalidRules(f"{_NAME}: more than {MOST_TEXT} characters")
    asked = {"now": rules_as_toml(rules), "then": text, "ae_titles": list(ae_titles), "facts": [asdict(f) for f in facts]}
    try:
        done = subprocess.run([sys.executable, "-P", "-m", "service.triage.trial"], input=json.dumps(asked).encode(),
                              capture_output=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired as error:
        raise InvalidRules(f"{_NAME}: a pattern takes too long: {len(facts)} studies were not decided in "
                           f"{timeout_s:g} seconds") from error
    if done.returncode:
        raise InvalidRules(f"{_NAME} could not be tried (exit code {done.returncode})")
    said = json.loads(done.stdout)
    if "problem" in said:
        raise InvalidRules(said["problem"])
    moves = [Move(m[0], Urgency(m[1]), m[2], Urgency(m[3]), m[4]) for m in said["moves"]]
    return Trial(len(facts), {Urgency(u): n for u, n in said["before"].items()},
                 {Urgency(u): n for u, n in said["after"].items()}, said["fired"], moves)


def decided(asked: dict[str, object]) -> dict[str, object]:
    """Do what the process apart does. asked: as `try_rules` writes it; returns what it reads."""
    ae_titles = [str(t) for t in asked["ae_titles"]]  # type: ignore[attr-defined]
    facts = [Facts(**f) for f in asked["facts"]]  # type: ignore[attr-defined]
    try:
        now, then = (table_of(ae_titles, parse_rules(str(asked[which]), _NAME)) for which in ("now", "then"))
    except InvalidRules as error:
        return {"problem": str(error)}
    before: Counter[str] = Counter()
    after: Counter[str] = Counter()
    fired = {rule.name: 0 for rule in then}
    moves = []
    for at, one in enumerate(facts):
        was, would = decide(one, now), decide(one, then)
        before[was.urgency.value] += 1
        after[would.urgency.value] += 1
        for rule in would.matched:
            fired[rule.name] += 1
        if was.urgency is not would.urgency:
            moves.append((at, was.urgency.value, was.reason, would.urgency.value, would.reason))
    return {"before": before, "after": after, "fired": fired, "moves": moves}


if __name__ == "__main__":
    json.dump(decided(json.load(sys.stdin)), sys.stdout)
