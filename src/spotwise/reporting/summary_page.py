"""HTML page that sums up a slide that was never sequenced, to hand to a colleague."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from anndata import AnnData

from spotwise import __version__
from spotwise.inference.final_description import FinalDescription
from spotwise.reporting.embedded_pictures import embedded
from spotwise.reporting.number_format import number
from spotwise.reporting.predicted_genes import UNITS, correlation, judgement
from spotwise.reporting.templates import render

GENES_LISTED = 50
OUTLINE_PX, MAPS_PX = 1000, 1500  # longest edges of the pictures in the page
_SURE, _DOUBTFUL, _FAR = "alike", "doubtful", "far"
_MARKS = {True: "as in training", False: "NOT as in training", None: "cannot be judged"}


@dataclass(frozen=True)
class AppliedModel:
    """A model that was applied to a slide, and what came of it.

    Attributes
    ----------
    description
        ``predictor.json`` of the model.
    prediction
        Spots x genes, with reliability in ``var``.
    verdict
        How alike the slide is to the training slides of the model (`likeness.compare_slide`).
    genes
        Genes that are shown (`predicted_genes.choose_genes`).
    maps
        PNG file of `slide_maps.draw_slide_maps`.
    """

    description: FinalDescription
    prediction: AnnData
    verdict: Mapping[str, object]
    genes: Sequence[str]
    maps: str | os.PathLike


def render_summary_page(
    slide: str, facts: Mapping[str, object], outline: str | os.PathLike, models: Mapping[str, AppliedModel]
) -> str:
    """Render what was predicted for a slide as one self-contained HTML page.

    All text is escaped. The page embeds its pictures and holds no scripts or links.

    Parameters
    ----------
    slide
        Name of the slide.
    facts
        Contents of ``slide.json``.
    outline
        PNG file of the slide with the outline of its tissue.
    models
        Name -> model, in the order of the configuration.
    """
    first = next(iter(models.values())).prediction
    return render(
        "summary_page.html",
        slide=slide,
        facts=_slide_rows(facts, first),
        outline=embedded(outline, OUTLINE_PX),
        verdicts=[_verdict(of.description.cohort, of.verdict) for of in _one_per_cohort(models)],
        models=[_model(name, applied) for name, applied in models.items()],
        notes=list(facts["warnings"]),
        first=next(iter(models)),
        gene=next((gene for applied in models.values() for gene in applied.genes), first.var_names[0]),
        version=__version__,
    )


def _one_per_cohort(models: Mapping[str, AppliedModel]) -> list[AppliedModel]:
    return list({applied.description.cohort: applied for applied in models.values()}.values())


def _slide_rows(facts: Mapping[str, object], prediction: AnnData) -> dict[str, str]:
    um_per_px = facts["um_per_px"]
    width, height = (facts[edge] * um_per_px / 1000 for edge in ("width", "height"))
    shares = prediction.obs["tissue_share"]
    rows = {
        "File": Path(str(facts["source"])).name,
        "Size": f"{facts['width']} x {facts['height']} px, {width:.1f} x {height:.1f} mm",
        "Pixel size": f"{um_per_px:.4g} um, from {facts['um_per_px_from']}",
        "Tissue": f"{facts['tissue_mm2']:.1f} mm², from {facts['tissue_from']}",
        "Spots": f"{prediction.n_obs}, on average {100 * shares.mean():.0f} % of a patch is tissue",
    }
    if facts.get("left_out_mm2"):
        rows["Left out"] = f"{facts['left_out_mm2']:.2f} mm² of pen marks or dark bands"
    return rows


def _verdict(cohort: str, verdict: Mapping[str, object]) -> dict[str, object]:
    level = _SURE if verdict["alike"] else _FAR if verdict["far_off"] else _DOUBTFUL
    head, *words = verdict["words"]
    marks = {part: _MARKS[verdict[part]["alike"]] for part in ("scale", "stain", "tissue")}
    return {"cohort": cohort, "level": level, "head": head, "words": words, "marks": marks}


def _model(name: str, applied: AppliedModel) -> dict[str, object]:
    described = applied.description
    var = applied.prediction.var
    patients = {one.patient for one in described.slides}
    encoder = described.encoder
    trained = (
        f"{len(described.slides)} slides of {len(patients)} patient{'s' * (len(patients) != 1)} ({described.cohort})"
    )
    encoder_words = "none of its own" if encoder is None else f"{encoder.name} (weights {encoder.sha256[:12]})"
    facts = {
        "Method": described.method,
        "Trained on": f"{trained}: {', '.join(one.sample for one in described.slides)}",
        "Encoder": encoder_words if encoder is not None or described.k else "that of the method",
        "Values": described.units,
    }
    return {
        "name": name,
        "facts": facts,
        "reliability": reliability_words(var, described.reliability),
        "remarks": list(described.reliability.get("remarks", ())),
        "licences": list(described.licences),
        "maps": embedded(applied.maps, MAPS_PX),
        "genes": [_gene(gene, var.loc[gene]) for gene in list(applied.genes)[:GENES_LISTED]],
        "others": max(0, len(applied.genes) - GENES_LISTED),
    }


def reliability_words(var: pd.DataFrame, rated: Mapping[str, object]) -> list[str]:
    """Say in two sentences how many genes are reliable and what that means.

    ``rated`` are the facts of :func:`spotwise.evaluation.reliability.rate_genes`.
    """
    n, left_out = int(var["reliable"].sum()), UNITS[str(rated["basis"])]
    means = (
        f"{n} of {len(var)} genes are reliable: in {left_out} left out of the training, their predicted maps agreed "
        f"with the measured ones beyond chance (the interval of the correlation lies above "
        f"{number(float(rated['cutoff']))}, where shuffled images and mirrored intervals leave few genes to chance)."
    )
    if not n:
        return [means, "No map of this model should be believed."]
    best = var.loc[var["reliable"], "pcc"]
    return [
        means,
        f"Even these are rough, with correlations of {number(best.min())} to {number(best.max())}, and for a slide "
        "unlike the training slides nothing of this holds; the maps of all other genes may look convincing and mean "
        "nothing.",
    ]


def _gene(gene: str, row: pd.Series) -> dict[str, str]:
    share = "–" if pd.isna(row["positive_share"]) else f"{100 * row['positive_share']:.0f} %"
    return {
        "gene": gene,
        "reliable": judgement(row),
        "pcc": correlation(row),
        "ceiling": number(row["ceiling"]),
        "positive": share,
        "slides": str(int(row["n_slides"])),
    }
