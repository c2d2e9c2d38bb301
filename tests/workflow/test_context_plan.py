"""What methods of context need: squares of the right sizes, and slides to cut them from."""

import pytest
from planning import planned, wildcards

from spotwise.errors import InputError
from spotwise.workflow import ContextPlan


def test_an_encoder_describes_the_squares_of_all_its_methods(tmp_path):
    methods = {
        "Ridge": {"encoder": "mine"},
        "ContextRidge": {"encoder": "mine", "options": {"fields": "112-448"}},
        "Wide": {"model": "ContextRidge", "encoder": "mine", "options": {"fields": "112-224"}},
        "Patch": {"model": "ContextRidge", "encoder": "other"},
    }
    encoders = {name: {"timm": "resnet18"} for name in ("mine", "other")}
    plan = planned(tmp_path, methods=methods, encoders=encoders, structure=None)
    folders = [plan.features(wildcards(method=method)) for method in methods]
    assert folders == ["embeddings/mine", "context/mine", "context/mine", "context/other"]
    context = ContextPlan(plan)
    encoders = [wildcards(sample="A1", encoder=encoder) for encoder in ("mine", "other")]
    assert [context.fields_of_encoder(encoder) for encoder in encoders] == [[112, 224, 448], [112]]
    assert [context.slide(encoder) for encoder in encoders] == ["data/wsis/A1.tif", []]
    assert list(plan.timed_embeddings) == ["mine", "mine, context", "other, context"]
    assert plan.timed_embeddings["mine, context"][0] == "embed_context/mine/A1.tsv"


@pytest.mark.parametrize(("source", "remedy"), [("huggingface", ", or data.images: slides"), ("local", "")])
def test_squares_beyond_the_patch_need_slides(tmp_path, source, remedy):
    methods = {"ContextRidge": {"encoder": "mine", "options": {"fields": "112-224"}}}
    data = {"source": source, "root": str(tmp_path / "data"), "images": "patches"}
    data |= {"revision": 40 * "0"} if source == "huggingface" else {}

    def context(**changes):
        return ContextPlan(planned(tmp_path, methods=methods, structure=None, data=data | changes))

    with pytest.raises(InputError) as refused:
        context().require_slides("my.yaml")
    assert str(refused.value) == (
        "my.yaml: methods.ContextRidge.options.fields: found '112-224', expected 112, as A1 comes with patches of that "
        f"size and no slide{remedy}"
    )
    context(images="slides").require_slides("my.yaml")
