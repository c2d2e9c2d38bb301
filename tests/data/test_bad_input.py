"""Each fault in the input ends in one line that names file, field, what was found and what was expected.

One good sample, damaged in one place by each case, runs through the pipeline's own scripts up to a fold. A case ends in
its line, with code 1 and nothing written by the failed job; or it passes, and what was left out is reported.
"""

import shutil
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
import tifffile
import yaml
from PIL import Image
from scipy import sparse

from goodsample import (
    BARCODES,
    CENTRES,
    COUNTS_FILE,
    GENES,
    HEIGHT,
    METADATA_FILE,
    PATCHES_FILE,
    SHEET,
    SLIDE_FILE,
    WIDTH,
    as_csr,
    both,
    config,
    content,
    copy_good,
    counts,
    cut,
    from_slide,
    hdf5,
    matrix,
    metadata,
    patches,
    picture,
    spoilt,
    spotwise,
    with_stray_index,
    write_good,
    write_slide,
)

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*names are not unique"),
    pytest.mark.filterwarnings("ignore:`n_top_genes` > number"),
]

LEVEL = picture(np.random.default_rng(0))


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """Write the good sample, run it once, and return its folder and the hash of its fold."""
    folder = tmp_path_factory.mktemp("good")
    write_good(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        outcome = spotwise()
    assert outcome.line == ""
    shutil.rmtree(folder / "results/r/folds")
    return folder, outcome.fold


@pytest.fixture
def here(good, tmp_path, monkeypatch):
    """Change into a copy of the good sample."""
    copy_good(good[0], tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")


# --- refused ----------------------------------------------------------------------------------------------------------

ST, META, PATCH, SLIDE = map(str, (COUNTS_FILE, METADATA_FILE, PATCHES_FILE, SLIDE_FILE))
SPATIAL = f'{ST}: obsm["spatial"]: found'


def value(new):
    return matrix(lambda x: spoilt(x, new))


def names(new, axis="var"):
    return counts(lambda adata: setattr(adata, f"{axis}_names", new))


def spatial(change):
    def edit(adata):
        adata.obsm["spatial"] = change(adata.obsm["spatial"].astype(float))

    return counts(edit)


def renamed(adata, change):
    """Repeat the genes thrice under other names."""
    thrice = anndata.concat([adata] * 3, axis=1, merge="first")
    thrice.var_names = [change(f"{name}{'abc'[n // adata.n_vars]}") for n, name in enumerate(thrice.var_names)]
    return thrice


def antibody(adata):
    """Add an antibody that is named as a gene, made unique, with most of the counts."""
    added = anndata.AnnData(np.full((12, 1), 900.0), adata.obs, pd.DataFrame(index=["EPCAM-1"]))
    whole = anndata.concat([adata, added], axis=1, merge="first")
    whole.var["feature_types"] = ["Gene Expression"] * adata.n_vars + ["Antibody Capture"]
    return whole


def rewrite_slide(levels, **options):
    return from_slide(lambda: write_slide(SLIDE_FILE, levels, **options))


def photograph():
    Image.new("RGB", (WIDTH, HEIGHT), "white").save(SLIDE_FILE, "JPEG")


def claim(width, height):
    """Change what the slide's header says of its size."""
    with tifffile.TiffFile(SLIDE_FILE, mode="r+b") as tiff:
        tiff.pages[0].tags["ImageWidth"].overwrite(width)
        tiff.pages[0].tags["ImageLength"].overwrite(height)


def unwritten(file):
    """Leave images unwritten, as a killed writer does: HDF5 reads black pixels there."""
    images = file["img"][:5]
    del file["img"]
    room = file.create_dataset("img", (len(BARCODES), *images.shape[1:]), np.uint8, chunks=(1, *images.shape[1:]))
    room[:5] = images


def replace(name, new):
    def edit(file):
        del file[name]
        if new is not None:
            file[name] = new

    return hdf5(PATCHES_FILE, edit)


def two_sheets(cell):
    return content("samples.tsv", SHEET.replace("S1\tc\tp", cell))


COUNTS = {
    "negative": (value(-1), f"{ST}: X: found -1.0 at spot '000x003', gene 'GENE1'"),
    "fraction": (value(0.5), f"{ST}: X: found 0.5 at spot '000x003', gene 'GENE1'"),
    "log-normalised": (matrix(np.log1p), f"{ST}: X: found 1.3862943649291992 at spot '000x000', gene 'EPCAM'"),
    "NaN": (value(np.nan), f"{ST}: X: found nan at spot '000x003', gene 'GENE1'"),
    "infinite": (value(np.inf), f"{ST}: X: found inf at spot '000x003'"),
    "beyond what float32 counts": (value(3e7), f"{ST}: X: found a count of 30000000, expected counts up to 16777216"),
    "complex": (matrix(lambda x: x.astype(complex)), f"{ST}: X: found values of type complex128"),
    "all zero": (matrix(np.zeros_like), f"{ST}: X: found at most 0 counts per spot, expected spots with min_counts=1"),
    "index beyond the genes": (
        both(counts(as_csr), hdf5(COUNTS_FILE, with_stray_index)),
        f"{ST}: X: found an invalid matrix (indices must be",
    ),
    "duplicate barcode": (
        names([*BARCODES[:-1], BARCODES[0]], "obs"),
        f"{ST}: obs index: found barcode '000x000' more than once",
    ),
    "empty barcode": (names([*BARCODES[:-1], ""], "obs"), f"{ST}: obs index: found '' in row 11"),
    "Ensembl ids": (
        names([f"ENSG{number:011d}" for number in range(len(GENES))]),
        f"{ST}: var index: found 18 of 18 names that are Ensembl ids, first ENSG00000000000",
    ),
    "Ensembl ids of the mouse": (
        names([f"ENSMUSG{number:011d}.1" for number in range(len(GENES))]),
        f"{ST}: var index: found 18 of 18 names that are Ensembl ids",
    ),
    "no names": (names([""] * len(GENES)), f"{ST}: var index: found no gene among 18 features"),
    "controls only": (
        names([f"BLANK_{n:04d}" for n in range(18)]),
        f"{ST}: var index: found no gene among 18 features",
    ),
    "other species": (
        metadata(species="Mus musculus"),
        "metadata of S1: species: found 'Mus musculus'",
    ),
    "other symbols": (names([gene.lower() for gene in GENES]), "S2, S1: genes: found none in common"),
    "two genomes": (
        names([f"{'GRCh38_' if n % 3 else 'mm10___'}{gene}" for n, gene in enumerate(GENES)]),
        f"{ST}: var index: found names of two genomes: GRCh38_ (12), mm10___ (6) among 18, expected one species; save ",
    ),
    "antibodies alone": (
        counts(lambda adata: adata.var.insert(0, "feature_types", "Antibody Capture")),
        f"{ST}: var index: found no gene among 18 features (18 Antibody Capture)",
    ),
    "symbols of a mouse": (
        counts(lambda adata: renamed(adata, str.capitalize)),
        f"{ST}: var index: found 54 of 54 symbols unlike those of Homo sapiens, first 'Epcama'",
    ),
    "binarised": (matrix(np.sign), f"{ST}: X: found no value besides 0 and 1 (binarised?), expected raw counts"),
    "counts in a layer": (
        counts(lambda adata: (adata.layers.update(counts=adata.X.copy()), setattr(adata, "X", np.log1p(adata.X)))[2:]),
        f"{ST}: X: found 1.3862943649291992 at spot '000x000', gene 'EPCAM' (",
    ),
    "words in in_tissue": (
        counts(lambda adata: adata.obs.__setitem__("in_tissue", "tissue")),
        f"{ST}: obs[\"in_tissue\"]: found 'tissue' at spot '000x000', expected 1 or 0, true or false",
    ),
    "no spot": (counts(lambda adata: adata[:0].copy()), f"{ST}: obs index: found no spot"),
    "one spot": (
        both(counts(lambda adata: adata[:1].copy()), patches(lambda *parts: [part[:1] for part in parts])),
        f"{PATCH}: barcode: found one spot, 000x000, expected two or more, to correlate",
    ),
    "one spot with counts": (
        both(matrix(lambda x: x * (np.arange(12) < 1)[:, None]), config("expression.hvg_per_slide", 1000)),
        f"{PATCH}: barcode: found one spot, 000x000, expected two or more, to correlate",
    ),
    "no file": (lambda: COUNTS_FILE.unlink(), "data: files of S1: found no st/S1.h5ad, expected a folder in HEST's"),
    "folder": (
        both(lambda: COUNTS_FILE.unlink(), lambda: COUNTS_FILE.mkdir()),
        f"{ST}: file: found a folder",
    ),
    "zero bytes": (
        content(COUNTS_FILE, ""),
        f"{ST}: file: found an empty file (0 bytes), not HDF5, expected a complete .h5ad; copy or fetch it again",
    ),
    "a web page": (
        content(COUNTS_FILE, "<html>Sign in</html>"),
        f"{ST}: file: found a web page (20 bytes), not HDF5",
    ),
    "a table": (content(COUNTS_FILE, "barcode,EPCAM\n000x000,3\n"), f"{ST}: file: found text that begins with 'barco"),
    "a link to nowhere": (
        both(lambda: COUNTS_FILE.unlink(), lambda: COUNTS_FILE.symlink_to("/nowhere/S1.h5ad")),
        f"{ST}: link: found a link to /nowhere/S1.h5ad, which does not exist, expected a file; restore that file",
    ),
    "a Git LFS pointer": (
        content(COUNTS_FILE, "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"),
        f"{ST}: file: found a Git LFS pointer (63 bytes), not HDF5, expected a complete .h5ad; fetch its content",
    ),
    "truncated": (cut(COUNTS_FILE, 0.6), f"{ST}: file: found a truncated file"),
    "another HDF5 file": (lambda: shutil.copy(PATCHES_FILE, COUNTS_FILE), f"{ST}: X: found nothing"),
    "no var": (hdf5(COUNTS_FILE, lambda file: file.pop("var")), f"{ST}: var: found nothing"),
    "fewer barcodes than rows": (
        both(
            hdf5(COUNTS_FILE, lambda file: file["obs"].pop("_index")),
            hdf5(COUNTS_FILE, lambda file: file["obs"].update({"_index": np.array(BARCODES[:5], dtype="S")})),
        ),
        f"{ST}: file: found contents that cannot be read (",
    ),
}

COORDINATES = {
    "missing": (counts(lambda adata: adata.obsm.pop("spatial") is None), f"{ST}: obsm/spatial: found nothing"),
    "one column": (spatial(lambda xy: xy[:, :1]), f"{SPATIAL} shape (12, 1), expected (12, 2): x and y of every spot"),
    "three columns": (spatial(lambda xy: xy[:, [0, 1, 1]]), f"{SPATIAL} shape (12, 3)"),
    "NaN": (spatial(lambda xy: np.where(xy == 350, np.nan, xy)), f"{SPATIAL} (nan, 150) at spot '000x001'"),
    "infinite": (spatial(lambda xy: np.where(xy == 350, np.inf, xy)), f"{SPATIAL} (inf, 150) at spot '000x001'"),
    "text": (spatial(lambda xy: xy.astype(str)), f"{SPATIAL} values of type "),
    "swapped": (
        both(metadata(fullres_px_height=600), spatial(lambda xy: xy[:, ::-1])),
        f"{SPATIAL} 3 of 12 spots off the slide, first '000x003' at (150, 750), expected x below 1000 and y below 600, "
        "none negative; all spots would fit with x and y swapped",
    ),
    "one spot outside": (
        spatial(lambda xy: np.where(np.arange(12)[:, None] == 4, 5000, xy)),
        f"{SPATIAL} 1 of 12 spots off the slide, first '001x000' at (5000, 5000), expected x below 1000 and y below "
        "800, none negative; expression.outside: drop would drop these spots",
    ),
    "too many outside to drop": (
        both(config("expression.outside", "drop"), spatial(lambda xy: xy * 1.5)),
        f"{SPATIAL} 6 of 12 spots off the slide, first '000x003' at (1125, 225), expected x below 1000 and y below "
        "800, none negative; expression.outside: drop drops at most 10% of the spots: check the scale",
    ),
    "negative": (spatial(lambda xy: xy - 151), f"{SPATIAL} 6 of 12 spots off the slide, first '000x000' at (-1, -1)"),
    "another unit": (spatial(lambda xy: xy * 1e4), f"{SPATIAL} 12 of 12 spots off the slide"),
    "all equal": (
        spatial(lambda xy: xy * 0 + 7),
        f"{SPATIAL} all 12 spots at (7, 7), expected different coordinates for different spots",
    ),
    "of other spots": (
        spatial(lambda xy: xy[::-1]),
        f"{PATCH}: coords: found 12 of 12 patches off their spots, first 000x000 by 600 px",
    ),
}

SLIDES = {
    "zero bytes": (from_slide(content(SLIDE_FILE, "")), f"{SLIDE}: slide: found an empty file"),
    "a photograph": (from_slide(photograph), f"{SLIDE}: slide: found a JPEG picture, expected a slide: vips tiffsave "),
    "text": (from_slide(content(SLIDE_FILE, "no slide")), f"{SLIDE}: slide: found a format OpenSlide does not know"),
    "truncated": (from_slide(cut(SLIDE_FILE, 0.5)), f"{SLIDE}: slide: found "),
    "no tiles": (
        rewrite_slide([LEVEL], tile=None),
        f"{SLIDE}: slide: found a TIFF in strips, without tiles, expected tiles: vips tiffsave ",
    ),
    "no pixel size": (
        both(rewrite_slide([LEVEL], um_per_px=None), metadata("pixel_size_um_estimated")),
        f"{SLIDE}: pixel size: found none, nor in the metadata, expected pixel_size_um_estimated in the metadata",
    ),
    "implausible pixel size": (
        both(rewrite_slide([LEVEL], um_per_px=264.6), metadata("pixel_size_um_estimated")),
        f"{SLIDE}: openslide.mpp: found 264.6 um/px, expected between 0.06 and 10.0 um/px",
    ),
    "pixels that are not square": (
        both(rewrite_slide([LEVEL], um_per_px=(0.5, 0.25)), metadata("pixel_size_um_estimated")),
        f"{SLIDE}: openslide.mpp: found 0.5",
    ),
    "of another size": (
        rewrite_slide([LEVEL[:700]]),
        f"{SLIDE}: size: found 1000 x 700 px, expected 1000 x 800 px, as stated in {META}",
    ),
    "huge, says its header": (from_slide(lambda: claim(10**6, 10**6)), f"{SLIDE}: "),
    "huge, says all": (
        both(from_slide(lambda: claim(10**6, 10**6)), metadata(fullres_px_width=10**6, fullres_px_height=10**6)),
        f"{SLIDE}: slide: found ",
    ),
    "no slide": (
        from_slide(lambda: SLIDE_FILE.unlink()),
        "data: files of S1: found no slide wsis/S1.tif and no patches/S1.h5",
    ),
}

PATCHES = {
    "unknown barcode": (
        patches(lambda images, corners, labels: (images, corners, [*labels[:-1], "999x999"])),
        f"{PATCH}: barcode: found 1 barcodes of no spot, e.g. '999x999' (of 12 patches), expected barcodes of the coun",
    ),
    "another style of barcodes": (
        patches(lambda images, corners, labels: (images, corners, [f"{label}-1" for label in labels])),
        f"{PATCH}: barcode: found 12 barcodes of no spot, e.g. '000x000-1' (of 12 patches), expected",
    ),
    "duplicate barcode": (
        patches(lambda images, corners, labels: (images, corners, [*labels[:-1], labels[0]])),
        f"{PATCH}: barcode: found 000x000 2 times",
    ),
    "256 pixels": (
        patches(lambda images, corners, labels: (np.zeros((12, 256, 256, 3), np.uint8), corners, labels)),
        f"{PATCH}: img: found 256 x 256 px, as in older files of HEST, expected 224 px; cut patches from the slide",
    ),
    "float images": (
        patches(lambda images, corners, labels: (images.astype("f4") / 255, corners, labels)),
        f"{PATCH}: img: found float32 (12, 224, 224, 3), expected uint8 (N, height, width, 3)",
    ),
    "grey images": (
        patches(lambda images, corners, labels: (images[..., 0], corners, labels)),
        f"{PATCH}: img: found uint8 (12, 224, 224)",
    ),
    "RGBA images": (
        patches(lambda images, corners, labels: (images[..., [0, 1, 2, 0]], corners, labels)),
        f"{PATCH}: img: found uint8 (12, 224, 224, 4)",
    ),
    "no images": (replace("img", None), f"{PATCH}: img: found coordinates without images, as TRIDENT and CLAM write"),
    "no barcodes": (
        replace("barcode", None),
        f"{PATCH}: barcode: found no such dataset among coords, img, expected one",
    ),
    "numbers for barcodes": (
        replace("barcode", np.arange(12)),
        f"{PATCH}: barcode: found dtype int64",
    ),
    "corners without numbers": (
        replace("coords", CENTRES - [np.nan, 112]),
        f"{PATCH}: coords: found values that are not finite",
    ),
    "corners that are centres": (replace("coords", CENTRES), f"{PATCH}: coords: found the spots' own centres"),
    "corners as (y, x)": (replace("coords", CENTRES[:, ::-1] - 112), f"{PATCH}: coords: found corners as (y, x)"),
    "of another objective": (
        hdf5(PATCHES_FILE, lambda file: file["img"].attrs.update(pixel_size=0.25)),
        f"{PATCH}: pixel_size: found 0.25 um/px, expected 0.5 um/px, as in the metadata",
    ),
    "around other spots": (
        patches(lambda images, corners, labels: (images[::-1], corners[::-1], labels)),
        f"{PATCH}: coords: found 12 of 12 patches off their spots, first 000x000 by 600 px",
    ),
    "killed writer, fewer images than barcodes": (
        patches(lambda images, corners, labels: (images[:7], corners, labels)),
        f"{PATCH}: img: found 7 patches, expected 12, one for each barcode",
    ),
    "killed writer, room without images": (
        hdf5(PATCHES_FILE, unwritten),
        f"{PATCH}: img: found 5 of 12 chunks, the others were never written, expected a file whose writer was not cut",
    ),
    "killed writer, truncated": (cut(PATCHES_FILE, 0.9), f"{PATCH}: file: found a truncated file ("),
    "none": (
        patches(lambda images, corners, labels: (images[:0], corners[:0], labels[:0])),
        f"{PATCH}: barcode: found shape (0, 1), expected (N,) or (N, 1) with N > 0",
    ),
    "zero bytes": (
        content(PATCHES_FILE, ""),
        f"{PATCH}: file: found an empty file (0 bytes), not HDF5, expected an HDF5",
    ),
    "a folder in place of the images": (
        hdf5(PATCHES_FILE, lambda file: (file.pop("img"), file.create_group("img"))),
        f"{PATCH}: img: found coordinates without images",
    ),
}

METADATA = {
    "no JSON": (content(METADATA_FILE, "id: S1"), f"{META}: line 1: found Expecting value"),
    "half of it": (cut(METADATA_FILE, 0.5), f"{META}: line 1: found "),
    "zero bytes": (
        content(METADATA_FILE, ""),
        f"{META}: metadata: found an empty file, expected the sample's metadata",
    ),
    "a Git LFS pointer": (
        content(METADATA_FILE, "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"),
        f"{META}: metadata: found a Git LFS pointer, expected the sample's metadata as JSON; fetch its content",
    ),
    "a list": (content(METADATA_FILE, '["S1"]'), f"{META}: top level: found list, expected a JSON object with HEST's"),
    "a key twice": (
        content(METADATA_FILE, '{"id": "S1", "fullres_px_width": 1000, "fullres_px_width": 90}'),
        f"{META}: fullres_px_width: found a repeated key",
    ),
    "brackets without end": (
        content(METADATA_FILE, "[" * 10**5),
        f"{META}: top level: found brackets nested too deeply",
    ),
    "no UTF-8": (content(METADATA_FILE, b'{"id": "\xff"}'), f"{META}: byte 8: found a byte that is not UTF-8"),
    "of another sample": (metadata(id="S2"), f"{META}: id: found 'S2', expected 'S1', as the file is named"),
    "no id": (metadata("id"), f"{META}: id: found None, expected 'S1'"),
    "no width": (metadata("fullres_px_width"), f"{META}: fullres_px_width: found None, expected the slide's size in w"),
    "text for a height": (metadata(fullres_px_height="800"), f"{META}: fullres_px_height: found '800'"),
    "NaN for a height": (metadata(fullres_px_height=np.nan), f"{META}: fullres_px_height: found nan"),
    "infinite width": (metadata(fullres_px_width=np.inf), f"{META}: fullres_px_width: found inf"),
    "negative width": (metadata(fullres_px_width=-1000), f"{META}: fullres_px_width: found -1000"),
    "true for a width": (metadata(fullres_px_width=True), f"{META}: fullres_px_width: found True"),
    "no pixel size": (
        metadata("pixel_size_um_estimated"),
        f"{META}: pixel_size_um_estimated: found none, expected micrometres per pixel of the slide's level 0",
    ),
    "text for a pixel size": (
        metadata(pixel_size_um_estimated="20x"),
        f"{META}: pixel_size_um_estimated: found '20x', expected micrometres per pixel of the slide's level 0, as a",
    ),
    "true for a pixel size": (
        metadata(pixel_size_um_estimated=True),
        f"{META}: pixel_size_um_estimated: found True",
    ),
    "list for a pixel size": (metadata(pixel_size_um_estimated=[0.5]), f"{META}: pixel_size_um_estimated: found [0.5]"),
    "pixel size of the other objective": (
        metadata(pixel_size_um_estimated=0.25, pixel_size_um_embedded=0.25),
        f"{SPATIAL} spots 50 um apart (200 px at 0.25 um/px), expected 100 um (inter_spot_dist in",
    ),
    "pixel size zero": (metadata(pixel_size_um_estimated=0), f"{META}: pixel_size_um_estimated: found 0, expected"),
    "pixels of a print": (
        metadata(pixel_size_um_estimated=264.6),
        f"{META}: pixel_size_um_estimated: found 264.6 um/px",
    ),
    "number for a species": (metadata(species=9606), f"{META}: species: found 9606, expected text, or null"),
    "no file": (lambda: METADATA_FILE.unlink(), "data: files of S1: found no metadata/S1.json"),
}

SHEETS = {
    "no file": (lambda: Path("samples.tsv").unlink(), "samples.tsv: samples: found no such file"),
    "zero bytes": (content("samples.tsv", ""), "samples.tsv: rows: found none, expected one row per slide under a hea"),
    "no rows": (content("samples.tsv", SHEET.split("S1")[0]), "samples.tsv: rows: found none"),
    "commas": (
        content("samples.tsv", SHEET.replace("\t", ",")),
        "samples.tsv: header: found columns separated by ','",
    ),
    "no patient column": (
        content("samples.tsv", "sample\tcohort\nS1\tc\nS2\tc\n"),
        "samples.tsv: row 1 (S1): patient: found nothing",
    ),
    "empty patient": (two_sheets("S1\tc\t"), "samples.tsv: row 1 (S1): patient: found nothing"),
    "missing cell": (two_sheets("S1\tc"), "samples.tsv: row 1: found a different number of fields"),
    "id twice": (two_sheets("S2\tc\tp"), "samples.tsv: sample: found S2 twice"),
    "column twice": (
        content("samples.tsv", "sample\tcohort\tpatient\tpatient\nS1\tc\tp\tq\nS2\tc\tq\tp\n"),
        "samples.tsv: header: found column 'patient' twice",
    ),
    "unknown column": (
        content("samples.tsv", "sample\tcohort\tpatient\tpatiant\nS1\tc\tp\tq\nS2\tc\tq\tp\n"),
        "samples.tsv: row 1 (S1): patiant: found an unknown key, expected one of cohort, note, patient, sample, techno",
    ),
    "open quote": (
        two_sheets('S1\tc\t"p'),
        "samples.tsv: line 2: found unexpected end of data",
    ),
    "Latin-1": (
        content("samples.tsv", SHEET.replace("p\n", "M\xfcller\n").encode("latin-1")),
        "samples.tsv: byte 28: found no UTF-8",
    ),
    "UTF-16": (content("samples.tsv", SHEET.encode("utf-16")), "samples.tsv: samples: found UTF-16 text"),
    "a workbook": (
        content("samples.tsv", b"PK\x03\x04\x14\x00\x08\x08\xff"),
        "samples.tsv: samples: found an Excel or",
    ),
    "one sample": (
        content("samples.tsv", SHEET.replace("S2\tc\tq\n", "")),
        "samples.tsv: cohort c: found one sample, expected at least two: one to test on, one to train on",
    ),
    **{
        f"id {name}": (
            two_sheets(f"{bad}\tc\tp"),
            f"samples.tsv: row 1 ({bad}): sample: found {bad!r}",
        )
        for name, bad in {
            "that climbs": "../x",
            "with a slash": "a/b",
            "absolute": "/etc/passwd",
            "with a backslash": "a\\b",
            "with a blank": "a b",
            "of dots": "..",
            "with two dots": "a..b",
            "with a dot at its end": "a.",
            "that is hidden": ".a",
            "in another script": "S\u00e4",
            "that is a command": "$(touch x)",
            "with a semicolon": "a;b",
            "that is a wildcard": "{sample}",
            "that is an option": "-rf",
        }.items()
    },
    "cohort that climbs": (
        two_sheets("S1\t../c\tp"),
        "samples.tsv: row 1 (S1): cohort: found '../c'",
    ),
    "markup for a patient": (two_sheets("S1\tc\t<script>"), "samples.tsv: row 1 (S1): patient: found '<script>'"),
}

YAML = yaml.safe_dump
CONFIGS = {
    "no file": (
        lambda: Path("config.yaml").unlink(),
        "config.yaml: configuration: found no such file",
    ),
    "zero bytes": (content("config.yaml", ""), "config.yaml: top level: found nothing"),
    "a list": (content("config.yaml", "- run: r\n"), "config.yaml: top level: found list"),
    "no YAML": (
        content("config.yaml", "run: [r\n"),
        "config.yaml: line 2: found expected ',' or ']', but got '<stream",
    ),
    "tabs": (
        content("config.yaml", "run: r\ndata:\n\troot: data\n"),
        "config.yaml: line 3: found character '\\t' that cannot start",
    ),
    "an object of Python": (
        content("config.yaml", "run: !!python/object/apply:os.system [touch x]\n"),
        "config.yaml: line 1: found could not determine a constructor for the tag 'tag:yaml.org,2002:python/object/app",
    ),
    "a name of Python": (
        content("config.yaml", "run: !!python/name:os.system\n"),
        "config.yaml: line 1: found could not determine a constructor",
    ),
    "a template": (
        lambda: Path("config.yaml").write_text("__use_yte__: true\n" + Path("config.yaml").read_text()),
        "config.yaml: __use_yte__: found a program, expected a configuration that runs no Python of its own",
    ),
    "a key twice": (
        lambda: Path("config.yaml").write_text(Path("config.yaml").read_text() + "run: s\n"),
        "config.yaml: line 20: found the key 'run' twice, expected plain YAML, each key once",
    ),
    "unknown key": (
        config("trainnig", {}),
        "config.yaml: trainnig: found an unknown key, expected one of cohorts, con",
    ),
    "unknown option": (
        config("methods.CMRCNet.options", {"depth": 3}),
        "config.yaml: methods.CMRCNet.options.depth: found an unknown key, expected one of ",
    ),
    "text for a number": (
        config("training.epochs", "60"),
        "config.yaml: training.epochs: found '60'",
    ),
    "number for a text": (config("run", 5), "config.yaml: run: found 5"),
    "out of range": (
        config("validation_fraction", 1.5),
        "config.yaml: validation_fraction: found 1.5",
    ),
    "NaN": (config("training.learning_rate", float("nan")), "config.yaml: training.learning_rate: found nan"),
    "infinite": (config("expression.target_sum", float("inf")), "config.yaml: expression.target_sum: found inf"),
    "NaN for an option": (
        config("methods.CMRCNet.options", {"temperature": float("nan")}),
        "config.yaml: methods.CMRCNet.options.temperature: found nan, expected a number above 0",
    ),
    "seed beyond 32 bits": (
        config("seeds", [2**70]),
        "config.yaml: seeds.0: found 1180591620717411303424",
    ),
    "run that climbs": (config("run", "../x"), "config.yaml: run: found '../x', expected a name of letters, digits"),
    "run with a line end": (config("run", "r\n"), "config.yaml: run: found 'r\\n', expected a name of letters, digits"),
    "root that is a wildcard": (
        config("data.root", "{sample}"),
        "config.yaml: data.root: found '{sample}'",
    ),
    "empty root": (config("data.root", ""), "config.yaml: data.root: found '', expected a path without braces"),
    "encoder that climbs": (
        config("encoders", {"../x": {"timm": "resnet18"}}),
        "config.yaml: encoders: found '../x'",
    ),
    "method that climbs": (
        config("methods", {"../x": {}}),
        "config.yaml: methods: found '../x'",
    ),
    "no method": (config("methods", {}), "config.yaml: methods: found nothing"),
    "no cohorts": (config("cohorts", None), "config.yaml: cohorts: found nothing, expected cohorts to run"),
    "two patients needed": (
        both(config("protocols", ["patient"]), two_sheets("S1\tc\tq")),
        "config.yaml: cohorts.c.protocols: found the patient protocol with one patient (q), expected at least two pat",
    ),
    "no validation spot": (config("validation_fraction", 0.01), "c/paper/fold0: spots: found no val spot"),
    "min_counts that no spot has": (
        config("expression.min_counts", 10**6),
        f"{ST}: X: found at most ",
    ),
    "no such checkpoint": (
        config("encoders", {"mine": {"timm": "resnet18", "checkpoint": "nowhere.pth"}}),
        "config.yaml: encoders.mine.checkpoint: found no file nowhere.pth, expected a file with an encoder's weights",
    ),
    "no folder of data": (
        config("data.root", "nowhere"),
        "nowhere: files of S1: found no st/S1.h5ad",
    ),
}

LABELS = {
    "cohort of no sample": (
        config("cohorts", {"d": {}}),
        "config.yaml: cohorts.d: found no sample of it in samples.tsv",
    ),
    "marker twice": (
        config("cohorts.c.markers", ["A", "A"]),
        "config.yaml: cohorts.c.markers: found ['A', 'A']",
    ),
    "empty marker": (
        config("cohorts.c.markers", [""]),
        "config.yaml: cohorts.c.markers.0: found ''",
    ),
    "blank at a marker": (
        config("cohorts.c.markers", ["A "]),
        "config.yaml: cohorts.c.markers.0: found 'A '",
    ),
    "marker that YAML reads as false": (
        config("cohorts.c.markers", yaml.safe_load("[NO]")),
        "config.yaml: cohorts.c.markers.0: found False, expected a gene symbol without blanks",
    ),
    "markup for a marker": (
        config("cohorts.c.markers", ["<b>"]),
        "config.yaml: cohorts.c.markers: found '<b>'",
    ),
    "one marker for a list": (
        config("cohorts.c.markers", "EPCAM"),
        "config.yaml: cohorts.c.markers: found 'EPCAM'",
    ),
    "gene that is a number": (config("cohorts.c.genes", [5]), "config.yaml: cohorts.c.genes.0: found 5"),
}

GROUPS = {
    "counts": COUNTS,
    "coordinates": COORDINATES,
    "slide": SLIDES,
    "patches": PATCHES,
    "metadata": METADATA,
    "sheet": SHEETS,
    "configuration": CONFIGS,
    "labels": LABELS,
}
REFUSED = [
    pytest.param(spoil, line, id=f"{group}: {name}")
    for group, cases in GROUPS.items()
    for name, (spoil, line) in cases.items()
]


@pytest.mark.parametrize(("spoil", "line"), REFUSED)
def test_bad_input_ends_in_one_line_and_nothing_is_written(here, spoil, line):
    spoil()
    outcome = spotwise()
    line_shown = outcome.line.removeprefix("Error: ")
    assert line_shown.startswith(line)
    assert ", expected " in line_shown
    assert "\n" not in line_shown
    assert outcome.code == 1
    assert outcome.written == []


# --- accepted ---------------------------------------------------------------------------------------------------------


def sparse_as(form):
    def edit(adata):
        adata.X = form(adata.X)

    return counts(edit)


def one_more(name):
    """Add a feature with 900 counts in every spot."""

    def edit(adata):
        feature = anndata.AnnData(np.full((12, 1), 900.0), adata.obs, pd.DataFrame(index=[name]))
        return anndata.concat([adata, feature], axis=1, merge="first")

    return counts(edit)


def with_explicit_zeros(x):
    stored = sparse.csr_matrix(np.ones_like(x))
    stored.data = x.ravel()
    return stored


SAME = {
    "CSR": sparse_as(sparse.csr_matrix),
    "CSC": sparse_as(sparse.csc_matrix),
    "CSR with stored zeros": sparse_as(with_explicit_zeros),
    "uint16": matrix(lambda x: x.astype(np.uint16)),
    "int64": matrix(lambda x: x.astype(np.int64)),
    "float64": matrix(lambda x: x.astype(np.float64)),
    "float coordinates": spatial(lambda xy: xy),
    "names with blanks around": names([f" {gene}" for gene in GENES]),
    "a control feature more": one_more("BLANK_0001"),
    "an antibody of a gene's name": counts(antibody),
    "names with the genome before them": names([f"GRCh38_{gene}" for gene in GENES]),
    "barcodes with blanks behind them": names([f"{barcode} " for barcode in BARCODES], "obs"),
    "in_tissue as text": counts(lambda adata: adata.obs.__setitem__("in_tissue", "1")),
    "layers, raw and pictures of any form": counts(
        lambda adata: (
            adata.layers.update(log=np.log1p(adata.X)),
            setattr(adata, "raw", adata),
            adata.uns.update(spatial={"a": {"images": None}}),
        )[3:]
    ),
    "a feature without a name more": one_more(""),
    "patches without corners": replace("coords", None),
    "corners of fractions": replace("coords", CENTRES - 112.4),
    "barcodes with blanks around": replace("barcode", np.array([f" {barcode} " for barcode in BARCODES], dtype="S")),
    "barcodes of fixed length in one dimension": replace("barcode", np.array(BARCODES, dtype="S")),
    "metadata with a byte order mark": lambda: METADATA_FILE.write_bytes(b"\xef\xbb\xbf" + METADATA_FILE.read_bytes()),
    "unknown species": metadata("species"),
    "pixel size from the slide alone": from_slide(metadata("pixel_size_um_estimated")),
    "sheet with a byte order mark": content("samples.tsv", "\ufeff" + SHEET),
    "sheet of Windows": content("samples.tsv", SHEET.replace("\n", "\r\n")),
    "sheet with empty lines and comments": content("samples.tsv", "# mine\n" + SHEET.replace("\n", "\n\n\t\t\n")),
    "sheet with blanks around cells": content("samples.tsv", SHEET.replace("\t", " \t ")),
    "slide of one level": rewrite_slide([LEVEL]),
    "slide with an alpha channel": rewrite_slide(
        [np.dstack([LEVEL, np.full((HEIGHT, WIDTH), 255, np.uint8)])], extrasamples=["unassalpha"]
    ),
    "K larger than the bank": config("methods.CMRCNet.neighbours", [10**6]),
}


@pytest.mark.parametrize("change", SAME.values(), ids=SAME)
def test_other_forms_of_the_same_input_give_the_same_fold(here, good, change):
    change()
    outcome = spotwise()
    assert outcome.line == ""
    assert outcome.fold == good[1]


REPORTED = {
    "a spot without counts": (
        matrix(lambda x: x * (np.arange(12) != 4)[:, None]),
        {"n_spots_dropped": 1, "dropped_spots": [{"barcode": "001x000", "total_counts": 0}]},
        "",
    ),
    "many spots without counts": (
        matrix(lambda x: x * (np.arange(12) > 4)[:, None]),
        {"n_spots_dropped": 5},
        "5 of 12 spots have fewer than 1 counts",
    ),
    "a gene twice": (
        names([*GENES[:-1], "EPCAM"]),
        {"n_features_merged": 1, "genes_merged": ["EPCAM"], "n_genes_kept": len(GENES) - 1},
        "",
    ),
    "features without names": (names(["", "nan", *GENES[2:]]), {"n_unnamed_dropped": 2}, ""),
    "control features with most counts": (
        names(["BLANK_0001", "antisense_X", *GENES[2:-1], "NegControlProbe_1"]),
        {"n_controls_dropped": 3},
        "control features hold ",
    ),
    "a spot outside, to be dropped": (
        both(config("expression.outside", "drop"), spatial(lambda xy: np.where(np.arange(12)[:, None] == 4, 5000, xy))),
        {"n_spots_off_slide": 1, "n_spots_dropped": 1, "n_spots_kept": 11},
        "1 of 12 spots lie off the slide and were dropped",
    ),
    "pixel size a quarter off": (
        metadata(pixel_size_um_estimated=0.375),
        {"um_per_px": 0.375, "pitch_um": 75.0, "expected_pitch_um": [100.0]},
        "spots 75 um apart (200 px at 0.375 um/px), not 100 um (inter_spot_dist in the metadata)",
    ),
    "pixel sizes that disagree": (
        metadata(pixel_size_um_embedded=0.25),
        {"um_per_px": 0.5},
        "pixel_size_um_embedded 0.2500 differs by 50.0% from pixel_size_um_estimated 0.5000, which is used",
    ),
    "fewer patches than spots": (
        patches(lambda *parts: [part[:7] for part in parts]),
        {"n_spots_without_patch": 5, "warnings": ["5 of 12 spots have no patch and are left out"]},
        "5 of 12 spots have no patch and are left out",
    ),
    "patches a little off": (
        patches(lambda images, corners, labels: (images, corners + 9, labels)),
        {"warnings": ["patches lie 9 px from their spots in the median"]},
        "patches lie 9 px from their spots in the median",
    ),
    "more variable genes than genes": (
        config("expression.hvg_per_slide", 1000),
        {},
        "hvg_per_slide is 1000, the slides have 18 genes in common: all are taken",
    ),
    "a marker that no slide measures": (config("cohorts.c.markers", ["RND"]), {}, ""),
}


@pytest.mark.parametrize(("change", "qc", "warning"), REPORTED.values(), ids=REPORTED)
def test_what_is_left_out_or_looks_odd_is_reported(here, caplog, change, qc, warning):
    change()
    outcome = spotwise()
    assert outcome.line == ""
    assert qc.items() <= outcome.qc["S1"].items()
    assert warning in caplog.text


def test_a_marker_that_a_slide_does_not_measure_is_listed_with_the_slide(here):
    both(config("cohorts.c.markers", ["RND", "KRT19", "CD3E"]), names(["EPCAM", "KRT18", *GENES[2:]]))()
    assert spotwise().line == ""
    assert Path("results/r/folds/markers.tsv").read_text().splitlines() == [
        "marker\tstatus",
        "RND\tnot measured in S2, S1",
        "KRT19\tnot measured in S1",
        "CD3E\tin panel",
    ]


def test_all_patches_are_those_of_the_slide_whatever_its_form(here):
    """Without a pyramid, and with an alpha channel, the slide shows the same."""
    pixels = []
    for form in (LEVEL, np.dstack([LEVEL, np.full((HEIGHT, WIDTH), 255, np.uint8)])):
        PATCHES_FILE.unlink(missing_ok=True)
        extra = {"extrasamples": ["unassalpha"]} if form.shape[2] == 4 else {}
        write_slide(SLIDE_FILE, [form], **extra)
        assert spotwise().line == ""
        with h5py.File("results/r/samples/S1/patches.h5") as file:
            pixels.append(file["img"][:])
    expected = [LEVEL[y - 112 : y + 112, x - 112 : x + 112] for x, y in CENTRES]
    np.testing.assert_array_equal(pixels[0], expected)
    np.testing.assert_array_equal(pixels[1], expected)


def test_the_catalogue_has_at_least_sixty_faults():
    assert len(REFUSED) > 60
