"""The plan of context features: the squares that each encoder describes, and the slides that they are cut from."""

from __future__ import annotations

from spotwise.constants import PATCH_UM
from spotwise.data import hest
from spotwise.errors import InputError
from spotwise.models.options import stages
from spotwise.workflow.plan import Plan, Wildcards


class ContextPlan:
    """What the methods of a run ask of context features; nothing where none uses them.

    Parameters
    ----------
    plan
        The plan of the run.

    Attributes
    ----------
    fields
        Method -> sides in micrometres of the squares that it describes.
    """

    def __init__(self, plan: Plan):
        self.plan = plan
        methods = [name for name in plan.config["methods"] if plan.registered(name).has_context]
        self.fields = {name: stages(plan.config["methods"][name]["options"]["fields"]) for name in methods}

    def require_slides(self, where: str) -> None:
        """Check that every sample has a slide if squares other than patches are wanted.

        ``where`` are the files of the configuration, for messages.

        Raises
        ------
        InputError
            A sample comes with patches alone.
        """
        wide = [name for name, fields in self.fields.items() if set(fields) - {PATCH_UM}]
        local = self.plan.config["data"]["source"] == "local"
        for sample in self.plan.samples if wide else ():
            has_slide = local and hest.sample_files(self.plan.data, sample).slide.exists()
            if self.plan.has_patches(sample) and not has_slide:
                found = "-".join(map(str, self.fields[wide[0]]))
                expected = f"{PATCH_UM}, as {sample} comes with patches of that size and no slide"
                remedy = "" if local else ", or data.images: slides"
                raise InputError(where, f"methods.{wide[0]}.options.fields", repr(found), expected + remedy)

    def fields_of_encoder(self, w: Wildcards) -> list[int]:
        """Return the sides in micrometres of all squares that an encoder describes."""
        methods = self.plan.config["methods"]
        return sorted(
            {side for name in self.fields if methods[name]["encoder"] == w.encoder for side in self.fields[name]}
        )

    def slide(self, w: Wildcards) -> str | list:
        """Return the slide of a sample where squares other than patches are described."""
        return self.plan.slide(w) if set(self.fields_of_encoder(w)) - {PATCH_UM} else []
