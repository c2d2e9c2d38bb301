"""Claims about ResNet50 without its last stage, which the HEST benchmark reports as ResNet50."""

import torch
from timm import create_model

from spotwise.models.encoders import frozen_encoder


def test_features_are_the_average_of_the_third_stage(no_hub):
    torch.manual_seed(0)
    model, loaded = frozen_encoder("ResNet50-stage3", "no")
    assert not loaded
    assert model.num_features == 1024
    reference = create_model("resnet50.tv_in1k", features_only=True, out_indices=[3])
    mine = model.state_dict()
    shared = {name: value for name, value in mine.items() if not name.startswith("layer4")}
    missing = reference.load_state_dict(shared, strict=False)
    assert not missing.unexpected_keys
    assert all(name.startswith("layer4") for name in missing.missing_keys)
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        expected = reference.eval()(images)[0].mean(dim=(2, 3))
        torch.testing.assert_close(model.eval()(images), expected)


def test_images_are_normalised_as_for_the_whole_model(no_hub):
    whole, part = (frozen_encoder(name, "no")[0] for name in ("resnet50.tv_in1k", "resnet50-stage3"))
    for key in ("mean", "std", "input_size"):
        assert part.pretrained_cfg[key] == whole.pretrained_cfg[key]
