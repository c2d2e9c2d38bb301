"""The features of a slide: which are genes, and by what name."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from spotwise.data.barcodes import clean_label
from spotwise.errors import InputError

# Features that are not genes, where no feature type says so. HEST counts them into nb_genes and leaves them in the
# matrix; 220 of the paper's 500 IDC "genes" are of this kind.
CONTROL_FEATURES = re.compile(
    r"(?i:blank([-_. \d]|$)"  # Xenium BLANK_0069, MERSCOPE Blank-1 and blank1
    r"|neg(ative)?[-_. ]?(control|ctrl|prb|probe)|negative[-_. ]?\d"  # NegControlProbe_00042, CosMx NegPrb3, Negative1
    r"|(unassigned|deprecated)[-_. ]?codeword|deprecated_|intergenic_region|genomic_?control"  # Xenium; Visium probes
    r"|(system|false)[-_. ]?(control|code)"  # CosMx SystemControl12, FalseCode01
    r"|ercc[-_.]\d{5}|sirv\d|luciferase$|fiducial)"  # spike-ins and marks; ERCC1 is a gene
    r"|antisense_"  # Xenium
    r"|__(no_feature|ambiguous|too_low_aqual|not_aligned|alignment_not_unique)|N_(unmapped|multimapping|noFeature|ambiguous)$"
)
# Antibodies where no feature type says so: CD3E_TotalSeqB, adt_CD4, mouse_IgG2a
ANTIBODIES = re.compile(
    r"(?i:.+[-_.](totalseq\w*|adt|prot(ein)?)|(adt|prot(ein)?)[-_.].+)$|((mouse|rat|hamster|human)[-_])?Ig[GM]\d?\w?$"
)
ENSEMBL_ID = re.compile(r"ENS[A-Z]{0,4}G\d{11}(\.\d+)?$")
# AnnData's var_names_make_unique, which HEST applies, renames the second feature of a symbol to SYMBOL-1
MADE_UNIQUE = re.compile(r"(.*)-\d+$")
NO_NAME = {"", "nan", "NaN", "NA", "N/A", "None", "<NA>", "null"}

GENE_TYPES = {"gene expression", "gene", "genes", "gex", "rna", "mrna", "expression", "endogenous"}
CONTROL_TYPES = re.compile(r"control|codeword|blank|negative|deprecated")
OTHER_TYPES = re.compile(
    rf"{CONTROL_TYPES.pattern}|antibod|protein(?! coding)|crispr|capture|multiplex|hashtag|custom$|peaks"
)
UNTYPED, ANTIBODY = "no type", "antibody by its name"

# Prefixes of references made of several genomes: GRCh38_EPCAM, mm10___Epcam; Seurat replaces _ by -
GENOME = r"(?:(?P<human>GRCh\d\d|hg\d\d|human)|(?P<mouse>GRCm\d\d|mm\d\d?|mouse)|(?P<rat>mRatBN7|Rnor|rn\d|rat))"
GENOME_PREFIX = re.compile(GENOME + r"(_\d\.?\d?)?(-\d{4}-[A-Z])?[-_]+(?=[^-_])", re.IGNORECASE)
MIN_SHARE = 0.01  # of the names, for a prefix to be one of a genome
MOST = 0.9  # of the names, for the prefix to be that of the reference

UPPER, TITLE = "EPCAM", "Epcam"
STYLES = {"homo sapiens": UPPER, "human": UPPER, "mus musculus": TITLE, "mouse": TITLE, "rattus norvegicus": TITLE}
OPEN_READING_FRAME = re.compile(r"(?<=\d)orf(?=\d)")  # C1orf112
MIN_GENES = 20  # to judge the style of a panel


class Features(NamedTuple):
    """Features of a slide, and the genes that they measure."""

    names: np.ndarray  # (F,) without blanks around them and without the prefix of a genome
    gene: np.ndarray  # (F,) index into `genes`; -1 for features that are dropped
    is_control: np.ndarray  # (F,) bool
    types: np.ndarray  # (F,) feature type of those that it excludes, "" for the others
    genes: list[str]  # in order of first appearance
    made_unique: np.ndarray  # (F,) bool: SYMBOL-1, summed into SYMBOL
    warnings: list[str]


def classify_features(var: pd.DataFrame, source: object) -> Features:
    """Find the gene that each feature measures.

    Where ``var`` has feature types, only gene expression stays. Of the rest, control features are known by their names,
    whatever their type, and unnamed features are left out. A prefix of the one genome is taken off.

    Raises
    ------
    InputError
        No gene is left, or names are those of two genomes, Ensembl ids, row numbers or unprintable.
    """
    names = np.array([clean_label(name) for name in var.index], dtype=object)
    types, warnings = _excluded_types(var)
    types[[label == "" and ANTIBODIES.match(name) is not None for name, label in zip(names, types, strict=True)]] = (
        ANTIBODY
    )
    typed_control = [CONTROL_TYPES.search(_plain(label)) is not None for label in types]
    is_control = np.array([CONTROL_FEATURES.match(name) is not None for name in names], dtype=bool) | typed_control
    is_gene = ~is_control & (types == "") & [not _is_unnamed(name) for name in names]
    if not is_gene.any():
        kinds = ", ".join(f"{n} {label}" for label, n in Counter(types[types != ""]).items())
        found = f"no gene among {len(names)} features{f' ({kinds})' if kinds else ''}"
        raise InputError(source, "var index", found, "gene symbols")
    symbols, stripped = _without_genome(names[is_gene], source)
    _check_genomes(var[is_gene], source)
    _check_symbols(symbols, var, source)
    names[is_gene] = symbols
    known = set(symbols)
    merged = [match[1] if (match := MADE_UNIQUE.match(name)) and match[1] in known else name for name in symbols]
    made_unique = np.zeros(len(names), dtype=bool)
    made_unique[is_gene] = np.array(merged, dtype=object) != symbols
    gene = np.full(len(names), -1)
    gene[is_gene], genes = pd.factorize(np.array(merged, dtype=object))
    return Features(names, gene, is_control, types, genes.tolist(), made_unique, warnings + stripped)


def _is_unnamed(name: str) -> bool:
    made_unique = MADE_UNIQUE.match(name)  # a second unnamed feature is "-1" or "nan-1"
    return name in NO_NAME or (made_unique is not None and made_unique[1] in NO_NAME)


def _plain(label: str) -> str:
    return re.sub(r"[-_. ]+", " ", label).strip().casefold()


def _excluded_types(var: pd.DataFrame) -> tuple[np.ndarray, list[str]]:
    """Return the type of each feature that its type excludes (F,), and warnings."""
    excluded = np.full(len(var), "", dtype=object)
    column = next((name for name in var.columns if re.fullmatch(r"(?i)feature_?types?", str(name))), None)
    if column is None:
        return excluded, []
    labels = np.array([clean_label(value) for value in var[column]], dtype=object)
    plain = [_plain(label) for label in labels]
    is_blank = np.array([label in NO_NAME for label in labels])
    is_gene = np.array([label in GENE_TYPES for label in plain])
    is_other = np.array([OTHER_TYPES.search(label) is not None for label in plain])
    if not is_gene.any():  # what is known to be something else is excluded, and the rest may be genes
        is_gene = ~is_other
        shown = ", ".join(dict.fromkeys(label or "blank" for label in labels[is_gene])) or "none"
        warnings = [f"var[{column!r}] has no 'Gene Expression'; features of these types were kept: {shown[:200]}"]
    else:
        n_blank = int(is_blank.sum())
        warnings = [f"{n_blank} features without a type in var[{column!r}] were dropped"] if n_blank else []
    excluded[~is_gene] = np.where(is_blank, UNTYPED, labels)[~is_gene]
    return excluded, warnings


def _without_genome(names: np.ndarray, source: object) -> tuple[np.ndarray, list[str]]:
    """Take the prefix of the one genome off, or raise `InputError` for two."""
    prefixes = [GENOME_PREFIX.match(name) for name in names]
    found = Counter(prefix[0] for prefix in prefixes if prefix)
    n_prefixed = sum(found.values())
    if n_prefixed < MIN_SHARE * len(names):
        return names, []
    species = {species for prefix in prefixes if prefix for species, match in prefix.groupdict().items() if match}
    if len(species) > 1 or n_prefixed < MOST * len(names):
        listed = ", ".join(f"{prefix} ({n})" for prefix, n in found.most_common(4))
        keep = f"adata[:, adata.var_names.str.startswith({found.most_common(1)[0][0]!r})]"
        raise InputError(
            source, "var index", f"names of two genomes: {listed} among {len(names)}", f"one species; save {keep}"
        )
    stripped = np.array(
        [name[prefix.end() :] if prefix else name for name, prefix in zip(names, prefixes, strict=True)], dtype=object
    )
    return stripped, [f"the prefix {found.most_common(1)[0][0]} was taken off {n_prefixed} gene names"]


def _check_genomes(genes: pd.DataFrame, source: object) -> None:
    """Refuse genes of two species in a column ``genome``."""
    if "genome" not in genes:
        return
    counted = Counter(clean_label(value) for value in genes["genome"])
    known = {label: match.lastgroup for label in counted if (match := re.match(GENOME, label, re.IGNORECASE))}
    if len(set(known.values())) > 1:
        listed = ", ".join(f"{label} ({counted[label]})" for label in known)
        keep = f"adata[:, adata.var['genome'] == {next(iter(known))!r}]"
        raise InputError(source, "var['genome']", f"genes of two species: {listed}", f"one species; save {keep}")


def _check_symbols(names: Sequence[str], var: pd.DataFrame, source: object) -> None:
    """Refuse unprintable names, and Ensembl ids or numbers in the majority of genes."""
    for name in names:
        if not name.isprintable():
            raise InputError(source, "var index", repr(name), "names without control characters")
    for kind, pattern in (("Ensembl ids", ENSEMBL_ID), ("numbers", re.compile(r"\d+(\.0)?$"))):
        ids = [name for name in names if pattern.match(name)]
        if 2 * len(ids) > len(names):
            columns = [name for name in var.columns if "symbol" in name.lower() or "name" in name.lower()]
            where = f"var[{columns[0]!r}]" if columns else "an Ensembl annotation"
            found = f"{len(ids)} of {len(names)} names that are {kind}, first {ids[0]}"
            expected = f"gene symbols: set adata.var_names from {where} and save the file"
            raise InputError(source, "var index", found, expected)


def check_species(genes: Sequence[str], species: str, source: object) -> None:
    """Refuse symbols written as those of another species than the metadata name.

    Human symbols are in capitals, those of mouse and rat begin with one. Other species and small panels are not judged.
    """
    style = STYLES.get(species.strip().lower())
    if style is None or len(genes) < MIN_GENES:
        return
    is_upper = np.array([not any(map(str.islower, OPEN_READING_FRAME.sub("", gene))) for gene in genes])
    wrong = np.flatnonzero(is_upper != (style == UPPER))
    if 2 * len(wrong) > len(genes):
        found = f"{len(wrong)} of {len(genes)} symbols unlike those of {species}, first {genes[wrong[0]]!r}"
        raise InputError(
            source, "var index", found, f"symbols written as {style}, or the right species in the metadata"
        )
