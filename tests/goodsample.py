"""One good sample in HEST's layout, and spotwise up to a fold of it, job by job, without starting Snakemake.

``spoil_*`` change one thing in one file. The jobs are the pipeline's own scripts, run in this process.
"""

import hashlib
import io
import json
import logging
import os
import runpy
import shutil
from contextlib import redirect_stderr
from dataclasses import dataclass, field
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
import tifffile
import yaml
from scipy import sparse

from spotwise.config import prepare, read_config
from spotwise.constants import PAPER
from spotwise.data import hest
from spotwise.data.sample_sheet import plan_folds
from spotwise.errors import InputError, SetupError

REPOSITORY = Path(__file__).parents[1]
SAMPLES = ("S1", "S2")
WIDTH, HEIGHT = 1000, 800
COLUMNS, ROWS, PITCH_PX = 4, 3, 200
N_SPOTS = COLUMNS * ROWS
UM_PER_PX = 0.5
PATCH_PX = 224
GENES = ["EPCAM", "KRT19", "CD3E", "COL1A1", *(f"GENE{number}" for number in range(14))]
BARCODES = [f"{row:03d}x{column:03d}" for row in range(ROWS) for column in range(COLUMNS)]
CENTRES = np.array([[150 + PITCH_PX * x, 150 + PITCH_PX * y] for y in range(ROWS) for x in range(COLUMNS)])
SHEET = "sample\tcohort\tpatient\nS1\tc\tp\nS2\tc\tq\n"
CONFIG = {
    "run": "r",
    "samples": "samples.tsv",
    "data": {"source": "local", "root": "data"},
    "cohorts": {"c": {"markers": ["EPCAM"]}},
    "protocols": ["paper"],
    "expression": {"hvg_per_slide": 10},
    "training": {"device": "cpu"},
    "methods": {"CMRCNet": {"neighbours": [5]}},
}

COUNTS_FILE, METADATA_FILE = Path("data/st/S1.h5ad"), Path("data/metadata/S1.json")
PATCHES_FILE, SLIDE_FILE = Path("data/patches/S1.h5"), Path("data/wsis/S1.tif")


# --- what is good -----------------------------------------------------------------------------------------------------


def write_good(folder):
    """Write a configuration, a sheet, and two samples with counts, metadata, patches and slide."""
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG, sort_keys=False))
    (folder / "samples.tsv").write_text(SHEET)
    for number, sample in enumerate(SAMPLES):
        files = hest.sample_files(folder / "data", sample)
        for path in (files.counts, files.metadata, files.patches, files.slide):
            path.parent.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(number)
        level = picture(rng)
        good_counts(rng).write_h5ad(files.counts)
        files.metadata.write_text(json.dumps(good_metadata(sample)))
        write_slide(files.slide, [level, level[::2, ::2]])
        corners = CENTRES - PATCH_PX // 2
        images = np.stack([level[y : y + PATCH_PX, x : x + PATCH_PX] for x, y in corners])
        write_patches(files.patches, images, corners, BARCODES)


def good_counts(rng):
    counts = rng.poisson(np.linspace(1, 40, len(GENES)), (N_SPOTS, len(GENES))).astype(np.float32)
    obs = pd.DataFrame({"in_tissue": 1}, index=BARCODES)
    return anndata.AnnData(counts, obs, pd.DataFrame(index=GENES), obsm={"spatial": CENTRES.astype(np.int64)})


def good_metadata(sample):
    return {
        "id": sample,
        "species": "Homo sapiens",
        "patient": None,
        "inter_spot_dist": PITCH_PX * UM_PER_PX,
        "spot_diameter": 55.0,
        "pixel_size_um_estimated": UM_PER_PX,
        "pixel_size_um_embedded": UM_PER_PX,
        "fullres_px_width": WIDTH,
        "fullres_px_height": HEIGHT,
    }


def picture(rng):
    blocks = rng.integers(60, 250, (HEIGHT // 40, WIDTH // 40, 3), dtype=np.uint8)
    return blocks.repeat(40, axis=0).repeat(40, axis=1)


def write_slide(path, levels, um_per_px=UM_PER_PX, **options):
    resolution = (1e4 / um_per_px,) * 2 if np.isscalar(um_per_px) else tuple(1e4 / edge for edge in um_per_px or ())
    options = {"photometric": "rgb", "tile": (256, 256), "compression": "adobe_deflate", "metadata": None} | options
    if resolution:
        options |= {"resolution": resolution, "resolutionunit": "CENTIMETER"}
    with tifffile.TiffWriter(path) as tiff:
        for index, level in enumerate(levels):
            tiff.write(level, subfiletype=int(index > 0), **options)


def write_patches(path, images, corners, barcodes):
    """As HEST's writer leaves a patch file."""
    with h5py.File(path, "w") as file:
        file.create_dataset("img", data=images, chunks=(1, *images.shape[1:]), maxshape=(None, *images.shape[1:]))
        file.create_dataset("coords", data=corners, chunks=(1, 2), maxshape=(None, 2))
        labels = np.array(barcodes, dtype=object)[:, None]
        file.create_dataset("barcode", data=labels, dtype=h5py.string_dtype(), chunks=(1, 1), maxshape=(None, 1))
        for name in ("img", "coords"):
            file[name].attrs.update(patch_size_src=PATCH_PX, patch_size_target=PATCH_PX, pixel_size=UM_PER_PX)


# --- what spoils it ---------------------------------------------------------------------------------------------------


def counts(edit):
    """Read the counts, let ``edit`` change them or return others, write them."""

    def spoil():
        adata = anndata.read_h5ad(COUNTS_FILE)
        changed = edit(adata)
        (changed if isinstance(changed, anndata.AnnData) else adata).write_h5ad(COUNTS_FILE)

    return spoil


def matrix(change):
    """Give X, dense, to ``change``; what it returns is the new X."""

    def edit(adata):
        adata.X = change(adata.X)

    return counts(edit)


def hdf5(path, edit):
    def spoil():
        with h5py.File(path, "r+") as file:
            edit(file)

    return spoil


def patches(change):
    """Write the patch file anew from what ``change`` makes of its images, corners and barcodes."""

    def spoil():
        with h5py.File(PATCHES_FILE) as file:
            parts = [file["img"][:], file["coords"][:], [label.decode() for label in file["barcode"][:, 0]]]
        write_patches(PATCHES_FILE, *change(*parts))

    return spoil


def metadata(*without, **changes):
    def spoil():
        content = json.loads(METADATA_FILE.read_text()) | changes
        METADATA_FILE.write_text(json.dumps({key: value for key, value in content.items() if key not in without}))

    return spoil


def content(path, text):
    data = text if isinstance(text, bytes) else text.encode()
    return lambda: Path(path).write_bytes(data)


def cut(path, share):
    """Keep the first ``share`` of a file, as a full disk or a killed writer does."""
    return lambda: Path(path).write_bytes(Path(path).read_bytes()[: int(share * Path(path).stat().st_size)])


def config(dotted, value):
    """Set a key of the configuration; ``None`` takes it out."""

    def spoil():
        whole = yaml.safe_load(Path("config.yaml").read_text())
        *parents, last = dotted.split(".")
        place = whole
        for parent in parents:
            place = place.setdefault(parent, {})
        if value is None:
            del place[last]
        else:
            place[last] = value
        Path("config.yaml").write_text(yaml.safe_dump(whole, sort_keys=False))

    return spoil


def from_slide(*spoils):
    """Have the patches cut from the slide, then spoil."""
    return both(PATCHES_FILE.unlink, *spoils)


def both(*spoils):
    def spoil():
        for one in spoils:
            one()

    return spoil


# --- what spotwise does with it ---------------------------------------------------------------------------------------


class Names(dict):
    """As Snakemake hands a script its inputs: by name."""

    def __getattr__(self, name):
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


@dataclass
class Outcome:
    """``line`` is what stopped it, empty where nothing did; ``job`` the script that did, and what it left behind."""

    line: str = ""
    code: int = 0
    job: str = ""
    written: list[str] = field(default_factory=list)
    fold: str = ""
    qc: dict = field(default_factory=dict)


class _StopError(Exception):
    pass


def copy_good(good, folder):
    """Copy the good sample for a test to damage; files of the second sample are shared."""
    shutil.copytree(good, folder, copy_function=lambda old, new: (os.link if "S2" in old else shutil.copy2)(old, new))


def spotwise():
    """Everything from the configuration to the first fold of the working folder's samples.

    A sample is not prepared again where its counts and metadata are those of the last time.
    """
    outcome = Outcome()
    try:
        settings = read_config("config.yaml")
        samples = prepare(settings, "config.yaml")
        hest.require_local(settings["data"]["root"], [one.sample for one in samples], settings["data"]["images"])
    except (InputError, SetupError) as error:
        outcome.line, outcome.code, outcome.job = str(error), 1, "start"
        return outcome
    try:
        paths = {sample: _sample_jobs(settings, sample, outcome) for sample in SAMPLES}
        _fold_job(settings, samples, paths, outcome)
    except _StopError:
        pass
    return outcome


def _sample_jobs(settings, sample, outcome):
    files = hest.sample_files(settings["data"]["root"], sample)
    folder = Path("results/r/samples") / sample
    made = {name: folder / f"{name}.h5ad" for name in ("counts", "lognorm")}
    made |= {"thumbnail": folder / "thumbnail.png", "qc": folder / "qc.json"}
    has_patches = files.patches.exists()
    inputs = {"counts": files.counts, "metadata": files.metadata, "slide": [] if has_patches else files.slide}
    inputs["patches"] = files.patches if has_patches else []
    asked = {key: settings["expression"][key] for key in ("min_counts", "target_sum", "outside")}
    known = hashlib.sha256(
        files.counts.read_bytes()
        + files.metadata.read_bytes()
        + (files.patches.read_bytes() if has_patches else b"")
        + repr((asked, has_patches)).encode()
    )
    if not (folder / known.hexdigest()).exists():
        shutil.rmtree(folder, ignore_errors=True)
        _job("prepare_expression", outcome, inputs, made, asked, sample=sample)
        (folder / known.hexdigest()).touch()
    outcome.qc[sample] = json.loads(made["qc"].read_text())
    if has_patches:
        return made | {"patches": files.patches}
    cut_out = {"patches": folder / "patches.h5"}
    inputs = {"slide": files.slide, "counts": made["counts"], "qc": made["qc"]}
    _job("extract_patches", outcome, inputs, cut_out, {}, sample=sample)
    return made | cut_out


def _fold_job(settings, samples, paths, outcome):
    plan = plan_folds(samples, PAPER)[0]
    ids = [*plan.train, *plan.test]
    inputs = {name: [str(paths[one][name]) for one in ids] for name in ("counts", "lognorm", "patches")}
    folder = Path("results/r/folds")
    made = {"markers": folder / "markers.tsv", "fold": folder / "fold.h5"}
    asked = {
        "samples": ids,
        "plan": vars(plan),
        "patients": {one.sample: one.patient for one in samples},
        "markers": settings["cohorts"]["c"]["markers"],
        "hvg_per_slide": settings["expression"]["hvg_per_slide"],
        "target_sum": settings["expression"]["target_sum"],
        "validation_fraction": settings["validation_fraction"],
    }
    _job("assemble_fold", outcome, inputs, made, asked, cohort="c", protocol=PAPER, fold="0")
    with h5py.File(made["fold"]) as file:
        outcome.fold = file.attrs["sha256"]


def _job(script, outcome, inputs, outputs, params, **wildcards):
    text = {name: path if isinstance(path, list) else str(path) for name, path in inputs.items()}
    snakemake = Names(
        input=Names(text),
        output=Names({name: str(path) for name, path in outputs.items()}),
        params=Names(params),
        wildcards=Names(wildcards),
        log=["job.log"],
        threads=1,
    )
    said = io.StringIO()
    try:
        with redirect_stderr(said):
            runpy.run_path(str(REPOSITORY / f"workflow_scripts/{script}.py"), {"snakemake": snakemake})
    except SystemExit as stop:
        outcome.code = stop.code
        outcome.line, outcome.job = said.getvalue().strip(), script
        folders = {path.parent for path in outputs.values() if path.parent.exists()}
        left = {path for folder in folders for path in folder.iterdir()}
        hidden = {path.name for path in left if path.name.startswith(".")}
        outcome.written = sorted({path.name for path in left & set(outputs.values())} | hidden)
        raise _StopError from None
    finally:
        # jobs keep warnings and faults of logging to themselves; here they share the process
        logging.captureWarnings(False)
        logging.raiseExceptions = True


def spoilt(matrix_of, value, row=3, column=5):
    """Copy X and change one value."""
    changed = matrix_of.copy()
    changed[row, column] = value
    return changed


def with_stray_index(file):
    """Point one stored count of a sparse X at a gene far beyond the last."""
    file["X/indices"][7] = 10**6


def as_csr(adata):
    adata.X = sparse.csr_matrix(adata.X)
