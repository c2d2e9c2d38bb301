import json

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from benchmarks.reliability_calibration import Cohort, rated, simulate
from handmade import genes_of
from spotwise.errors import InputError
from spotwise.evaluation.reliability import (
    RELIABILITY_COLUMNS,
    cutoff_above_chance,
    rate_genes,
    shrunken_intervals,
    variance_prior,
)

SLIDES = {"S1": "P1", "S2": "P1", "S3": "P2", "S4": "P3"}


def cohort(values, predictor="Ridge", protocol="patient", seeds=(0,), slides=SLIDES, **options):
    """Scores of each gene's PCC by slide; a gene without a value on a slide is not in that fold's panel."""
    folds = {patient: number for number, patient in enumerate(dict.fromkeys(slides.values()))}
    parts = []
    for place, (sample, patient) in enumerate(slides.items()):
        pcc = {gene: of_slides[place] for gene, of_slides in values.items() if of_slides[place] is not None}
        run = {"fold": folds[patient], "sample": sample, "protocol": protocol, **options}
        parts += [genes_of(predictor, pcc, seed=seed, **run) for seed in seeds]
    return pd.concat(parts)


def control(genes, spread=0.02, protocol="patient", slides=SLIDES):
    """Scores of a shuffled control, PCC of +-``spread``."""
    values = {gene: [spread * (-1) ** (place + number) for place in range(len(slides))] for number, gene in genes}
    return cohort(values, "ShuffledTraining", protocol, slides=slides, kind="control")


def rate(values, patients=SLIDES, ceilings=(), **options):
    protocol, slides = options.get("protocol", "patient"), options.get("slides", SLIDES)
    shuffled = control(list(enumerate(values)), protocol=protocol, slides=slides)
    table, facts = rate_genes(cohort(values, **options), shuffled, dict(ceilings), patients)
    return table.set_index("gene"), facts


def test_a_patient_is_the_mean_of_its_slides():
    table, facts = rate({"A": [0.1, 0.3, 0.5, 0.6], "B": [-0.1, 0.1, -0.2, 0.3]})
    assert table.loc["A", "pcc"] == pytest.approx(((0.1 + 0.3) / 2 + 0.5 + 0.6) / 3)
    assert table.loc["B", "positive_share"] == 0.5
    assert (table["n_slides"].tolist(), table["n_units"].tolist()) == ([4, 4], [3, 3])
    assert (facts["basis"], facts["n_units"], facts["n_slides"]) == ("patient", 3, 4)


@pytest.mark.parametrize(
    ("patients", "protocol"), [(dict.fromkeys(SLIDES, "P1"), "patient"), (SLIDES, "paper")], ids=["one", "paper"]
)
def test_slides_are_the_units_without_other_patients_and_it_says_so(patients, protocol):
    table, facts = rate({"A": [0.1, 0.3, 0.5, 0.6], "B": [0.0, 0.1, -0.2, 0.3]}, patients, protocol=protocol)
    assert table.loc["A", "pcc"] == pytest.approx((0.1 + 0.3 + 0.5 + 0.6) / 4)
    assert facts["basis"] == "slide"
    assert "slides, not patients" in facts["remarks"][0]


def test_seeds_are_averaged_before_signs_are_counted():
    first = cohort({"A": [0.3, 0.3, 0.3, 0.3]})
    second = cohort({"A": [-0.1, -0.5, 0.1, 0.1]}).assign(seed=1)
    table, facts = rate_genes(pd.concat([first, second]), control([(0, "A")]), {}, SLIDES)
    assert table["pcc"].item() == pytest.approx((0.0 + 0.2 + 0.2) / 3)
    assert (table["positive_share"].item(), facts["n_seeds"]) == (0.75, 2)


def test_one_unit_gives_no_interval_and_no_reliable_gene():
    slides = {"S1": "P1"}
    table, facts = rate({"A": [0.9], "B": [0.8]}, slides, slides=slides)
    assert table[["pcc_low", "pcc_high"]].isna().all(axis=None)
    assert not table["reliable"].any()
    assert facts["interval"] == "none"
    assert any("one unit alone" in remark for remark in facts["remarks"])


def test_genes_missing_from_some_panels_are_rated_on_the_others_and_counted():
    values = {"A": [0.5, 0.5, 0.5, 0.6], "B": [None, None, 0.5, 0.6], "C": [None, None, None, 0.9]}
    scores, shuffled = cohort(values), control(list(enumerate(values)))
    table, facts = rate_genes(scores, shuffled, {}, SLIDES, panel=["C", "new", "A", "B"])
    assert table["gene"].tolist() == ["C", "new", "A", "B"]
    assert table["n_units"].tolist() == [1, 0, 3, 2]
    assert table["pcc_low"].notna().tolist() == [False, False, True, True]
    assert table["reliable"].tolist() == [False, False, True, True]
    assert table.loc[1, ["pcc", "ceiling", "positive_share"]].isna().all()
    assert (facts["n_partly_scored"], facts["n_not_scored"], facts["n_genes"]) == (2, 1, 4)


def test_the_threshold_is_the_upper_end_of_the_control_and_never_below_zero():
    values = {f"G{number}": [0.5, 0.5, 0.4, 0.6] for number in range(20)}
    shuffled = cohort({gene: [number / 100] * 4 for number, gene in enumerate(values)}, "ShuffledTraining")
    _, facts = rate_genes(cohort(values), shuffled, {}, SLIDES)
    assert facts["threshold"] == pytest.approx(0.19 * 0.95)
    _, facts = rate_genes(cohort(values), shuffled.assign(pcc=-0.1), {}, SLIDES)
    assert facts["threshold"] == 0


def test_a_control_that_predicts_constants_sets_no_bar_and_it_says_so():
    values = {"A": [0.5, 0.4, 0.5, 0.6], "B": [0.0, 0.1, -0.2, 0.3]}
    shuffled = control(list(enumerate(values)), spread=0.0)
    _, facts = rate_genes(cohort(values), shuffled, {}, SLIDES)
    assert (facts["threshold"], facts["floor_variance"]) == (0, 0)
    assert "the control predicts constants" in facts["remarks"][0]


def test_ceilings_are_averaged_over_the_slides_that_measure_the_gene_whatever_the_panel(tmp_path):
    paths = {}
    for sample, ceiling in {"S1": 0.2, "S2": 0.4, "S3": 0.9}.items():
        paths[sample] = tmp_path / f"{sample}.tsv"
        genes = ["NA"] if sample == "S1" else ["A", "NA"]
        pd.DataFrame({"gene": genes, "ceiling": ceiling}).to_csv(paths[sample], sep="\t", index=False)
    table, _ = rate({"A": [None, 0.3, 0.5, 0.6], "NA": [0.1, None, 0.2, 0.3]}, ceilings=paths)
    assert table.loc[["A", "NA"], "ceiling"].tolist() == pytest.approx([(0.4 + 0.9) / 2, (0.2 + 0.4 + 0.9) / 3])


def test_scores_of_two_predictors_of_another_protocol_or_of_strangers_are_refused():
    scores, shuffled = cohort({"A": [0.1] * 4}), control([(0, "A")])
    with pytest.raises(InputError, match="predictor: found Other, Ridge"):
        rate_genes(pd.concat([scores, scores.assign(predictor="Other")]), shuffled, {}, SLIDES)
    with pytest.raises(InputError, match="shuffled control: cohort: found none"):
        rate_genes(scores, shuffled[:0], {}, SLIDES)
    with pytest.raises(InputError, match="shuffled control: protocol: found paper, expected patient"):
        rate_genes(scores, control([(0, "A")], protocol="paper"), {}, SLIDES)
    with pytest.raises(InputError, match="also S4"):
        rate_genes(scores, shuffled, {}, {"S1": "P1", "S2": "P1", "S3": "P2"})


def test_facts_are_plain_values_and_the_columns_those_of_the_contract():
    values = {"A": [0.5, 0.5, 0.5, 0.6], "B": [0.0, 0.0, 0.0, 0.0]}
    table, facts = rate_genes(cohort(values), control(list(enumerate(values))), {}, SLIDES)
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts
    assert tuple(table.columns) == RELIABILITY_COLUMNS
    assert table["reliable"].tolist() == [True, False]


def test_the_variance_prior_is_found_again():
    rng = np.random.default_rng(0)
    df = rng.integers(1, 8, 100_000)
    true = 0.3 * 6 / rng.chisquare(6, len(df))
    prior, prior_df = variance_prior(true * rng.chisquare(df) / df, df)
    assert prior == pytest.approx(0.3, rel=0.03)
    assert prior_df == pytest.approx(6, rel=0.05)
    _, prior_df = variance_prior(0.3 * rng.chisquare(df) / df, df)  # one variance for all
    assert prior_df > 50


def test_intervals_equal_those_of_a_t_test_with_the_shrunken_variance():
    rng = np.random.default_rng(1)
    z = rng.normal(0.2, 0.3, (200, 4))
    found = shrunken_intervals(z, np.full((200, 4), 1e-6))
    prior, prior_df = found["prior_variance"], found["prior_df"]
    variance = (prior_df * prior + z.var(axis=1, ddof=1) * 3) / (prior_df + 3)
    expected = scipy.stats.t.interval(0.95, prior_df + 3, z.mean(axis=1), np.sqrt(2 * variance / 4))
    np.testing.assert_allclose(found["bounds"], np.transpose(expected))
    # units that agree by chance are no surer than the control's noise allows
    floored = shrunken_intervals(np.linspace(0.2, 0.2001, 12).reshape(3, 4), np.full((3, 4), 0.4))
    assert np.ptp(floored["bounds"], axis=1).min() > 2 * 1.96 * 0.4 / np.sqrt(2)


def test_genes_without_a_link_in_new_patients_are_rarely_called_reliable():
    genes = {"linked": 40, "own": 10, "smooth": 30, "shared": 30, "white": 10}
    tables = pd.concat([rated(simulate(Cohort(patients, 1, genes), seed)) for patients in (3, 5) for seed in range(4)])
    called = tables[tables["reliable"]]
    assert len(called) > 100
    assert (called["kind"] != "linked").mean() <= 0.05
    strong = tables[(tables["kind"] == "linked") & (tables["new"] > 0.5)]
    assert strong["reliable"].mean() > 0.8
    inside = tables["new"].between(tables["pcc_low"], tables["pcc_high"])
    assert inside.mean() > 0.92


@pytest.mark.parametrize("seed", range(20))
def test_the_cutoff_is_the_lowest_that_leaves_few_mirrored_intervals_above_it(seed):
    rng = np.random.default_rng(seed)
    low, mirrored = rng.normal(0.0, 0.3, 200), rng.normal(-0.3, 0.3, 200)
    low[:5] = mirrored[:5] = np.nan
    cutoff = cutoff_above_chance(low, mirrored, 0.05)

    def few(at):
        return np.nansum(mirrored > at) <= 0.05 * np.nansum(low > at)

    assert cutoff >= 0.05
    assert few(cutoff)
    grid = np.linspace(0.05, 1.5, 3000)
    assert cutoff <= next(at for at in grid if few(at)) + 1e-12


def test_without_mirrored_intervals_the_threshold_decides():
    assert cutoff_above_chance(np.array([0.3, np.nan, 0.1]), np.array([-0.2, np.nan, 0.1]), 0.2) == 0.2
    assert cutoff_above_chance(np.array([np.nan]), np.array([np.nan]), 0.0) == 0.0


def test_genes_that_chance_explains_are_not_reliable():
    """As many genes agree with the truth in every patient as contradict it."""
    values = {f"up{number}": [0.5, 0.5, 0.5, 0.5] for number in range(10)}
    values |= {f"down{number}": [-0.5, -0.5, -0.5, -0.5] for number in range(10)}
    table, facts = rate(values)
    assert not table["reliable"].any()
    only_up = {gene: pcc for gene, pcc in values.items() if gene.startswith("up")}
    assert rate(only_up)[0]["reliable"].all()
    assert facts["cutoff"] > facts["threshold"]
