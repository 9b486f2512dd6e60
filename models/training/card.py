"""The model card: the recipe's words and the measured figures, as MODEL_CARD.md."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

Rows = list[tuple[str, str]]


def write_card(folder: Path, recipe: dict[str, Any], figures: dict[str, Any]) -> None:
    """Write `folder/MODEL_CARD.md` from the recipe's `[card]`, the manifest beside it and the figures."""
    manifest = tomllib.loads((folder / "manifest.toml").read_text(encoding="utf-8"))
    card = recipe["card"]
    parts = [
        f"# {manifest['title']}\n",
        f"Bundle `{manifest['name']}`, version {manifest['version']}, sha256 of `model.onnx` `{manifest['sha256']}`.\n",
        "**Research use only. Not for clinical diagnosis.** The licences of part of the training images forbid "
        "commercial use, so these weights are for research use only as well.\n",
        section("Intended use", card["intended_use"]), listed("Not for", card["exclusions"]),
        listed("Network and training", card["training"]), listed("Training data and licences", card["data"]),
        f"## Figures\n\n{card['figures_note']}\n\n{tables(recipe, figures)}",
        "How these were measured (the same command writes the bundle):\n\n```\n"
        f"{card['command']}\n```\n",
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
    """Return the tables of figures of a bundle by its task."""
    return ct_tables(figures) if recipe["bundle"]["task"] == "ct-segmentation" else cxr_tables(figures)


def ct_tables(figures: dict[str, Any]) -> str:
    """Return Dice by held-out case, false alarms, and the curve of the study probability."""
    cases = [
        (name, str(c["slices"]), f"{c['infection_dice']:.3f}", f"{c['lung_dice']:.3f}",
         f"{c['infected_percent_annotated']:.1f}", f"{c['infected_percent_found']:.1f}")
        for name, c in figures["cases"].items()
    ]
    curve, lungs = figures["study_probability"], figures["held_out_lung_slices"]
    rows: Rows = [
        ("infection Dice, mean +- standard deviation over the held-out cases",
         f"{figures['infection_dice_mean']:.3f} +- {figures['infection_dice_deviation']:.3f}"),
        ("lung Dice, held-out lesion cases", f"{figures['lung_dice_lesion_cases']:.3f}"),
        (f"lung Dice, {lungs['slices']} held-out lung slices", f"{figures['lung_dice_lung_slices']:.3f}"),
        ("called infected in those lung slices, percent of lung", f"{lungs['false_alarm_percent_of_lung']:.2f}"),
        ("slices with infection and without told apart by infected fraction, AUC", f"{curve['auc_slices']:.3f}"),
        (f"threshold of the study probability (reached at {figures['study_threshold_percent_of_lung']:.1f} % of the lung)",
         f"{figures['study_threshold']:.2f}"),
        ("held-out infected slices over that threshold, percent", f"{figures['infected_slices_over_percent']:.1f}"),
        ("held-out clean slices over that threshold, percent", f"{figures['clean_slices_over_percent']:.1f}"),
        ("milliseconds a slice, ONNX Runtime CPU, 2 threads, batch 8, best of 30",
         f"{figures['milliseconds_per_slice']:.1f}"),
    ]
    if "uninfected_ct" in figures:
        other = figures["uninfected_ct"]
        rows.insert(4, (
            f"called infected in an uninfected CT of LIDC-IDRI ({other['slices']} slices, never trained on), percent of "
            "what it takes for lung, before the read-out", f"{other['false_alarm_percent_of_lung']:.2f}",
        ))
    head = ("held-out case", "slices", "infection Dice", "lung Dice", "infected % annotated", "infected % found")
    return table(head, cases) + "\n" + table(("what", "figure"), rows)


def cxr_tables(figures: dict[str, Any]) -> str:
    """Return accuracy and AUC over all sources and within each, the operating point and the shortcut checks."""
    auc, nih, children = figures["auc"], figures["within_nih"], figures["within_kermany"]
    point, limits = figures["operating_point"], figures["thresholds"]
    rows: Rows = [
        (f"accuracy, 3 classes, {figures['images']} test images, all sources mixed", f"{figures['accuracy']:.3f}"),
        *((f"AUC {name} against the others, all sources mixed", f"{value:.3f}") for name, value in auc.items()),
        (f"within NIH ({nih['images']} images): AUC pneumonia against no finding", f"{nih['auc_pneumonia']:.3f}"),
        ("within NIH: accuracy; called COVID-19, percent",
         f"{nih['accuracy']:.3f}; {nih['called_covid19_percent']:.1f}"),
        (f"within Kermany, children ({children['images']} images): AUC pneumonia against no finding",
         f"{children['auc_pneumonia']:.3f}"),
        ("within Kermany: accuracy; called COVID-19, percent",
         f"{children['accuracy']:.3f}; {children['called_covid19_percent']:.1f}"),
        ("expected calibration error (temperature "
         f"{figures['temperature']:.2f} baked in)", f"{figures['calibration_error']:.3f}"),
        (f"anything over its threshold (pneumonia {limits['pneumonia']:.2f}, COVID-19 {limits['covid19']:.2f}): "
         "sensitivity; specificity", f"{point['sensitivity']:.3f}; {point['specificity']:.3f}"),
        ("the same within NIH", f"{point['sensitivity_nih']:.3f}; {point['specificity_nih']:.3f}"),
        ("COVID-19 over its threshold: sensitivity; specificity",
         f"{point['sensitivity_covid19']:.3f}; {point['specificity_covid19']:.3f}"),
        ("accuracy with the lungs blanked out (what the rest of the picture tells; always guessing the commonest class "
         f"gives {figures['commonest_class_share']:.2f})", f"{figures['accuracy_with_lungs_blanked']:.3f}"),
        ("milliseconds an image, ONNX Runtime CPU, 2 threads, best of 30", f"{figures['milliseconds_per_image']:.1f}"),
    ]
    for key, words in (("other_finding", "NIH images with another finding"),
                       ("covid19_without_finding", "COVID-19 patients, image read as without finding")):
        shares = figures[f"called_percent_{key}"]
        told = ", ".join(f"{name} {shares[name]:.0f} %" for name in ("no_finding", "pneumonia", "covid19"))
        rows.append((f"{words} ({shares['images']} images), called", told))
    if "demo" in figures:
        demo = figures["demo"]
        rows.append(("16 radiographs of the demonstration (children): pneumonia flagged; normal flagged",
                     f"{demo['pneumonia_flagged']}; {demo['normal_flagged']}"))
    return table(("what", "figure"), rows)
