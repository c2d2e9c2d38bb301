"""Claims about frozen encoders: their sizes, their pooling, and where their weights may come from."""

import logging
from collections import Counter

import huggingface_hub
import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.layers import SwiGLUPacked
from torch import nn
from torch.nn import functional

from spotwise.errors import InputError, SetupError
from spotwise.models import pathology
from spotwise.models.encoders import frozen_encoder
from spotwise.models.pathology import PATHOLOGY, ClassTokenAndPatchMean, CONCHVision, GenBioPathFM, Published, published
from spotwise.models.pretrained_weights import load_checkpoint

SWIGLU = {"mlp_layer": SwiGLUPacked, "act_layer": nn.SiLU}
HUGE = {"init_values": 1e-5, "mlp_ratio": 5.3375, "global_pool": "", **SWIGLU}
SMALL = {"patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2}


# Sizes


@pytest.mark.parametrize(
    ("name", "width", "parameters"),
    [
        ("UNI", 1024, 303_350_784),
        ("UNI2-h", 1536, 681_394_176),
        ("Virchow", 2560, 631_229_184),
        ("Virchow2", 2560, 631_239_424),
        ("H-optimus-0", 1536, 1_134_774_272),
        ("H-optimus-1", 1536, 1_134_774_272),
        ("Prov-GigaPath", 1536, 1_134_953_984),
        # 40 blocks of attention, gated layers, norms and scales, the patch embedding, 5 tokens and the last norm
        (
            "GenBio-PathFM",
            4608,
            40 * (4 * 1536**2 + 1536 + 3 * 1536 * 4096 + 2 * 4096 + 1536 + 6 * 1536) + 257 * 1536 + 5 * 1536 + 2 * 1536,
        ),
        ("H0-mini", 1536, 85_739_520),  # published as 85.7 M
        ("Lunit-ViT-S8", 384, 86_681_088 // 4),  # bytes of float32 in its file
        # CONCH has 395,232,769: 110,129,664 read text, 194,710,272 write it, 1 is the temperature; of the image tower's
        # 90,392,832, 262,144 project to the text and 2,563,584 pool for captions.
        ("CONCH", 512, 395_232_769 - 110_129_664 - 194_710_272 - 1 - 262_144 - 2_563_584),
    ],
)
def test_encoders_have_the_published_width_and_number_of_parameters(name, width, parameters):
    with torch.device("meta"):
        module = PATHOLOGY[name].build()
        features = module(torch.empty(2, *module.pretrained_cfg["input_size"]))
    assert features.shape == (2, width)
    assert module.num_features == width
    assert sum(parameter.numel() for parameter in module.parameters()) == parameters


@pytest.mark.parametrize(
    ("name", "architecture", "settings"),
    [
        ("UNI", "vit_large_patch16_224", {"init_values": 1e-5}),
        ("Lunit-ViT-S8", "vit_small_patch8_224", {}),
        (
            "H0-mini",
            "vit_base_patch14_reg4_dinov2",
            {"img_size": 224, "mlp_ratio": 5.33334, "global_pool": ""} | SWIGLU,
        ),
        ("Virchow", "vit_huge_patch14_224", HUGE),
        ("Virchow2", "vit_huge_patch14_224", HUGE | {"reg_tokens": 4}),
        ("H-optimus-0", "vit_giant_patch14_reg4_dinov2", {"img_size": 224, "global_pool": "token"}),
        ("Prov-GigaPath", "vit_giant_patch14_dinov2", {"img_size": 224, "patch_size": 16, "mlp_ratio": 5.33334}),
        (
            "UNI2-h",
            "vit_giant_patch14_224",
            {"img_size": 224, "patch_size": 14, "depth": 24, "num_heads": 24, "embed_dim": 1536, "reg_tokens": 8}
            | {"mlp_ratio": 2.66667 * 2, "init_values": 1e-5, "no_embed_class": True, **SWIGLU},
        ),
    ],
)
def test_encoders_are_what_their_cards_have_timm_build(name, architecture, settings):
    """The same entries of the same shapes, and the same layers, down to their epsilon and activation."""
    with torch.device("meta"):
        module = PATHOLOGY[name].build()
        card = timm.create_model(architecture, pretrained=False, num_classes=0, **settings)
    shapes = [{key: value.shape for key, value in one.state_dict().items()} for one in (module, card)]
    assert shapes[0] == shapes[1]
    layers = [Counter(repr(part) for part in one.modules() if not list(part.children())) for one in (module, card)]
    assert layers[0] == layers[1]
    attention = [[(block.attn.num_heads, block.attn.scale) for block in one.blocks] for one in (module, card)]
    assert attention[0] == attention[1]


def test_images_are_normalised_as_the_cards_say():
    imagenet = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    bioptimus = ((0.707223, 0.578729, 0.703617), (0.211883, 0.230117, 0.177517))
    clip = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
    others = {"H-optimus-0": bioptimus, "H-optimus-1": bioptimus, "H0-mini": bioptimus, "CONCH": clip}
    others["GenBio-PathFM"] = ((0.697, 0.575, 0.728), (0.188, 0.240, 0.187))
    others["Lunit-ViT-S8"] = ((0.70322989, 0.53606487, 0.66096631), (0.21716536, 0.26081574, 0.20723464))
    for name, encoder in PATHOLOGY.items():
        assert (encoder.mean, encoder.std) == others.get(name, imagenet)
        assert encoder.px == (448 if name == "CONCH" else 224)


@pytest.mark.parametrize("name", ["UNI", "uni", "hf-hub:MahmoodLab/UNI", "hf_hub:mahmoodlab/uni"])
def test_an_encoder_is_known_by_its_short_name_and_its_repository(name):
    assert published(name) is PATHOLOGY["UNI"]
    assert published("hf-hub:someone/UNI") is None
    assert published("resnet50") is None


# Pooling


@pytest.mark.parametrize("registers", [0, 4])
def test_virchow_is_its_class_token_and_the_mean_of_its_patch_tokens(registers):
    torch.manual_seed(0)
    module = ClassTokenAndPatchMean(img_size=24, num_classes=0, reg_tokens=registers, **SMALL).eval()
    images = torch.randn(3, 3, 24, 24)
    with torch.no_grad():
        tokens = module.forward_features(images)
        assert tokens.shape == (3, 1 + registers + 9, 16)
        by_hand = torch.cat([tokens[:, 0], sum(tokens[:, 1 + registers + place] for place in range(9)) / 9], dim=1)
        torch.testing.assert_close(module(images), by_hand)


def test_the_other_transformers_are_their_class_token_after_the_last_norm():
    torch.manual_seed(0)
    module = Published("", SMALL | {"reg_tokens": 4, "no_embed_class": True}, px=24).build().eval()
    nn.init.normal_(module.norm.weight)
    images = torch.randn(3, 3, 24, 24)
    with torch.no_grad():
        tokens = module.patch_embed(images) + module.pos_embed  # only patches have a place
        tokens = torch.cat([module.cls_token.expand(3, -1, -1), module.reg_token.expand(3, -1, -1), tokens], dim=1)
        for block in module.blocks:
            tokens = block(tokens)
        torch.testing.assert_close(module(images), module.norm(tokens[:, 0]))


def random_conch():
    torch.manual_seed(0)
    module = CONCHVision(dim=24, img_size=24, num_classes=0, **SMALL).eval()
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)
    return module


def test_conch_pools_by_the_attention_of_one_query_in_eight_heads():
    module = random_conch()
    weights = module.state_dict()
    images = torch.randn(3, 3, 24, 24)
    with torch.no_grad():
        tokens = module.trunk.forward_features(images)  # (3, 10, 16)
        found = module(images)

    def pool(name):
        return weights[f"attn_pool_contrast.{name}"]

    def norm(x, name):
        return functional.layer_norm(x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"])

    keys = norm(tokens, "attn_pool_contrast.ln_k")
    query = norm(pool("query"), "attn_pool_contrast.ln_q")[0]
    for_query, for_key, for_value = pool("attn.in_proj_bias").chunk(3)
    q = pool("attn.q_proj_weight") @ query + for_query
    k, v = keys @ pool("attn.k_proj_weight").T + for_key, keys @ pool("attn.v_proj_weight").T + for_value
    heads = []
    for head in range(8):
        part = slice(3 * head, 3 * head + 3)
        share = (k[..., part] @ q[part] / 3**0.5).softmax(dim=1)  # (3, 10)
        heads.append((share[..., None] * v[..., part]).sum(dim=1))
    pooled = torch.cat(heads, dim=1) @ pool("attn.out_proj.weight").T + pool("attn.out_proj.bias")
    torch.testing.assert_close(found, norm(pooled, "ln_contrast"), rtol=1e-4, atol=1e-4)


def random_genbio(dim=64, heads=2, depth=2, hidden=192):
    """Draw weights of a small GenBio-PathFM in its published layout; 4 x 4 patches of 8 px."""
    generator = torch.Generator().manual_seed(3)
    block = {"norm1.weight": (dim,), "norm1.bias": (dim,), "norm2.weight": (dim,), "norm2.bias": (dim,)}
    block |= {"attn.qkv.weight": (3 * dim, dim), "attn.proj.weight": (dim, dim), "attn.proj.bias": (dim,)}
    block |= {"ls1.gamma": (dim,), "ls2.gamma": (dim,), "mlp.w3.weight": (dim, hidden), "mlp.w3.bias": (dim,)}
    block |= {f"mlp.{one}.weight": (hidden, dim) for one in ("w1", "w2")}
    block |= {f"mlp.{one}.bias": (hidden,) for one in ("w1", "w2")}
    shapes = {"cls_token": (1, 1, dim), "storage_tokens": (1, 4, dim), "norm.weight": (dim,), "norm.bias": (dim,)}
    shapes |= {"patch_embed.proj.weight": (dim, 1, 8, 8), "patch_embed.proj.bias": (dim,)}
    shapes |= {f"blocks.{number}.{name}": shape for number in range(depth) for name, shape in block.items()}
    shapes["rope_embed.periods"] = (dim // heads // 4,)
    return {name: 0.3 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def genbio_class_token(weights, image, heads=2, depth=2):
    """Compute the class token (B, D) of images (B, 1, 32, 32) from published weights, step by step."""

    def linear(x, name):
        return functional.linear(x, weights[f"{name}.weight"], weights.get(f"{name}.bias"))

    def norm(x, name):
        return functional.layer_norm(x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"], eps=1e-6)

    patches = functional.conv2d(image, weights["patch_embed.proj.weight"], weights["patch_embed.proj.bias"], stride=8)
    grid = patches.shape[-1]
    extra = [weights[name].expand(len(image), -1, -1) for name in ("cls_token", "storage_tokens")]
    x = torch.cat([*extra, patches.flatten(2).transpose(1, 2)], dim=1)
    size = x.shape[-1] // heads
    centres = 2 * (torch.arange(grid) + 0.5) / grid - 1
    place = torch.cartesian_prod(centres, centres)  # row, column
    periods = 100 ** (torch.arange(size // 4) / (size // 4))
    angle = (2 * torch.pi * place[:, :, None] / periods).flatten(1).repeat(1, 2)  # (patches, size)
    angle = torch.cat([torch.zeros(5, size), angle])  # class and storage tokens have no place

    def turn(one):
        first, second = one.chunk(2, dim=-1)
        return one * angle.cos() + torch.cat([-second, first], dim=-1) * angle.sin()

    for at in (f"blocks.{number}." for number in range(depth)):
        parts = linear(norm(x, f"{at}norm1"), f"{at}attn.qkv").unflatten(-1, (3, heads, size))
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        share = (turn(query) @ turn(key).transpose(-1, -2) / size**0.5).softmax(dim=-1)
        mixed = (share @ value).transpose(1, 2).flatten(2)
        x = x + weights[f"{at}ls1.gamma"] * linear(mixed, f"{at}attn.proj")
        inside = norm(x, f"{at}norm2")
        gated = functional.silu(linear(inside, f"{at}mlp.w1")) * linear(inside, f"{at}mlp.w2")
        x = x + weights[f"{at}ls2.gamma"] * linear(gated, f"{at}mlp.w3")
    return norm(x, "norm")[:, 0]


def test_genbio_is_the_class_tokens_of_its_three_colours(tmp_path):
    weights = random_genbio()
    sizes = {"patch_size": 8, "embed_dim": 64, "depth": 2, "num_heads": 2, "num_reg_tokens": 4, "init_values": 1e-5}
    module = GenBioPathFM(img_size=32, num_classes=0, **sizes).eval()
    load_checkpoint(module, write(weights, tmp_path / "model.pth"), "GenBio-PathFM")
    images = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        found = module(images)
        by_hand = torch.cat([genbio_class_token(weights, images[:, [colour]]) for colour in range(3)], dim=1)
    assert found.shape == (3, 3 * 64)
    torch.testing.assert_close(found, by_hand, rtol=1e-4, atol=1e-4)


def test_timms_encoders_pool_as_they_were_published():
    """Another pooling than its own would cost a vision transformer its last norm, whose weights have another name."""
    module, _ = frozen_encoder("vit_tiny_patch16_224", "no")
    images = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        torch.testing.assert_close(module.eval()(images), module.forward_features(images)[:, 0])
    assert frozen_encoder("resnet10t", "no")[0].global_pool.pool_type == "avg"


def test_ctranspath_is_known_by_name(monkeypatch):
    requested = []
    monkeypatch.setattr("spotwise.models.encoders.ctranspath_encoder", lambda *given: requested.append(given) or "it")
    assert frozen_encoder("CTransPath", "required", "its.pth") == "it"
    assert requested == [("required", "its.pth")]


# Weights from a file


@pytest.fixture
def small(monkeypatch):
    """Pathology encoders of the three kinds, small."""
    kinds = {
        "Token": Published("lab/token", SMALL, px=24),
        "Pair": Published("lab/pair", SMALL | {"reg_tokens": 4}, ClassTokenAndPatchMean, px=24),
        "Tower": Published("lab/tower", SMALL | {"dim": 24}, CONCHVision, px=24),
    }
    monkeypatch.setattr(pathology, "PATHOLOGY", kinds)
    return kinds


def trained(name):
    """Weights that no fresh encoder has, in the layout that their authors publish."""
    weights = frozen_encoder(name, "no")[0].state_dict()
    generator = torch.Generator().manual_seed(1)
    weights = {
        key: torch.randn(value.shape, generator=generator) if value.is_floating_point() else value
        for key, value in weights.items()
    }
    if name != "Tower":
        return weights
    rest = {"text.cls_emb": 3, "visual.proj_contrast": 24, "visual.attn_pool_caption.query": 4, "logit_scale": 1}
    whole = {f"visual.{key}": value for key, value in weights.items()}
    return whole | {key: torch.randn(size, generator=generator) for key, size in rest.items()}


def write(weights, path):
    if path.suffix == ".safetensors":
        save_file(weights, path)
    else:
        torch.save(weights, path)
    return str(path)


@pytest.mark.usefixtures("small", "no_hub")
@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
@pytest.mark.parametrize("name", ["Token", "Pair", "Tower", "resnet10t"])
def test_a_checkpoint_is_loaded_entry_by_entry(tmp_path, name, suffix):
    weights = trained(name)
    module, loaded = frozen_encoder(name, "required", write(weights, tmp_path / f"weights{suffix}"))
    assert loaded
    for key, value in module.state_dict().items():
        assert torch.equal(value, weights[key if name != "Tower" else f"visual.{key}"])


@pytest.mark.usefixtures("no_hub")
def test_a_classifier_in_a_checkpoint_is_left_out(tmp_path):
    whole = timm.create_model("resnet10t", pretrained=False).state_dict()
    assert "fc.weight" in whole
    module, _ = frozen_encoder("resnet10t", "required", write({"state_dict": whole}, tmp_path / "weights.pth"))
    assert torch.equal(module.state_dict()["layer4.0.conv1.weight"], whole["layer4.0.conv1.weight"])


@pytest.mark.usefixtures("small", "no_hub")
@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda w: w.pop("norm.weight"), r"norm\.weight: found nothing, expected \(16,\), as in Token"),
        (lambda w: w.update(reg_token=torch.zeros(1, 4, 16)), r"reg_token: found \(1, 4, 16\), expected nothing"),
        (
            lambda w: w.update(pos_embed=torch.zeros(1, 17, 16)),
            r"pos_embed: found \(1, 17, 16\), expected \(1, 10, 16\)",
        ),
    ],
)
def test_a_checkpoint_of_another_encoder_is_one_clear_error(tmp_path, change, complaint):
    weights = trained("Token")
    change(weights)
    with pytest.raises(InputError, match=rf"weights\.pth: {complaint}") as caught:
        frozen_encoder("Token", "if_available", write(weights, tmp_path / "weights.pth"))
    assert "\n" not in str(caught.value)


class Code:
    """Something that a checkpoint must not bring along."""

    def __reduce__(self):
        return pytest.fail, ("code of a checkpoint was run",)


@pytest.mark.usefixtures("small", "no_hub")
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_checkpoint_that_cannot_be_read_is_one_clear_error(tmp_path, suffix):
    path = tmp_path / f"weights{suffix}"
    with pytest.raises(InputError, match="no such file"):
        frozen_encoder("Token", "required", str(path))
    path.write_bytes(b"no weights\n" * 9)
    with pytest.raises(InputError, match="cannot be read") as caught:
        frozen_encoder("Token", "required", str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("small", "no_hub")
def test_code_in_a_checkpoint_is_not_run(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        frozen_encoder("Token", "required", write({"norm.weight": Code()}, tmp_path / "weights.pth"))


@pytest.mark.usefixtures("small")
def test_a_checkpoint_that_is_not_wanted_is_refused():
    with pytest.raises(InputError, match="pretrained: found 'no' with a checkpoint"):
        frozen_encoder("Token", "no", "weights.pth")


# Weights from the hub


@pytest.fixture
def no_hub(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("the hub was contacted")

    monkeypatch.setattr(huggingface_hub, "get_session", refuse)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", refuse)


class RefusalError(OSError):
    """What the hub's client raises, as far as anyone looks at it."""

    def __init__(self, status, message):
        super().__init__(message)
        self.response = type("Response", (), {"status_code": status})()


class Hub:
    """Stands for the hub and its client: one repository's weights, or a problem."""

    def __init__(self):
        self.file, self.problem, self.requested = None, None, []

    def head(self, *_, **__):
        """Be there."""

    def download(self, repository, file, repo_type, token):
        assert repo_type == "model"
        self.requested.append((repository, file, token))
        if self.problem:
            raise self.problem
        return self.file


@pytest.fixture
def hub(monkeypatch):
    hub = Hub()
    monkeypatch.setattr(huggingface_hub, "get_session", lambda: hub)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", hub.download)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    return hub


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("name", ["Pair", "hf-hub:lab/pair"])
def test_published_weights_come_from_the_encoders_repository(hub, tmp_path, monkeypatch, name):
    weights = trained("Pair")
    hub.file = write(weights, tmp_path / "pytorch_model.bin")
    module, loaded = frozen_encoder(name, "required")
    assert loaded
    assert torch.equal(module.state_dict()["norm.bias"], weights["norm.bias"])
    monkeypatch.setenv("HF_TOKEN", "hf_ofTheTests")
    frozen_encoder(name, "if_available")
    file = ("lab/pair", "pytorch_model.bin")
    assert hub.requested == [(*file, False), (*file, "hf_ofTheTests")]  # False: no token of this machine's user


@pytest.mark.usefixtures("small", "no_hub")
def test_random_weights_need_no_hub():
    assert not frozen_encoder("Pair", "no")[1]
    assert not frozen_encoder("resnet10t", "no")[1]


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("status", [401, 403])
def test_a_gated_repository_is_one_line_that_says_what_to_do(hub, status):
    hub.problem = RefusalError(status, "Client Error. (Request ID: x)\n\nCannot access gated repo\nPlease log in.")
    expected = (
        rf"no pretrained weights for Token at lab/token \(the hub refuses access, status {status}\); "
        r"accept the terms at https?://\S+/lab/token and set HF_TOKEN to a token of that account"
    )
    with pytest.raises(SetupError, match=expected) as caught:
        frozen_encoder("Token", "required")
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.usefixtures("small")
def test_weights_that_cannot_be_had_are_random_and_said_to_be_where_that_is_allowed(hub, caplog):
    hub.problem = RefusalError(403, "gated")
    with caplog.at_level(logging.WARNING):
        module, loaded = frozen_encoder("Token", "if_available")
    assert not loaded
    assert isinstance(module, nn.Module)
    (message,) = caplog.messages
    assert (
        message
        == "Token starts from random weights, as none are available at lab/token: the hub refuses access, status 403"
    )


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("pretrained", ["required", "if_available"])
def test_weights_that_do_not_fit_are_never_replaced_by_random_ones(hub, tmp_path, pretrained):
    hub.file = write(trained("Pair"), tmp_path / "pytorch_model.bin")
    with pytest.raises(InputError, match="as in lab/token"):
        frozen_encoder("Token", pretrained)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("status", [None, 403])
def test_the_token_is_in_no_message(hub, monkeypatch, caplog, capfd, status):
    """An illegal header is repeated in the transport's complaint, token included."""
    monkeypatch.setenv("HF_TOKEN", "hf_secretOfTheTests")
    hub.problem = RefusalError(status, "Illegal header value b'Bearer hf_secretOfTheTests'")
    with caplog.at_level(logging.DEBUG):
        frozen_encoder("Token", "if_available")
        with pytest.raises(SetupError) as caught:
            frozen_encoder("Token", "required")
    output = [*caplog.messages, str(caught.value), *capfd.readouterr()]
    assert any("random weights" in line for line in output)
    assert not any("secret" in line for line in output)


# Names


def test_an_unknown_name_is_refused_with_those_that_are_known():
    with pytest.raises(
        InputError,
        match=r"found 'resnt50', expected imagenet-small, UNI, .*, CONCH, .*, ctranspath, .*, the name of a timm model",
    ):
        frozen_encoder("resnt50", "no")
    with pytest.raises(InputError, match=r"resnet50\.imagenet"):
        frozen_encoder("resnet50.imagenet", "no")


def test_any_timm_model_of_the_hub_will_do(hub, monkeypatch):
    requested = []
    monkeypatch.setattr(timm, "create_model", lambda name, **given: requested.append((name, given)) or nn.Identity())
    assert frozen_encoder("hf-hub:lab/another", "required")[1]
    assert requested == [("hf-hub:lab/another", {"pretrained": True, "num_classes": 0})]


def test_a_model_that_the_hub_does_not_describe_cannot_be_built(monkeypatch, hub):
    def offline(*_, **__):
        raise RefusalError(None, "no config.json in the cache")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(
        SetupError, match=r"timm cannot build hf-hub:lab/another \(RefusalError: no config\.json in the cache\)"
    ):
        frozen_encoder("hf-hub:lab/another", "if_available")
    assert not huggingface_hub.constants.HF_HUB_OFFLINE
