"""The model card: the recipe's words and the measured figures, as MODEL_CARD.md."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any


def write_card(folder: Path, recipe: dict[str, Any], figures: dict[str, Any]) -> None:
    """Write `folder/MODEL_CARD.md` from the recipe's `[card]`, the manifest beside it and the figures."""
    manifest = tomllib.loads((folder / "manifest.toml").read_text(encoding="utf-8"))
    card, recipe = recipe["card"], {**recipe, "outputs": manifest["outputs"]}
    parts = [
        f"# {manifest['title']}\n",
        f"Bundle `{manifest['name']}`, version {manifest['version']}, sha256 of `model.onnx` `{manifest['sha256']}`.\n",
        "**Research use only. Not for clinical diagnosis.** The licences of part of the training images forbid "
        "commercial use, so these weights are for research use only as well.\n",
        section("Intended use", card["intended_use"]), listed("Not for", card["exclusions"]),
        listed("Network and training", card["training"]), listed("Training data and licences", card["data"]),
        f"## Figures\n\n{card['figures_note']}\n\n{tables(recipe, figures)}",
        "How these were measured (the last command writes the bundle):\n\n```\n"
        f"{card['command'].strip()}\n```\n",
        listed("Known shortcuts and weaknesses", card["weaknesses"]),
        listed("Limitations written into every result", card["limitations"]),
        listed("What was tried and did not help, or is left out", card["tried"]),
    ]
    (folder / "MODEL_CARD.md").write_text("\n".join(parts), encoding="utf-8")


def section(title: str, text: str) -> str:
    """Return a heading with a paragraph."""
    return f"## {title}\n\n{text}\n"


def listed(title: str, items: list[str]) -> str:
    """Return a heading with a list."""
    return f"## {title}\n\n" + "".join(f"- {item}\n" for item in items)


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Return a Markdown table."""
    lines = ["| " + " | ".join(row) + " |" for row in (head, ("---",) * len(head), *rows)]
    return "\n".join(lines) + "\n"


def tables(recipe: dict[str, Any], figures: dict[str, Any]) -> str:
    """Return what was measured: the main figures, those of subgroups, and the operating points."""
    rows = figures["cross_validation"]["figures"]
    whole = [row for row in rows if not row["of"] and row["subset"] == "all"]
    classes = [row for row in rows if row["of"] and row["subset"] == "all"]
    rest = [row for row in rows if row["subset"] != "all"]
    parts = [plain_table(whole), class_table(classes), point_table(recipe)]
    if rest:
        told = plain_table([row for row in rest if not row["of"]]) + "\n" + class_table([row for row in rest if row["of"]])
        parts.append(f"<details><summary>By source, sex, age, view and population</summary>\n\n{told}\n</details>\n")
    if "study_threshold" in figures:
        parts.append(study_table(figures))
    if "uninfected_ct" in figures:
        parts.append(uninfected_table(figures["uninfected_ct"]))
    if "without_shortcuts" in figures:
        parts.append(shortcut_table(figures["without_shortcuts"]))
    if "variants" in figures:
        parts.append(variant_table(figures["variants"]))
    speed = f"{figures['milliseconds']:.1f} ms for one input, ONNX Runtime on two threads of a CPU, the best of 20.\n"
    return "\n".join([*parts, speed])


def told_value(row: dict[str, Any]) -> str:
    """Return a figure with its 95 % interval, if it has one."""
    interval = "" if row["low"] is None else f" ({row['low']:.3f} to {row['high']:.3f})"
    return f"{row['value']:.3f}{interval}"


def plain_table(rows: list[dict[str, Any]]) -> str:
    """Return a table of figures that are not of one class, with their 95 % intervals."""
    lines = [(row["part"], row["subset"], row["name"], told_value(row), str(row["n"]), str(row["groups"])) for row in rows]
    head = ("images", "subset", "figure", "value (95 % interval)", "n", "groups")
    return table(head, lines) if lines else ""


def class_table(rows: list[dict[str, Any]]) -> str:
    """Return a table of figures of classes, one row for each class of each subset; n: the largest of its figures."""
    names = list(dict.fromkeys(row["name"] for row in rows))
    found: dict[tuple[str, str, str], dict[str, dict[str, Any]]] = {}
    for row in rows:
        found.setdefault((row["part"], row["subset"], row["of"]), {})[row["name"]] = row
    lines = [
        (*key, *(told_value(of[name]) if name in of else "" for name in names), str(max(row["n"] for row in of.values())))
        for key, of in found.items()
    ]
    return table(("images", "subset", "class", *names, "n"), lines) if lines else ""


def point_table(recipe: dict[str, Any]) -> str:
    """Return the thresholds that are bound to these weights, and the operating point that each was chosen for."""
    points, lines = recipe.get("operating_point", {}), []
    for output in recipe["outputs"]:
        point = points.get(output["name"])
        if isinstance(point, dict):
            wanted = ", ".join(f"{k} {v}" for k, v in point.items() if k != "sources")
            lines.append((output["name"], f"{output['threshold']:.3f}", wanted, ", ".join(point.get("sources", ["all"]))))
    return table(("output", "threshold", "chosen for (of two, the higher threshold)", "within"), lines) if lines else ""


def study_table(found: dict[str, Any]) -> str:
    """Return the threshold of the study probability and what it flags of the slices, out of fold."""
    return table(("the study probability, out of fold", "figure"), [
        ("threshold", f"{found['study_threshold']:.2f}"),
        ("reached when so much of the lung is called infected, percent", f"{found['study_threshold_percent_of_lung']:.2f}"),
        ("slices with infection over it, percent", f"{found['infected_slices_over_percent']:.1f}"),
        ("slices without infection over it, percent", f"{found['clean_slices_over_percent']:.1f}"),
    ])


def uninfected_table(found: dict[str, Any]) -> str:
    """Return what the shipped weights call infected in a series without infection that was never trained on."""
    return table((f"a CT of LIDC-IDRI without infection, {found['slices']} slices, shipped weights", "figure"), [
        ("called infected, percent of what the bare network takes for lung", f"{found['network_percent_of_lung']:.2f}"),
        ("called infected after the service's read-out, percent of the lungs", f"{found['service_percent_of_lung']:.2f}"),
        ("study probability; threshold", f"{found['study_probability']:.2f}; {found['threshold']:.2f}"),
        ("finding", "present" if found["present"] else "absent"),
    ])


def shortcut_table(found: dict[str, dict[str, float]]) -> str:
    """Return the figures of the recipe on pictures from which shortcuts are taken away (`models/training/shortcuts.py`)."""
    lines = [(name, f"{row['accuracy']:.3f}", f"{row['accuracy_nih']:.3f}", f"{row['auc_pneumonia_nih']:.3f}",
              f"{row['accuracy_elsewhere']:.3f}", f"{row['auc_elsewhere']:.3f}") for name, row in found.items()]
    head = ("trained on the 123/425/399 images alone, by patient", "accuracy, three classes", "accuracy within NIH",
            "AUC pneumonia within NIH", "accuracy on other NIH images", "AUC there")
    return table(head, lines)


def variant_table(variants: dict[str, Any]) -> str:
    """Return what `models optimise` measured of the smaller files."""
    lines = [(name, "; ".join(f"{k} {v}" for k, v in found.items() if not isinstance(v, dict)))
             for name, found in variants.items() if isinstance(found, dict)]
    return table(("file", "measured"), lines) if lines else ""
