"""Claims about bad input in the pipeline: exit status, the line that the user sees, no partial files."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pipeline import REPOSITORY

import goodsample
from goodsample import METADATA_FILE, PATCHES_FILE, SHEET, SLIDE_FILE

pytestmark = pytest.mark.workflow

PREPARED = "results/r/samples/S1/qc.json"
CUT = "results/r/samples/S1/patches.h5"
FOLD = "results/r/folds/c/paper/fold0/fold.h5"
EMBEDDED = "results/r/embeddings/mine/S1.h5"
OUTSIDE = goodsample.CENTRES.astype(float)
OUTSIDE[4] = 5000


def off_the_slide(adata):
    adata.obsm["spatial"] = OUTSIDE


QUICK = {
    "an id that climbs out": (
        goodsample.content("samples.tsv", SHEET.replace("S1", "../x")),
        FOLD,
        "Error: samples.tsv: row 1 (../x): sample: found '../x', expected a name of letters, digits, '-' and '_', with "
        "single dots inside",
    ),
    "a key twice": (
        lambda: Path("config.yaml").write_text(Path("config.yaml").read_text() + "run: s\n"),
        FOLD,
        "Error: config.yaml: line 20: found the key 'run' twice, expected plain YAML, each key once",
    ),
    "a spot off the slide": (
        goodsample.counts(off_the_slide),
        PREPARED,
        "Error: data/st/S1.h5ad: obsm[\"spatial\"]: found 1 of 12 spots off the slide, first '001x000' at "
        "(5000, 5000), expected x below 1000 and y below 800, none negative; expression.outside: drop would drop these "
        "spots",
    ),
}
SLOW = {
    "a negative count": (
        goodsample.matrix(lambda x: goodsample.spoilt(x, -1)),
        PREPARED,
        "Error: data/st/S1.h5ad: X: found -1.0 at spot '000x003', gene 'GENE1' (1 such values), expected raw counts: "
        "whole numbers, none negative",
    ),
    "a truncated slide": (
        goodsample.from_slide(goodsample.cut(SLIDE_FILE, 0.9)),
        CUT,
        "Error: data/wsis/S1.tif: slide: found unreadable data (",
    ),
    "metadata with NaN": (
        goodsample.metadata(fullres_px_width=np.nan),
        PREPARED,
        f"Error: {METADATA_FILE}: fullres_px_width: found nan, expected the slide's size in pixels",
    ),
    "truncated patches": (
        goodsample.cut(PATCHES_FILE, 0.9),
        FOLD,
        f"Error: {PATCHES_FILE}: file: found a truncated file (",
    ),
    "truncated patches to embed": (
        goodsample.both(
            goodsample.config("encoders", {"mine": {"timm": "resnet18", "pretrained": "no"}}),
            goodsample.cut(PATCHES_FILE, 0.9),
        ),
        EMBEDDED,
        f"Error: {PATCHES_FILE}: file: found a truncated file (",
    ),
    "patches of other spots": (
        goodsample.patches(lambda images, corners, labels: (images, corners, [*labels[:-1], "999x999"])),
        FOLD,
        f"Error: {PATCHES_FILE}: barcode: found 1 barcodes of no spot, e.g. '999x999' (of 12 patches), expected",
    ),
    "another species": (
        goodsample.metadata(species="Mus musculus"),
        FOLD,
        "Error: metadata of S1: species: found 'Mus musculus', expected 'Homo sapiens', as of S2",
    ),
    "an unknown key": (
        goodsample.config("trainig", {}),
        FOLD,
        "Error: config.yaml: trainig: found an unknown key, expected one of",
    ),
    "an empty configuration": (
        goodsample.content("config.yaml", ""),
        FOLD,
        "Error: config.yaml: top level: found nothing, expected keys with values",
    ),
    "an object of Python": (
        goodsample.content("config.yaml", "run: !!python/object/apply:os.system [touch x]\n"),
        FOLD,
        "Error: config.yaml: line 1: found could not determine a constructor for the tag",
    ),
}


@pytest.mark.parametrize(
    ("spoil", "target", "line"),
    [
        *(pytest.param(*case, id=name) for name, case in QUICK.items()),
        *(pytest.param(*case, id=name, marks=pytest.mark.long) for name, case in SLOW.items()),
    ],
)
def test_the_pipeline_stops_with_the_line_and_leaves_no_partial_files(tmp_path, monkeypatch, spoil, target, line):
    goodsample.write_good(tmp_path)
    monkeypatch.chdir(tmp_path)
    spoil()
    command = [sys.executable, "-m", "snakemake", "--cores", "1", target, "--snakefile", str(REPOSITORY / "Snakefile")]
    command += ["--configfile", "config.yaml"]
    done = subprocess.run(
        command, env=os.environ, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    assert done.returncode == 1
    lines = [text.strip() for text in done.stdout.splitlines()]
    assert any(text.startswith(line) for text in lines), done.stdout
    assert "Traceback" not in done.stdout
    assert [path for path in Path(target).parent.glob("*") if path.is_file()] == []
    assert not [path for path in Path().rglob(".*.tmp*") if ".snakemake" not in path.parts]
    assert "x" not in os.listdir()
