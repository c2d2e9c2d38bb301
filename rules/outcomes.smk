# What comes of a run: its scores, tables, figures, and the files that these are made of.


# --- Scores and tables ---------------------------------------------------------------------------------------------


def predictor_files(wildcards):
    return predictions(wildcards.cohort, wildcards.protocol, wildcards.predictor)


def cohort_protocols():
    """Every (cohort, protocol) of the run, in the order of the configuration."""
    return list(FOLDS_OF)


def scores_of(cohort, protocol, predictors=PREDICTORS):
    return [f"<results>/scores/{cohort}/{protocol}/{predictor}.parquet" for predictor in predictors]


def all_scores():
    return [path for cohort, protocol in cohort_protocols() for path in scores_of(cohort, protocol)]


def all_slide_scores():
    return [
        f"<results>/slide_scores/{cohort}/{protocol}/{predictor}.parquet"
        for cohort, protocol in cohort_protocols()
        for predictor in PREDICTORS
    ]


def marker_reports():
    """Which markers the panel of each fold of the run holds, and which slides lack the others."""
    return [f"<results>/folds/{cohort}/{protocol}/fold{fold}/markers.tsv" for cohort, protocol, fold in FOLDS]


TABLES = {
    "table1": "1: main comparison",
    "table2": "2: longer gene lists",
    "table3": "3: best-correlated genes",
    "table4": "4: pathology foundation models",
    "table5": "5: variants of CMRCNet",
    "markers": "Supplement: marker genes",
}


def table_files():
    """Each table as CSV, which the report shows, by its name; as Markdown and LaTeX beside it."""
    files = {}
    for name, label in TABLES.items():
        path = f"<results>/tables/{name}"
        shown = {"caption": f"../report/{name}.rst", "category": "Tables", "labels": {"table": label, "format": "CSV"}}
        files |= {name: report(f"{path}.csv", **shown), f"{name}_md": f"{path}.md", f"{name}_tex": f"{path}.tex"}
    return files


def published_tables():
    """The paper's own Tables 1 to 5."""
    folder = os.path.relpath(SOURCE.parent / "resources" / "paper")
    return [f"{folder}/table{number}.csv" for number in range(1, 6)]


def tables():
    """Every table of scores; none where nothing is predicted."""
    if not PREDICTORS:
        return []
    names = [f"{name}.{kind}" for name in TABLES for kind in ("csv", "md", "tex")]
    names += ["comparisons.csv", "intervals.csv", "measures.csv", "measures.md"]
    names += [f"paper_vs_ours.{kind}" for kind in ("csv", "md", "html")]
    names += ["leaks.csv", "leaks.md"]
    return [f"<results>/tables/{name}" for name in names]


# --- Figures -------------------------------------------------------------------------------------------------------


def predictor_kinds():
    """Every predictor of the run with its method and kind: what its look follows from, whatever a figure draws."""
    return {predictor.name: [predictor.method, predictor.kind] for predictor in PREDICTORS.values()}


def drawn_predictors():
    """One predictor for each method, where a panel for each would be too many: the first K of its entry."""
    first = {}
    for predictor in PREDICTORS.values():
        if predictor.kind != "control":
            first.setdefault(predictor.method, predictor.name)
    return list(first.values())


def drawn_rivals():
    """What is drawn beside each other: the drawn predictors, the reference, and the controls that are no bound."""
    controls = [name for name in config["controls"] if name not in BOUNDS]
    drawn = {*drawn_predictors(), config["evaluation"].get("reference"), *controls}
    return [name for name in PREDICTORS if name in drawn]


def predicting_methods():
    return [name for name, settings in config["methods"].items() if REGISTRY[settings["model"]].predicts]


def trained_methods():
    """Methods that are trained on folds."""
    return [name for name in predicting_methods() if REGISTRY[config["methods"][name]["model"]].trained]


def retrieval_methods():
    return [name for name, settings in config["methods"].items() if REGISTRY[settings["model"]].kind == "retrieval"]


def cohort_scores(wildcards):
    return scores_of(wildcards.cohort, wildcards.protocol)


def drawn_scores(wildcards):
    return scores_of(wildcards.cohort, wildcards.protocol, drawn_predictors())


def ceiling_scores(wildcards):
    return scores_of(wildcards.cohort, wildcards.protocol, [*drawn_rivals(), "NoiseCeiling"])


def protocol_scores(wildcards):
    """Scores of the drawn rivals in every cohort of a protocol."""
    cohorts = [cohort for cohort, protocol in cohort_protocols() if protocol == wildcards.protocol]
    return [path for cohort in cohorts for path in scores_of(cohort, wildcards.protocol, drawn_rivals())]


def cohorts_of_both_protocols():
    return [cohort for cohort in config["cohorts"] if all((cohort, protocol) in FOLDS_OF for protocol in PROTOCOLS)]


def scores_of_both_protocols():
    return [
        path
        for cohort in cohorts_of_both_protocols()
        for protocol in PROTOCOLS
        for path in scores_of(cohort, protocol, drawn_rivals())
    ]


def cohort_sweeps(wildcards):
    folder = f"<results>/sweeps/{wildcards.cohort}/{wildcards.protocol}"
    return [f"{folder}/{method}.parquet" for method in retrieval_methods()]


def configured_neighbours():
    """Every K that a predictor of the run uses."""
    return sorted({predictor.k for predictor in PREDICTORS.values() if predictor.kind == "retrieval"})


def slide_predictions(wildcards):
    """Predictions of one test slide by each drawn predictor, first seed."""
    fold = TESTED_IN[wildcards.cohort, wildcards.protocol, wildcards.sample]
    first = {name: configuration.seeds(config, PREDICTORS[name].method)[0] for name in drawn_predictors()}
    folder = f"<results>/predictions/{wildcards.cohort}/{wildcards.protocol}"
    return [f"{folder}/{name}/fold{fold}/seed{seed}/{wildcards.sample}.h5ad" for name, seed in first.items()]


def cohort_histories(wildcards):
    return [
        f"<results>/models/{wildcards.cohort}/{wildcards.protocol}/{label}/history.tsv"
        for label in history_labels(wildcards)
    ]


def history_labels(wildcards):
    """Trainings of one cohort and protocol as `method/fold0/seed0`, which is also where they lie."""
    return [
        f"{method}/fold{plan.fold}/seed{seed}"
        for method in trained_methods()
        for plan in FOLDS_OF.get((wildcards.cohort, wildcards.protocol), [])
        for seed in configuration.seeds(config, method)
    ]


def models():
    """Every model of the run as its method and `cohort/protocol/method/fold0/seed0`, which is also where it lies."""
    return [
        (method, f"{cohort}/{protocol}/{method}/fold{fold}/seed{seed}")
        for method in predicting_methods()
        for cohort, protocol, fold in FOLDS
        for seed in configuration.seeds(config, method)
    ]


def model_methods():
    return [method for method, _ in models()]


def model_summaries():
    return [f"<results>/models/{model}/summary.json" for _, model in models()]


def model_benchmarks():
    """Where Snakemake noted the time of each model; no input, as a run of an older workflow may lack them."""
    rule_of = {method: "train" if method in trained_methods() else "fit_frozen" for method in predicting_methods()}
    return [f"{RESULTS}/benchmarks/{rule_of[method]}/{model}.tsv" for method, model in models()]


def embedding_benchmarks():
    """Encoder -> where Snakemake noted the time of embedding each sample."""
    used = dict.fromkeys(settings["encoder"] for settings in config["methods"].values() if "encoder" in settings)
    return {
        encoder: [f"{RESULTS}/benchmarks/embed_patches/{encoder}/{sample}.tsv" for sample in SAMPLES]
        for encoder in used
    }


def drawn_genes(wildcards):
    """Genes to draw over the slides, first those that the configuration names."""
    settings = config["cohorts"][wildcards.cohort]
    return settings["genes"] or settings["markers"][:4]


def figures():
    """Every figure of scores and predictions; none where nothing is predicted."""
    if not PREDICTORS:
        return []
    targets = ["<results>/tables/costs.csv", "<results>/figures/costs.png"]
    targets += ["<results>/figures/protocols.png"] if cohorts_of_both_protocols() else []
    targets += [
        f"<results>/figures/overview_{protocol}.png"
        for protocol in dict.fromkeys(protocol for _, protocol in cohort_protocols())
    ]
    for cohort, protocol in cohort_protocols():
        names = ["boxplot"]
        names += ["curves"] if trained_methods() else []
        names += ["neighbours"] if retrieval_methods() else []
        names += ["ceiling"] if "NoiseCeiling" in config["controls"] else []
        names += [
            f"{kind}_{sample}" for sample in SAMPLES_OF[cohort] for kind in ("correlation", "maps", "profiles", "genes")
        ]
        targets += [f"<results>/figures/{cohort}/{protocol}/{name}.png" for name in names]
    return targets


# --- Tissue structure ----------------------------------------------------------------------------------------------


def structure_cohorts():
    return [cohort for cohort in config["cohorts"] if structure_slides(cohort)]


def structure_tables():
    """Tables of domains and variable genes; none where the configuration does not ask for them."""
    if not STRUCTURE_SETTINGS:
        return []
    names = [f"domains.{kind}" for kind in ("csv", "md", "tex")] + [f"variable_genes.{kind}" for kind in ("csv", "md")]
    return [f"<results>/tables/{name}" for name in names]


def structure_figures(cohort):
    """Figures of every slide, and the UMAP of the cohort where its slides lie in one space."""
    folder = f"<results>/figures/structure/{cohort}"
    drawn = ("domains", "umap", "variable_genes")
    names = [f"{sample}_{figure}" for sample in structure_slides(cohort) for figure in drawn]
    names += ["umap"] if shares_reference(cohort) else []
    return [f"{folder}/{name}.png" for name in names]


def structure_summaries():
    """Summary of each training behind a clustering method's spaces."""
    return [
        f"<results>/structure/{cohort}/models/{space}/{scope}/seed{seed}/summary.json"
        for cohort in structure_cohorts()
        for space in structure_spaces("clustering")
        for scope in scopes_of(space, cohort)
        for seed in space_seeds(space)
    ]


def label_files():
    """The CSVs with the known domains of slides, by sample; nothing where their own counts hold them."""
    files = {sample: configuration.label_file(config, sample) for sample in structure_slides()}
    return {sample: str(path) for sample, path in files.items() if path}


def structure_outputs():
    """All that is made of the tissue's structure; nothing where the configuration does not ask for it."""
    targets = structure_tables()
    for cohort in structure_cohorts():
        targets += structure_figures(cohort)
        targets += [f"<results>/structure/{cohort}/{sample}/page.html" for sample in structure_slides(cohort)]
    return targets


def domain_scores():
    """Scores of the found domains of every slide."""
    return [f"<results>/structure/{COHORT_OF[sample]}/{sample}/domain_scores.tsv" for sample in structure_slides()]


def run_outputs():
    """What a run is for; a run without images has no record, as that is made of their fingerprints, too."""
    record = ["<results>/provenance.json"] if HAS_IMAGES else []
    return tables() + figures() + structure_outputs() + record


# --- Audit and provenance ------------------------------------------------------------------------------------------


def of_samples(name):
    """A file of every sample of the run."""
    return [f"<results>/samples/{sample}/{name}" for sample in SAMPLES]


def all_folds():
    return [f"<results>/folds/{cohort}/{protocol}/fold{fold}/fold.h5" for cohort, protocol, fold in FOLDS]


def score_runs():
    """Cohort and protocol of each file that `all_scores` lists."""
    return [[cohort, protocol] for cohort, protocol in cohort_protocols() for _ in scores_of(cohort, protocol)]


def download_records():
    return collect(MANIFEST, sample=SAMPLES) if DATA_SOURCE == "huggingface" else []
