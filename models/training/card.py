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
        one = figures["uninfected_ct"]
        parts.append(uninfected_table(one, figures.get("uninfected_ct_on_cpu", one)))
    if "without_shortcuts" in figures:
        parts.append(shortcut_table(figures["without_shortcuts"]))
    if "pasted_cloud" in figures:
        parts.append(cloud_table(figures["pasted_cloud"]))
    if "variants" in figures:
        parts.append(variant_table(figures["variants"]))
    times = figures.get("milliseconds_by_file", {"fp32": figures["milliseconds"]})
    told = ", ".join(f"{name} {ms:.1f} ms" for name, ms in times.items() if name != "fp16")
    speed = f"One input, ONNX Runtime on two threads of a CPU, the best of 20: {told}.\n"
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


def uninfected_table(found: dict[str, Any], on_cpu: dict[str, Any]) -> str:
    """Return what the shipped weights call infected in a series without infection that was never trained on.

    found: by model.onnx; on_cpu: by the file that is for a CPU.
    """
    told = (("called infected, percent of what the bare network takes for lung", "network_percent_of_lung"),
            ("called infected after the service's read-out, percent of lungs", "service_percent_of_lung"),
            ("study probability", "study_probability"), ("its threshold", "threshold"))
    head = (f"a CT of LIDC-IDRI without infection, {found['slices']} slices", "model.onnx", "the file for a CPU")
    return table(head, [
        *((text, f"{found[key]:.2f}", f"{on_cpu[key]:.2f}") for text, key in told),
        ("finding", *("present" if one["present"] else "absent" for one in (found, on_cpu)))])


def shortcut_table(found: dict[str, dict[str, float]]) -> str:
    """Return the figures of the recipe on pictures from which shortcuts are taken away (`models/training/shortcuts.py`)."""
    lines = [(name, f"{row['accuracy']:.3f}", f"{row['accuracy_nih']:.3f}", f"{row['auc_pneumonia_nih']:.3f}",
              f"{row['accuracy_elsewhere']:.3f}", f"{row['auc_elsewhere']:.3f}") for name, row in found.items()]
    head = ("trained on the 123/425/399 images alone, by patient", "accuracy, three classes", "accuracy within NIH",
            "AUC pneumonia within NIH", "accuracy on other NIH images", "AUC there")
    return table(head, lines)


def cloud_table(found: dict[str, Any]) -> str:
    """Return how far a pasted opacity moves probabilities, and what is flagged as it is (`models/training/clouds.py`)."""
    most = sorted(found["most_moved"].items(), key=lambda pair: -pair[1])[:3]
    flagged = [(name, ", ".join(f"{output} {score:.2f}" for output, score in over.items()) or "nothing")
               for name, over in found["flagged"].items()]
    return table(("six radiographs of children (the demonstration's), never trained on; shipped weights", "figure"), [
        (f"a cloud a fifth of the image wide pasted into a lung of one of {found['healthy']} normal ones moves, at most",
         ", ".join(f"{name} by {value:.2f}" for name, value in most)),
        *((f"over its threshold on {name}", told) for name, told in flagged)])


def variant_table(variants: dict[str, Any]) -> str:
    """Return what `models optimise` measured of the further files: how they were made, how fast they are, their fate."""
    trials = [("int8", trial) for trial in variants["int8"]] + [("fp16", variants["fp16"])]
    lines = [(name, trial["made_by"], f"{trial['bytes'] / 1e6:.1f} MB",
              f"{trial['times_faster']:.2f}" if "times_faster" in trial else "", trial["why"]) for name, trial in trials]
    head = ("file", "how", "size", "times as fast as model.onnx (paired, two cores)", "what became of it")
    note = f"{variants['note']} {variants['images']} images; `firstlook models optimise`.\n"
    return f"{table(head, lines)}\n{note}"
