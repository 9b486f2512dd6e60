"""Write a bundle's card again, after its recipe's words were changed; the figures stay those of figures.json."""

from __future__ import annotations

from models.evaluation.held_out import CannotTell, figures_of, recipe_of
from service.domain.manifest import Manifest


def recard(manifest: Manifest) -> int:
    """Write `MODEL_CARD.md`; returns 0. Raises: CannotTell without recipe, figures or the training code."""
    try:
        from models.training.card import write_card
    except ImportError as error:
        raise CannotTell("cards are written by models/training, which is not here") from error
    figures = figures_of(manifest)
    if "auc" in figures:  # the file is sorted by name, the card goes by the order of the outputs
        figures["auc"] = {o.name: figures["auc"][o.name] for o in manifest.outputs if o.name in figures["auc"]}
    write_card(manifest.folder, recipe_of(manifest), figures)
    return 0
