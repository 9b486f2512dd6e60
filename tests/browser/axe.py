"""axe-core in the page: what it finds that keeps people out."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from tests.browser.chromium import Tab
from tests.peers import missing

_TAGS = '["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]'


def faults(tab: Tab) -> list[str]:
    """Return what axe-core calls serious or critical on the open page; the test is skipped where it is not installed."""
    found = find_spec("axe_playwright_python")
    if found is None or found.origin is None:
        missing("axe-core (make .venv/axe.done)")
        return []
    tab.ask((Path(found.origin).parent / "axe.min.js").read_text(encoding="utf-8") + "; 0")
    broken = tab.ask(f"axe.run(document, {{runOnly: {_TAGS}}}).then(r => r.violations.map(v => "
                     "[v.impact, v.id, v.nodes.map(n => n.target.join(' ') + ' ' + n.html.slice(0, 120)).join(' | ')]))")
    return [f"{impact}: {rule}: {nodes}" for impact, rule, nodes in broken if impact in ("serious", "critical")]
