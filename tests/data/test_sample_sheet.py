"""Claims about the sample sheet and the folds of both protocols."""

import pytest

from spotwise.constants import PAPER, PATIENT
from spotwise.data.sample_sheet import Sample, by_cohort, plan_folds, read_samples
from spotwise.errors import InputError


def cohort(*patients):
    return [Sample(sample=f"S{number}", cohort="c", patient=patient) for number, patient in enumerate(patients)]


COHORTS = [cohort("a", "b"), cohort("a", "a", "b"), cohort("a", "a", "b", "c"), cohort("b", "c", "c", "c", "c")]


def sheet(tmp_path, text):
    path = tmp_path / "samples.tsv"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("samples", COHORTS)
def test_paper_protocol_leaves_out_each_slide_once(samples):
    plans = plan_folds(samples, PAPER)
    assert [plan.test for plan in plans] == [(sample.sample,) for sample in samples]
    assert all({*plan.test, *plan.train} == {s.sample for s in samples} for plan in plans)


@pytest.mark.parametrize("samples", COHORTS)
def test_no_patient_stands_on_both_sides_of_a_patient_fold(samples):
    patient = {sample.sample: sample.patient for sample in samples}
    plans = plan_folds(samples, PATIENT)
    for plan in plans:
        assert not {patient[s] for s in plan.test} & {patient[s] for s in plan.train}
        assert plan.validation_slide in plan.train
        assert {*plan.test, *plan.train} == set(patient)
    assert sorted(s for plan in plans for s in plan.test) == sorted(patient)


def test_a_slide_of_a_patient_with_no_other_training_slide_validates():
    plans = plan_folds(cohort("a", "a", "b", "c"), PATIENT)
    assert [plan.validation_slide for plan in plans] == ["S2", "S3", "S2"]
    assert {plan.validation for plan in plans} == {"slide"}


def test_samples_are_parted_by_cohort_in_their_order():
    one, two, three = (
        Sample(sample="S0", cohort="b", patient="p"),
        Sample(sample="S1", cohort="a", patient="p"),
        Sample(sample="S2", cohort="b", patient="q"),
    )
    assert by_cohort([one, two, three]) == {"b": [one, three], "a": [two]}
    assert list(by_cohort([one, two, three])) == ["b", "a"]


def test_the_only_training_slide_validates_by_a_block_of_its_own():
    plan = plan_folds(cohort("a", "a", "b"), PATIENT)[0]
    assert (plan.train, plan.validation, plan.validation_slide) == (("S2",), "block", "S2")


HEADER = "sample\tcohort\tpatient\n"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "rows: found none"),
        (HEADER, "rows: found none"),
        ("sample\tcohort\nS1\tc\n", "patient: found nothing"),
        (HEADER + "S1\tc\t\n", "patient: found nothing"),
        (HEADER + "S1\tc\n", "row 1: found a different number of fields"),
        (HEADER + "S1\tc\tp\nS1\tc\tp\n", "S1 twice"),
        (HEADER + "../x\tc\tp\n", "sample: found '../x'"),
        (HEADER + "a b\tc\tp\n", "sample: found 'a b'"),
        (HEADER + "S1\tc/d\tp\n", "cohort: found 'c/d'"),
        ("sample\tcohort\tpatient\tpatiant\nS1\tc\tp\tq\n", "patiant: found an unknown key"),
    ],
)
def test_a_faulty_sample_sheet_is_told_in_one_line(tmp_path, text, told):
    path = sheet(tmp_path, text)
    with pytest.raises(InputError) as error:
        read_samples(path)
    assert told in str(error.value)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_byte_order_mark_and_comments_do_not_disturb(tmp_path):
    path = sheet(tmp_path, "\ufeff# from HEST\n" + HEADER + "S1\tc\tPatient 1\n")
    assert read_samples(path) == [Sample(sample="S1", cohort="c", patient="Patient 1")]


def test_a_sheet_in_another_encoding_is_told_in_one_line(tmp_path):
    path = tmp_path / "samples.tsv"
    path.write_bytes((HEADER + "S1\tc\tMüller\n").encode("latin-1"))
    with pytest.raises(InputError, match=r"samples\.tsv: byte 28: found no UTF-8"):
        read_samples(path)


@pytest.mark.parametrize(
    ("second", "shown"),
    [("p1", "'p1'"), ("P 1", "'P 1'"), ("P\u00a01", r"'P\xa01'"), ("\u04201", r"'\u04201'"), ("P01", "'P01'")],
)
def test_two_spellings_of_a_patient_are_refused_with_both_rows(tmp_path, second, shown):
    path = sheet(tmp_path, HEADER + f"S1\tc\tP1\nS2\tc\tQ\nS3\tc\tP1\nS4\tc\t{second}\n")
    with pytest.raises(InputError) as error:
        read_samples(path)
    assert str(error.value) == (
        f"{path}: patient: found 'P1' in row 1 (S1) and {shown} in row 4 (S4), expected one spelling of a patient; "
        "they differ only in case, blanks, zeros or look-alike characters"
    )


def test_patients_of_two_cohorts_may_be_spelt_alike(tmp_path):
    path = sheet(tmp_path, HEADER + "S1\tc\tPatient 1\nS2\tc\tPatient 2\nS3\td\tpatient1\nS4\td\tpatient 2\n")
    assert [one.patient for one in read_samples(path)] == ["Patient 1", "Patient 2", "patient1", "patient 2"]


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        (
            "S1\tc\tp\ns1\tc\tq\n",
            "sample: found 'S1' in row 1 and 's1' in row 2, expected names that differ in more than",
        ),
        ("S1\tCOAD\tp\nS2\tcoad\tq\n", "cohort: found 'COAD' in row 1 and 'coad' in row 2, expected names that differ"),
    ],
)
def test_ids_that_some_file_systems_take_for_one_are_refused(tmp_path, rows, told):
    with pytest.raises(InputError, match=rf"samples\.tsv: {told}"):
        read_samples(sheet(tmp_path, HEADER + rows))


ROWS = HEADER + "S1\tc\tp\nS2\tc\tq\n"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (
            b"PK\x03\x04\x14\x00\x06\x00",
            "samples: found an Excel or OpenDocument file, expected a tab-separated sample",
        ),
        (
            b"\xd0\xcf\x11\xe0\xa1\xb1",
            "samples: found an old Excel file, expected a tab-separated sample sheet: save it",
        ),
        (
            ROWS.encode("utf-16"),
            "samples: found UTF-16 text, expected a tab-separated sample sheet: save it as tab-sep",
        ),
        (ROWS.encode("utf-16-be"), "samples: found UTF-16 text"),
        (ROWS.encode("utf-16-le"), "samples: found UTF-16 text"),
        (b"<!DOCTYPE html><html>", "samples: found a web page"),
        (
            ROWS.replace("\t", ";").encode(),
            "header: found columns separated by ';', expected columns separated by tabs",
        ),
        (
            ROWS.replace("\t", ",").encode(),
            "header: found columns separated by ',', expected columns separated by tabs",
        ),
        (
            ROWS.replace("\t", "  ").encode(),
            "header: found 'sample  cohort  patient', expected columns separated by tabs",
        ),
        (b"", "rows: found none, expected one row per slide under a header line"),
    ],
)
def test_a_sheet_in_another_format_is_named(tmp_path, content, told):
    (tmp_path / "samples.tsv").write_bytes(content)
    with pytest.raises(InputError, match=rf"samples\.tsv: {told}") as error:
        read_samples(tmp_path / "samples.tsv")
    assert "\n" not in str(error.value)


def test_a_sheet_that_cannot_be_opened_says_why(tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"absent\.tsv: samples: found no such file, expected a tab-separated sample"):
        read_samples(tmp_path / "absent.tsv")
    with pytest.raises(InputError, match="samples: found a folder, expected a tab-separated sample sheet"):
        read_samples(tmp_path)
    (tmp_path / "link.tsv").symlink_to("nowhere.tsv")
    with pytest.raises(InputError, match=r"link\.tsv: samples: found a link to nowhere\.tsv, which does not exist"):
        read_samples(tmp_path / "link.tsv")

    def refuse(path):
        raise PermissionError(13, "Permission denied")

    path = sheet(tmp_path, ROWS)
    monkeypatch.setattr(type(path), "read_bytes", refuse)
    with pytest.raises(InputError, match=r"samples\.tsv: samples: found no permission to read it"):
        read_samples(path)


def test_an_id_may_hold_single_dots_as_those_of_tcga_do(tmp_path):
    name = "TCGA-00-0000-01Z-00-DX1.0A0B0C"
    (tmp_path / "s.tsv").write_text(f"sample\tcohort\tpatient\n{name}\tc\tp\n")
    assert [sample.sample for sample in read_samples(tmp_path / "s.tsv")] == [name]
