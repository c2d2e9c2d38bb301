"""Claims about labels: whose they are, and that a file at fault is refused in one line."""

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from spotwise.errors import InputError
from spotwise.structure.spot_labels import UNLABELLED, n_classes, read_labels

SPOTS = ["a", "b", "c", "d", "e"]
LABELS = {"c": "fat", "a": "tumour", "b": "fat", "d": "", "x": "tumour"}


@pytest.fixture
def table(tmp_path):
    def write(labels, column="domain", barcodes=None):
        path = tmp_path / "labels.csv"
        content = pd.DataFrame({"barcode": barcodes or list(labels), column: list(labels.values())})
        content.to_csv(path, index=False)
        return path

    return write


def read(path, column="domain", barcodes=SPOTS, known=(*SPOTS, "x")):
    return read_labels(path, column, barcodes, known)


def test_labels_are_joined_by_barcode_and_absent_spots_stay_unlabelled(table):
    found = read(table(LABELS))
    assert found.tolist() == ["tumour", "fat", "fat", UNLABELLED, UNLABELLED]
    assert n_classes(found) == 2
    assert read(table(LABELS), barcodes=["e", "b", "a"]).tolist() == [UNLABELLED, "fat", "tumour"]


@pytest.mark.parametrize("nothing", [np.nan, None, "", " ", "nan", "NaN", "NA"])
@pytest.mark.parametrize("kind", ["csv", "text", "category"])
def test_every_way_to_write_no_label_leaves_a_spot_unlabelled(table, tmp_path, nothing, kind):
    labels = LABELS | {"d": nothing}
    path = table(labels)
    if kind != "csv":
        path = tmp_path / "counts.h5ad"
        values = pd.Series(list(labels.values()), index=list(labels), dtype=object)
        values = values.astype("category") if kind == "category" else values.fillna("nan")
        AnnData(np.ones((5, 1), dtype=np.float32), obs=pd.DataFrame({"domain": values})).write_h5ad(path)
    assert read(path).tolist() == ["tumour", "fat", "fat", UNLABELLED, UNLABELLED]


def test_labels_that_are_numbers_are_text(tmp_path):
    path = tmp_path / "counts.h5ad"
    obs = pd.DataFrame({"cluster": [2, 1, 1]}, index=["a", "b", "c"])
    AnnData(np.ones((3, 1), dtype=np.float32), obs=obs).write_h5ad(path)
    assert read(path, "cluster").tolist() == ["2", "1", "1", UNLABELLED, UNLABELLED]


def test_a_gap_in_a_column_of_numbers_is_no_class(table):
    assert read(table({"a": "2", "b": "1", "c": "nan"})).tolist() == ["2", "1"] + [UNLABELLED] * 3


def test_values_that_name_no_class_leave_a_spot_unlabelled(table):
    path = table(LABELS | {"d": "undetermined", "e": "undetermined?"})
    found = read_labels(path, "domain", SPOTS, [*SPOTS, "x"], unknown=["undetermined", "blank"])
    assert found.tolist() == ["tumour", "fat", "fat", UNLABELLED, "undetermined?"]


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        (
            LABELS,
            {"column": "domian"},
            "column: found 'domian', expected one of barcode, domain; did you mean",
        ),
        (LABELS | {"y": "fat", "z": ""}, {}, "2 of 7 barcodes of no spot of the slide, e.g. 'y'"),
        ({"a": "fat", "b": "fat"}, {}, "domain: found only 'fat' on the slide's spots, expected at least two classes"),
        ({"a": "fat", "x": "tumour"}, {}, "only 'fat'"),
        ({"a": "", "b": ""}, {}, "domain: found no label"),
        ({"x": "fat"}, {}, "no label"),
    ],
)
def test_an_invalid_table_is_refused(table, labels, options, message):
    with pytest.raises(InputError, match=message) as caught:
        read(table(labels), **options)
    assert str(caught.value).startswith(str(table(labels)))


def test_a_barcode_given_twice_or_not_at_all_is_refused(table):
    with pytest.raises(InputError, match="barcode: found 'a' more than once, expected each spot once"):
        read(table(LABELS, barcodes=["a", "b", "c", "a", "x"]))
    with pytest.raises(InputError, match="nothing in row 3"):
        read(table(LABELS, barcodes=["a", "b", " ", "c", "x"]))


def test_files_that_cannot_be_read_are_named(tmp_path):
    with pytest.raises(InputError, match=r"nowhere.csv: labels: found no such file"):
        read(tmp_path / "nowhere.csv")
    (tmp_path / "bad.h5ad").write_text("no HDF5")
    with pytest.raises(InputError, match=r"bad.h5ad: obs: found nothing that can be read"):
        read(tmp_path / "bad.h5ad")
    (tmp_path / "bad.csv").write_bytes("barcode,domain\na,Drüse\n".encode("latin-1"))
    with pytest.raises(InputError, match=r"bad.csv: labels: found contents that cannot be read"):
        read(tmp_path / "bad.csv")
