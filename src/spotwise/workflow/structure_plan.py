"""The plan of a tissue's structure: slides, spaces, and which model embeds which slide."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

from spotwise import config as configuration
from spotwise.constants import BASELINE_SPACES, COHORT, EXPRESSION_SPACES
from spotwise.workflow.plan import Plan, Wildcards


class StructurePlan:
    """What the section ``structure`` of a configuration asks for; nothing where there is none.

    Parameters
    ----------
    plan
        The plan of the run.

    Attributes
    ----------
    settings
        The section, empty where there is none.
    slides
        Its slides, in the order of the sample sheet.
    spaces
        Its spaces, in the order of the configuration. The first one is the reference that is drawn.
    """

    def __init__(self, plan: Plan):
        self.plan = plan
        self.settings: Mapping = plan.config.get("structure", {})
        wanted = set(self.settings.get("slides", []))
        self.slides = [sample for sample in plan.samples if sample in wanted]
        self.spaces = list(self.settings.get("spaces", []))
        self.labels: Mapping = self.settings.get("labels", {})

    # --- Slides -------------------------------------------------------------------------------------------------------

    @cached_property
    def cohorts(self) -> list[str]:
        """Cohorts of the slides."""
        return [cohort for cohort in self.plan.config["cohorts"] if self.slides_of(cohort)]

    def slides_of(self, cohort: str) -> list[str]:
        """Return the slides of a cohort."""
        return [sample for sample in self.slides if self.plan.cohort_of[sample] == cohort]

    def cohort_slides(self, w: Wildcards) -> list[str]:
        """Return the slides of the wildcards' cohort."""
        return self.slides_of(w.cohort)

    @cached_property
    def slide_names(self) -> list[str]:
        """Every ``cohort/sample``."""
        return [f"{self.plan.cohort_of[sample]}/{sample}" for sample in self.slides]

    def scope_samples(self, w: Wildcards) -> list[str]:
        """Return the slides that a clustering method is trained on."""
        return self.slides_of(w.cohort) if w.scope == COHORT else [w.scope]

    def scope_patches(self, w: Wildcards) -> list[str]:
        """Return the patches of these slides."""
        return self.plan.patches_of(self.scope_samples(w))

    def drawn_genes(self, w: Wildcards) -> list[str]:
        """Return the genes to draw in the UMAP."""
        return self.settings["genes"] or self.plan.config["cohorts"][w.cohort]["markers"]

    # --- Known domains ------------------------------------------------------------------------------------------------

    @cached_property
    def label_files(self) -> dict[str, str]:
        """Slide -> CSV with its known domains, for those whose counts do not hold them."""
        files = {sample: configuration.label_file(self.plan.config, sample) for sample in self.slides}
        return {sample: str(path) for sample, path in files.items() if path}

    def labels_of(self, w: Wildcards) -> str | list:
        """Return where the known domains of a slide are: in a CSV, or in its counts."""
        return self._labels(w.sample) if self.labels else []

    def labels_of_cohort(self, w: Wildcards) -> list[str]:
        """Return the known domains of all slides of a cohort, as a class has one colour on all of them."""
        return [self._labels(sample) for sample in self.slides_of(w.cohort) if self.labels]

    def _labels(self, sample: str) -> str:
        return self.label_files.get(sample, f"{self.plan.data}/st/{sample}.h5ad")

    # --- Spaces -------------------------------------------------------------------------------------------------------

    def kind(self, space: str) -> str:
        """Return the kind of the method that makes a space, ``baseline`` where there is none."""
        return self.plan.registered(space).kind if space in self.plan.config["methods"] else "baseline"

    def spaces_of_kind(self, *kinds: str) -> list[str]:
        """Return the spaces of some kinds."""
        return [space for space in self.spaces if self.kind(space) in kinds]

    @cached_property
    def kinds(self) -> dict[str, list]:
        """Space -> its kind, and what a clustering method is trained on."""
        methods = self.plan.config["methods"]
        return {space: [self.kind(space), methods.get(space, {}).get("scope")] for space in self.spaces}

    @cached_property
    def needs_embedding(self) -> bool:
        """Whether a baseline is made of images."""
        return any(space not in EXPRESSION_SPACES for space in self.spaces if space in BASELINE_SPACES)

    def seeds(self, space: str) -> list[int]:
        """Return the seeds of a space; baselines involve no chance and are made for the first one."""
        return self.plan.seeds_of(space) if self.kind(space) != "baseline" else self.plan.config["seeds"][:1]

    @cached_property
    def runs(self) -> list[list]:
        """Space and seed of each clustering; those in a baseline are seeded, too."""
        seeds = self.plan.config["seeds"]
        return [
            [space, seed]
            for space in self.spaces
            for seed in (seeds if self.kind(space) == "baseline" else self.seeds(space))
        ]

    def space_file(self, space: str, sample: str, seed: int) -> str:
        """Return a slide's spots in a space; one made for a single seed stands in for the others."""
        made = seed if seed in self.seeds(space) else self.seeds(space)[0]
        cohort = self.plan.cohort_of[sample]
        return f"{self.plan.results}/structure/{cohort}/spaces/{space}/seed{made}/{sample}.h5"

    def slide_spaces(self, w: Wildcards) -> list[str]:
        """Return a slide in every space, once for each of `runs`."""
        return [self.space_file(space, w.sample, seed) for space, seed in self.runs]

    def reference_spaces(self, w: Wildcards) -> list[str]:
        """Return the slides of `laid_out` in the reference space, first seed."""
        seed = self.plan.config["seeds"][0]
        return [self.space_file(self.spaces[0], sample, seed) for sample in self.laid_out(w)]

    def laid_out(self, w: Wildcards) -> list[str]:
        """Return the slides of a UMAP: one, or all of a cohort."""
        return [w.sample] if w.get("sample") else self.slides_of(w.cohort)

    @cached_property
    def first_spaces(self) -> list[str]:
        """All slides in all spaces, first seed."""
        seed = self.plan.config["seeds"][0]
        return [self.space_file(space, sample, seed) for space in self.spaces for sample in self.slides]

    # --- Models that embed slides -------------------------------------------------------------------------------------

    def scope(self, space: str, sample: str) -> str:
        """Return what the model behind a slide in a clustering method's space is trained on."""
        return COHORT if self.plan.config["methods"][space]["scope"] == COHORT else sample

    def tested_in(self, sample: str) -> tuple[str, int]:
        """Return protocol and number of the fold that tests a slide, under the first protocol of its cohort."""
        cohort = self.plan.cohort_of[sample]
        protocol = self.plan.config["cohorts"][cohort]["protocols"][0]
        return protocol, self.plan.tested_in[cohort, protocol, sample]

    def fold(self, w: Wildcards) -> str:
        """Return where a slide's spots stand as the space's method reads them."""
        if self.kind(w.space) == "clustering":
            return f"{self.plan.results}/structure/{w.cohort}/inputs/{self.scope(w.space, w.sample)}.h5"
        protocol, fold = self.tested_in(w.sample)
        return f"{self.plan.results}/folds/{w.cohort}/{protocol}/fold{fold}/fold.h5"

    def model(self, space: str, sample: str, seed: int) -> str:
        """Return the trained model that embeds a slide; of a retrieval method the one that has never seen it."""
        cohort = self.plan.cohort_of[sample]
        if self.kind(space) == "clustering":
            scope = self.scope(space, sample)
            return f"{self.plan.results}/structure/{cohort}/models/{space}/{scope}/seed{seed}"
        protocol, fold = self.tested_in(sample)
        return f"{self.plan.results}/models/{cohort}/{protocol}/{space}/fold{fold}/seed{seed}"

    def model_files(self, w: Wildcards) -> list[str]:
        """Return weights and description of the trained model that embeds a slide."""
        return [f"{self.model(w.space, w.sample, w.seed)}/{name}" for name in ("weights.safetensors", "model.json")]

    @cached_property
    def trainings(self) -> list[str]:
        """Every training behind a clustering method's spaces, as ``cohort/models/space/scope/seed0``."""
        return list(
            dict.fromkeys(
                f"{self.plan.cohort_of[sample]}/models/{space}/{self.scope(space, sample)}/seed{seed}"
                for space in self.spaces_of_kind("clustering")
                for sample in self.slides
                for seed in self.seeds(space)
            )
        )

    def shares_reference(self, cohort: str) -> bool:
        """Tell whether one model embeds all slides of a cohort in the reference space, so that one UMAP shows them."""
        reference, slides = self.spaces[0], self.slides_of(cohort)
        if len(slides) < 2 or self.kind(reference) == "baseline":
            return False
        return len({self.model(reference, sample, 0) for sample in slides}) == 1

    @cached_property
    def outputs(self) -> list[str]:
        """Tables, figures and pages of the tissue's structure."""
        tables = ["domains.csv", "domains.md", "domains.tex", "variable_genes.csv", "variable_genes.md"]
        names = [f"tables/{name}" for name in tables if self.slides]
        for slide in self.slide_names:
            names += [f"figures/structure/{slide}_{drawn}.png" for drawn in ("domains", "umap", "variable_genes")]
            names.append(f"structure/{slide}/page.html")
        drawn = [cohort for cohort in self.cohorts if self.shares_reference(cohort)]
        return names + [f"figures/structure/{cohort}/umap.png" for cohort in drawn]
