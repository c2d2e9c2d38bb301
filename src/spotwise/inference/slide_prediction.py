"""Expression of slides that were never sequenced, by models that were trained on whole cohorts."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import anndata
import pandas as pd
from anndata import AnnData

from spotwise.constants import SLIDE_CENTRED, SPATIAL
from spotwise.data.patches import extract_patches
from spotwise.data.slide_conversion import convert_slide
from spotwise.data.slide_format import needs_conversion
from spotwise.data.slide_preparation import prepare_spots, prepare_tissue
from spotwise.inference.final_description import (
    PREDICTOR,
    REFERENCE,
    FinalDescription,
    read_final_description,
    read_reliability,
)
from spotwise.inference.final_models import check_model, predict_spots
from spotwise.inference.likeness import compare_slide, read_reference
from spotwise.inference.slide_anndata import write_slide_prediction
from spotwise.inference.trained_models import TrainedModel
from spotwise.inference.trained_models import load_model as load_trained
from spotwise.models.description import ModelDescription, read_description
from spotwise.models.registry import REGISTRY
from spotwise.runtime.files import write_json, write_table

logger = logging.getLogger(__name__)

FEW_SPOTS = 50  # below, mean and spread of a slide's features are uncertain


@dataclass(frozen=True)
class SlideFiles:
    """Files of a slide without counts, from which it is predicted.

    Attributes
    ----------
    spots, patches, features
        AnnData of spots, their patches, and their features by the model's frozen encoder, if it has one.
    likeness, verdict
        How alike spots and slide are to those of the training (TSV, JSON).
    facts, hires, lowres
        What is known of the slide (JSON), and its pictures.
    """

    spots: Path
    patches: Path
    features: Path | None
    likeness: Path
    verdict: Path
    facts: Path
    hires: Path
    lowres: Path


def predict_slide(model: Path, slide: str, files: SlideFiles, device: str, threads: int, output: Path) -> None:
    """Predict the expression of a slide by a final model, and write it as AnnData.

    Parameters
    ----------
    model
        Folder of the model.
    slide
        Name of the slide.
    output
        File to write, as by :func:`spotwise.inference.slide_anndata.write_slide_prediction`. ``uns["spotwise"]`` holds
        units, model, the slide's facts and the verdict on its likeness.

    Raises
    ------
    SetupError
        The features come from other encoder weights than those of the training, or there is no GPU.
    """
    final = read_final_description(model)
    facts, verdict = (json.loads(path.read_text(encoding="utf-8")) for path in (files.facts, files.verdict))
    given = anndata.read_h5ad(files.spots)
    description = read_description(model)
    spots, expression = predict_spots(model, given, facts["um_per_px"], files.patches, files.features, device, threads)
    odd = [*facts["warnings"], *map(str, given.uns["warnings"])]
    if left_out := given.n_obs - spots.n_obs:
        odd.append(f"{left_out} of {given.n_obs} spots are left out, as their patches lie wholly outside the slide")
    if few := few_spots(description, spots.n_obs):
        odd.append(few)
        logger.warning("%s: %s", slide, few)
    write_slide_prediction(
        path=output,
        predicted=expression,
        genes=description.genes,
        spots=spots,
        likeness=pd.read_csv(files.likeness, sep="\t", dtype={"barcode": str}, keep_default_na=False),
        reliability=read_reliability(model),
        hires=files.hires,
        lowres=files.lowres,
        facts={
            **facts,
            "slide": slide,
            "warnings": odd,
            "note": description.note,
            **final.model_dump(mode="json"),
            "alike": verdict["alike"],
            "verdict": verdict["words"],
        },
    )


def few_spots(description: ModelDescription, n: int) -> str:
    """Warn of few spots where a method compares a spot with the others of its slide, else return ""."""
    relative = description.features == SLIDE_CENTRED or REGISTRY[description.method].has_context
    if n >= FEW_SPOTS or not relative:
        return ""
    return (
        f"{n} spot{'s are' if n > 1 else ' is'} few for {description.method}, which sees a spot relative to the others "
        "of its slide: predict the whole tissue, and select spots afterwards"
    )


class FinalModel:
    """A model that was trained on a whole cohort, loaded from its folder.

    Attributes
    ----------
    description
        What its folder says of it.
    genes
        A row per gene of the panel, with how reliably it is predicted.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self.description: FinalDescription = read_final_description(folder)
        check_model(self.folder)
        read_reference(self.folder / REFERENCE)
        load_trained(self.folder)  # damaged weights are told of before a slide is read
        self.genes = read_reliability(folder)

    def predict(
        self,
        slide: str | Path,
        um_per_px: float | None = None,
        layout: str = "hexagonal",
        pitch_um: float = 100.0,
        spots: str | Path | None = None,
        tissue: str | Path | None = None,
        checkpoint: str | Path = "",
        device: str = "auto",
        threads: int = 1,
    ) -> AnnData:
        """Predict the expression of a slide.

        Parameters
        ----------
        slide
            Any slide that OpenSlide reads, or a TIFF, PNG or JPEG, which is converted into a temporary file.
        um_per_px
            Pixel size of level 0 in micrometres, if the slide's tags do not state it.
        layout, pitch_um
            Grid of the spots: ``hexagonal``, ``square`` or ``dense``, and their distance in micrometres.
        spots
            CSV of centres, ``x`` and ``y`` in pixels of level 0, instead of the grid.
        tissue
            GeoJSON or mask of the tissue, instead of the tissue that is found.
        checkpoint
            File with the weights of the frozen encoder, for a machine that cannot download them.
        device, threads
            ``auto``, ``cpu`` or ``cuda``, and the number of CPU threads.

        Returns
        -------
        AnnData
            Spots x genes as in ``results/<run>/predict/<slide>/<predictor>.h5ad``: X is log-normalised expression,
            ``var`` tells how reliable each gene is, ``obs`` how alike each spot is to those of the training, and
            ``uns["spotwise"]["verdict"]`` says so of the slide.

        Raises
        ------
        InputError
            The slide has no pixel size or no tissue, is too coarse, or cannot be read.
        SetupError
            The encoder's weights are not those of the training, or not available.
        """
        given, name = Path(slide), Path(slide).stem
        with TemporaryDirectory(prefix="spotwise-") as scratch:
            folder = Path(scratch)
            read = given
            if needs_conversion(given):
                read = folder / "slide.tif"
                convert_slide(given, read, um_per_px)
            made = {key: folder / f"{key}.png" for key in ("picture", "hires", "lowres")}
            made |= {"outline": folder / "tissue.geojson", "facts": folder / "slide.json"}
            prepare_tissue(read, str(given), um_per_px, Path(tissue) if tissue else None, made)
            centres = Path(spots) if spots else None
            prepare_spots(made["facts"], made["outline"], centres, layout, pitch_um, folder / "spots.h5ad")
            placed = anndata.read_h5ad(folder / "spots.h5ad")
            scale = json.loads(made["facts"].read_text(encoding="utf-8"))["um_per_px"]
            extract_patches(read, placed.obsm[SPATIAL], placed.obs_names, scale, folder / "patches.h5", threads)
            features = self._embed(folder, read, scale, str(checkpoint), device, threads)
            table, verdict = compare_slide(
                folder / "patches.h5",
                read,
                placed.obsm[SPATIAL],
                placed.obs_names,
                scale,
                self.folder / REFERENCE,
                threads,
            )
            write_table(table, folder / "likeness.tsv")
            write_json(folder / "likeness.json", verdict)
            files = SlideFiles(
                spots=folder / "spots.h5ad",
                patches=folder / "patches.h5",
                features=features,
                likeness=folder / "likeness.tsv",
                verdict=folder / "likeness.json",
                facts=made["facts"],
                hires=made["hires"],
                lowres=made["lowres"],
            )
            predict_slide(self.folder, name, files, device, threads, folder / "prediction.h5ad")
            return anndata.read_h5ad(folder / "prediction.h5ad")

    def _embed(
        self, folder: Path, slide: Path, um_per_px: float, checkpoint: str, device: str, threads: int
    ) -> Path | None:
        """Describe the patches by the model's frozen encoder, if it has one."""
        encoder = self.description.encoder
        if encoder is None:
            return None
        named = (encoder.name, encoder.pretrained)
        output = folder / "features.h5"
        if not encoder.fields_um:
            from spotwise.inference.embeddings import embed_patches

            embed_patches(folder / "patches.h5", *named, device, threads, output, checkpoint)
            return output
        from spotwise.inference.context_features import embed_context

        embed_context(
            folder / "patches.h5",
            slide,
            folder / "spots.h5ad",
            um_per_px,
            encoder.fields_um,
            *named,
            encoder.views,
            device,
            threads,
            output,
            checkpoint,
        )
        return output


def load_model(folder: str | Path, device: str = "cpu") -> FinalModel | TrainedModel:
    """Load a model from its folder, without a download.

    Parameters
    ----------
    folder
        ``results/<run>/final/<cohort>/<predictor>`` for a model of a whole cohort, which predicts slides, or
        ``results/<run>/models/...`` for one of a fold.
    device
        Device of a fold's network. A model of a whole cohort gets its device in ``predict``.

    Raises
    ------
    InputError
        The folder holds no model, or its files are damaged or do not belong together.

    Examples
    --------
    Predict a slide that was never sequenced, and look at the genes that can be believed:

    >>> import spotwise
    >>> model = spotwise.load_model("results/demo/final/demo/ContextRidge")
    >>> prediction = model.predict("data/generated/unsequenced/DEMO5.tif")
    >>> prediction.uns["spotwise"]["units"]
    'log(1 + x), x: counts of a spot scaled to the median of its slide'
    >>> reliable = prediction[:, prediction.var["reliable"]]

    Embed patches with the network of a fold, of a retrieval method:

    >>> network = spotwise.load_model("results/demo/models/demo/patient/CMRCNet/fold0/seed0")
    >>> network.description.kind
    'retrieval'
    """
    return FinalModel(folder) if (Path(folder) / PREDICTOR).is_file() else load_trained(folder, device)
