"""Writing plain data as TOML (the standard library reads it only)."""

from __future__ import annotations

import json
from typing import Any


def dumps(table: dict[str, Any], path: str = "") -> str:
    """Return a table as TOML text: plain keys first, then tables, then arrays of tables.

    Values: str, bool, int, float, lists of these, dictionaries and lists of dictionaries. Floats keep 6 digits.
    """
    plain = {k: v for k, v in table.items() if not isinstance(v, dict) and not _is_rows(v)}
    lines = [f"{_key(key)} = {_value(value)}" for key, value in plain.items()]
    for key, value in table.items():
        name = f"{path}.{_key(key)}" if path else _key(key)
        if isinstance(value, dict):
            lines.append(f"\n[{name}]\n{dumps(value, name)}".rstrip())
        elif _is_rows(value):
            lines.extend(f"\n[[{name}]]\n{dumps(row, name)}".rstrip() for row in value)
    return "\n".join(lines) + "\n"


def _is_rows(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, dict) for row in value)


def _key(key: str) -> str:
    return key if key.replace("_", "").replace("-", "").isalnum() else json.dumps(key)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return repr(round(value, 6))
    if isinstance(value, int):
        return str(value)
    if isinstance(value, list):
        whole = "[" + ", ".join(_value(item) for item in value) + "]"
        return whole if len(whole) < 100 else "[\n" + "".join(f"    {_value(item)},\n" for item in value) + "]"
    return json.dumps(str(value), ensure_ascii=False)
