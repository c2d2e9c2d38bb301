"""Scores made by hand, whose averages can be worked out in the head."""

import anndata as ad
import numpy as np
import pandas as pd

from spotwise.evaluation.gene_sets import gene_sets
from spotwise.evaluation.score_files import SCORE_COLUMNS

GENES = ["B", "A", "C", "D"]
CONTROLS = ("TrainMean", "RandomRetrieval", "Oracle")


def prediction(predicted, observed, run=None, **var):
    """Make a prediction of `GENES` on spots in a row; ``run`` and ``var`` replace defaults."""
    n, g = np.shape(predicted)
    names = GENES[:g]
    columns = {"is_hvg": True, "is_marker": False, "is_measured": True}
    columns |= {"reference_mean": np.arange(g), "reference_var": np.arange(g)}
    content = ad.AnnData(
        np.asarray(predicted, dtype=np.float32),
        obs=pd.DataFrame(index=[f"spot{i}" for i in range(n)]),
        var=pd.DataFrame(columns | var, index=names),
        layers={"observed": np.asarray(observed, dtype=np.float32)},
        obsm={"spatial": np.stack([np.arange(n), np.zeros(n)], axis=1)},  # in a row
    )
    content.uns["spotwise"] = {
        "cohort": "demo",
        "protocol": "paper",
        "predictor": "CMRCNet-500",
        "method": "CMRCNet",
        "kind": "method",
        "k": 500,
        "k_used": 283,
        "fold": 1,
        "seed": 0,
        "sample": "S1",
        "note": "",
    } | (run or {})
    return content


def rows(predictor, fold, seed, sample, pcc, kind=None, protocol="paper", cohort="READ", k=0, k_used=None, note=""):
    """One file of a panel A to E: A, B are the top 2 HEG; B, C the top 2 HVG; D is a marker; E is not measured."""
    return pd.DataFrame(
        {
            "cohort": cohort,
            "protocol": protocol,
            "predictor": predictor,
            "method": predictor.split("-")[0],
            "kind": kind or ("control" if predictor in CONTROLS else "method"),
            "k": k,
            "k_used": k if k_used is None else k_used,
            "fold": fold,
            "seed": seed,
            "sample": sample,
            "note": note,
            "gene": list("ABCDE"),
            "pcc": [*pcc, np.nan],
            "rank_mean": [1, 2, 3, 4, 0],
            "rank_var": [4, 1, 2, 3, 0],
            "is_marker": [False, False, False, True, True],
            "is_measured": [True, True, True, True, False],
            "is_constant": [value == 0 for value in pcc] + [False],
            "n_spots": 100,
        }
    ).reindex(columns=list(SCORE_COLUMNS), fill_value=1.0)


def arena(values, **options):
    """One file per predictor with the same PCC for every gene."""
    return pd.concat([rows(name, 0, 0, "S1", [value] * 4, **options) for name, value in values.items()])


def genes_of(predictor, pcc, fold=0, seed=0, sample="S1", measured=(), constant=(), markers=(), **options):
    """One file with genes of one's own: ``pcc`` by gene; all are measured, but for those that ``measured`` says not."""
    file = rows(predictor, fold, seed, sample, [0.0] * 4, **options).iloc[[0] * len(pcc)].reset_index(drop=True)
    file["gene"] = list(pcc)
    file["is_measured"] = [dict(measured).get(gene, True) for gene in pcc]
    file["rank_mean"] = file["rank_var"] = file["is_measured"].astype(int)
    file["pcc"] = np.where(file["is_measured"], list(pcc.values()), np.nan)
    file["is_constant"] = [gene in constant for gene in pcc]
    file["is_marker"] = [gene in markers for gene in pcc]
    return file


def two_folds_two_seeds():
    """CMRCNet-50 with fold 0 of two slides and fold 1 of one, and two seeds."""
    return pd.concat(
        [
            # in turn: HEG (A, B), HVG (B, C), marker (D)
            rows("CMRCNet-50", 0, 0, "S1", [0.2, 0.4, 0.6, 0.1], k=50),  # 0.3    0.5    0.1
            rows("CMRCNet-50", 0, 0, "S2", [0.4, 0.6, 0.0, 0.3], k=50, k_used=40),  # 0.5    0.3    0.3
            rows("CMRCNet-50", 1, 0, "S3", [0.8, 0.8, 0.4, 0.5], k=50),  # 0.8    0.6    0.5
            rows("CMRCNet-50", 0, 1, "S1", [0.4, 0.4, 0.4, 0.1], k=50),  # 0.4    0.4    0.1
            rows("CMRCNet-50", 0, 1, "S2", [0.8, 0.8, 0.8, 0.5], k=50, k_used=40),  # 0.8    0.8    0.5
            rows("CMRCNet-50", 1, 1, "S3", [0.4, 0.4, 0.0, 0.7], k=50),  # 0.4    0.2    0.7
        ]
    )


def slide_rows(predictor, slides, seed=0, fold=None, cohort="READ", protocol="paper", kind="method"):
    """Make scores of slides, each a list of the PCC of markers A, B, ...; by default each slide is a fold."""
    parts = []
    for number, pcc in enumerate(slides):
        part = pd.DataFrame({"gene": list("ABCDEFGHIJKLMNOPQRSTUVWXYZ")[: len(pcc)], "pcc": np.array(pcc, dtype=float)})
        parts.append(part.assign(fold=number if fold is None else fold[number], sample=f"S{number}"))
    facts = {"cohort": cohort, "protocol": protocol, "predictor": predictor, "kind": kind, "seed": seed}
    return pd.concat(parts).assign(**facts, rank_mean=0, rank_var=0, is_marker=True, is_measured=True)


def together(*parts):
    scores = pd.concat(parts, ignore_index=True)
    return scores, {"marker": gene_sets(scores)["marker"]}
