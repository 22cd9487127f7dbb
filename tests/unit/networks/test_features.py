"""Extractors and perceptual distances: independent programs, quantisation, frozen networks, absent weights."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from latent_lab import images as conversions
from latent_lab.networks.extraction import truncated
from latent_lab.networks.face_age import DlibAgeNetwork, age_box, expected_age
from latent_lab.networks.face_identity import BOXES, DlibFaceNetwork, find_identity
from latent_lab.networks.features import INCEPTION, InceptionExtractor, Viewing, find_extractor
from latent_lab.networks.perceptual import find_perceptual
from latent_lab.networks.pretrained import FrozenNetwork, sha256_of


@pytest.fixture(autouse=True)
def _only_the_weights_of_the_test(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("LATENT_LAB_WEIGHTS", raising=False)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))


def pictures(count: int, resolution: int = 32, seed: int = 0) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    return conversions.from_bytes(
        torch.randint(0, 256, (count, 3, resolution, resolution), dtype=torch.uint8, generator=rng)
    )


def weights_folder(shared: Path, name: str) -> Path:
    folder = shared / "data" / name
    if not folder.is_dir():
        pytest.skip(f"the weights are not here: there is no folder {folder}")
    return folder


def module_from(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def inception_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights in the layout of the published file; batch statistics keep the signal alive through the depth."""
    inceptionv3 = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")
    network_class = inceptionv3.FeatureExtractorInceptionV3
    with (
        mock.patch.object(inceptionv3, "load_state_dict_from_url", return_value={}),
        mock.patch.object(network_class, "load_state_dict"),
        torch.random.fork_rng(devices=[]),
    ):
        torch.manual_seed(0)
        network = network_class("random", ["2048"])
    path = tmp_path_factory.mktemp("weights") / "pt_inception-2015-12-05-6726825d.pth"
    state = {
        name: value * 3.0 if name.endswith("conv.weight") else value for name, value in network.state_dict().items()
    }
    torch.save(state, path)
    return path


# EfficientNet-Lite0


def test_efficientnet_lite_agrees_with_the_module_that_documents_its_weights(shared: Path) -> None:
    folder = weights_folder(shared, "weights_imagenet")
    theirs_module = module_from(folder / "load_imagenet.py")
    theirs = theirs_module.load(folder / "efficientnet_lite0.fp16.safetensors", theirs_module.EfficientNetLite0)
    x = pictures(6)
    with torch.no_grad():
        features, logits = theirs.features(theirs.preprocess(x)), theirs(theirs.preprocess(x))
    found = find_extractor("efflite0", folder).observe(x)
    torch.testing.assert_close(found.features, features, atol=1e-4, rtol=0)
    torch.testing.assert_close(found.logits, logits, atol=1e-3, rtol=0)


def test_efficientnet_lite_is_found_by_auto_and_never_bears_the_name_of_fid(
    shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LATENT_LAB_WEIGHTS", str(weights_folder(shared, "weights_imagenet").parent))
    extractor = find_extractor("auto")
    assert (extractor.name, extractor.canonical, extractor.num_features) == ("efflite0", False, 1280)
    assert (extractor.label, extractor.num_classes) == ("efflite0", 1000)
    assert extractor.sha256.startswith("1109a716bbb9f024")
    assert find_extractor("efflite0") is extractor, "weights are loaded once per process"


# Inception


def test_inception_with_tf1_resize_equals_torch_fidelity_on_bytes(inception_file: Path) -> None:
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    layers = ["2048", "logits_unbiased"]
    theirs = FeatureExtractorInceptionV3("theirs", layers, feature_extractor_weights_path=str(inception_file))
    x = pictures(2)
    ours = find_extractor("inception", inception_file, resize="tf1").observe(x)
    for found, expected in zip(ours, theirs(conversions.to_bytes(x)), strict=True):
        assert expected.std() > 0
        assert found is not None
        # Batch norms that are folded into the convolutions round otherwise.
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4 * expected.abs().max().item())


def test_inception_with_other_weights_does_not_bear_the_canonical_name(inception_file: Path) -> None:
    extractor = find_extractor("inception", inception_file.parent)
    assert not extractor.canonical
    assert extractor.name == extractor.label == f"inception_{sha256_of(inception_file)[:8]}"
    assert extractor(pictures(1, 40)).shape == (1, 2048)
    assert extractor.describe()["resize"] == "clean to 299x299"


@pytest.mark.parametrize(
    ("options", "canonical", "label"),
    [
        ({}, True, "inception"),
        ({"resize": "tf1"}, True, "inception_tf1"),
        ({"precision": "bfloat16"}, False, "inception_bf16"),
        ({"quantisation": "truncate"}, False, "inception_truncate"),
        ({"resize": "torch", "quantisation": "none"}, False, "inception_torch_unrounded"),
    ],
)
def test_inception_is_canonical_with_the_published_file_in_float32_and_with_rounding_alone(
    inception_file: Path, options: dict[str, str], canonical: bool, label: str
) -> None:
    extractor = InceptionExtractor(inception_file, INCEPTION.sha256, Viewing(**options))
    assert (extractor.canonical, extractor.label) == (canonical, label)


def test_inception_in_bfloat16_deviates_little_in_features_and_in_their_distance(inception_file: Path) -> None:
    x = torch.cat([pictures(6, 16), pictures(6, 16, seed=1) * 0.5])
    exact = find_extractor("inception", inception_file)(x)
    rough = find_extractor("inception", inception_file, precision="bfloat16")(x)
    assert rough.dtype == torch.float32
    # Eight binary digits in each of some 20 layers: per cent of the spread, not tenths.
    assert (rough - exact).std() < 0.05 * exact.std(0).mean()
    distances = [frechet_distance(of[:6], of[6:]) for of in (exact, rough)]
    assert distances[1] == pytest.approx(distances[0], rel=0.05)


def frechet_distance(a: torch.Tensor, b: torch.Tensor) -> float:
    """Tr sqrt(A B) is the nuclear norm of the product of centred rows, over n - 1 (Frechet distance of samples)."""
    a, b = a.double(), b.double()
    x, y = a - a.mean(0), b - b.mean(0)
    share = 1.0 / (len(a) - 1)
    traces = share * (x.square().sum() + y.square().sum())
    shared = 2.0 * share * torch.linalg.svdvals(x @ y.T).sum()
    return ((a.mean(0) - b.mean(0)).square().sum() + traces - shared).item()


def test_a_damaged_layer_of_the_file_is_named(inception_file: Path, tmp_path: Path) -> None:
    weights = torch.load(inception_file, weights_only=True)
    del weights["Mixed_5b.branch1x1.bn.running_var"]
    torch.save(weights, tmp_path / "damaged.pth")
    with pytest.raises(ValueError, match=r"does not hold the FID Inception.*Mixed_5b\.branch1x1\.bn\.running_var"):
        find_extractor("inception", tmp_path / "damaged.pth")


def test_torchvisions_inception_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "inception_v3_google-0cc3c7bd.pth"
    torch.save({"AuxLogits.conv0.conv.weight": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match="torchvision's Inception is another network"):
        find_extractor("inception", path)


def test_a_file_that_would_run_code_is_refused_before_it_is_opened_fully(tmp_path: Path) -> None:
    path = tmp_path / "pt_inception-2015-12-05-6726825d.pth"
    torch.save({"fc.weight": Path("/")}, path)
    with pytest.raises(ValueError, match="does not hold the FID Inception"):
        find_extractor("inception", path)


def test_absent_inception_is_explained_in_one_sentence() -> None:
    with pytest.raises(ValueError, match=r"was not found: put pt_inception-2015-12-05-6726825d\.pth") as error:
        find_extractor("inception")
    for part in ("https://github.com/mseitzer/pytorch-fid/", "LATENT_LAB_WEIGHTS", "give the file's path"):
        assert part in str(error.value)


def test_a_download_that_fails_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*args: object, **kwargs: object) -> None:
        assert str(kwargs["hash_prefix"]).startswith("6726825d0af5")
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    with pytest.raises(ValueError, match=r"could not be downloaded \(no network\)"):
        find_extractor("inception", download=True)


def test_a_path_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="were expected at"):
        find_extractor("inception", tmp_path)


# VGG-16


@pytest.fixture(scope="module")
def vgg16_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The published layout; the large layers repeat one column, of which a file needs to hold one."""
    from torchvision import models

    rng = torch.Generator().manual_seed(0)
    with torch.device("meta"):
        layout = models.vgg16().state_dict()
    weights = {}
    for name, value in layout.items():
        shape, fan_in = value.shape, value[0].numel()
        if len(shape) == 2:
            weights[name] = (torch.rand(shape[0], 1, generator=rng) / fan_in).expand(shape)
        else:
            weights[name] = torch.randn(shape, generator=rng) * (2.0 / max(fan_in, 2)) ** 0.5
    path = tmp_path_factory.mktemp("weights") / "vgg16-397923af.pth"
    torch.save(weights, path)
    return path


def test_vgg16_gives_the_second_hidden_layer_and_the_classes_of_torchvisions_network(vgg16_file: Path) -> None:
    from torchvision import models
    from torchvision.transforms.functional import normalize

    with torch.device("meta"):
        theirs = models.vgg16().eval()
    theirs.load_state_dict(torch.load(vgg16_file, weights_only=True), assign=True)
    x = pictures(1, 224)
    with torch.no_grad():
        scaled = normalize(conversions.to_unit(x), [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
        hidden = theirs.classifier[:5](theirs.features(scaled).flatten(1))
        logits = theirs.classifier[5:](hidden)
    extractor = find_extractor("vgg16", vgg16_file)
    found = extractor.observe(x)
    assert hidden.std() > 0
    assert found.features.shape == (1, 4096)
    torch.testing.assert_close(found.features, hidden, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found.logits, logits, rtol=1e-4, atol=1e-6)
    assert extractor.name == f"vgg16_{sha256_of(vgg16_file)[:8]}"
    assert not extractor.canonical


def test_absent_or_wrong_vgg16_is_explained_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"put vgg16-397923af\.pth into the folder"):
        find_extractor("vgg16")
    torch.save({"features.0.weight": torch.zeros(1)}, tmp_path / "vgg16-397923af.pth")
    with pytest.raises(ValueError, match=r"does not hold torchvision's VGG16.*the right file is https"):
        find_extractor("vgg16", tmp_path)


# dlib's identity and age


def test_identity_features_are_the_embedding_of_the_same_box(tmp_path: Path) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        weights = DlibFaceNetwork().state_dict()
    save_file(weights, tmp_path / "dlib_face_resnet_v1.fp16.safetensors")
    extractor = find_extractor("dlib_identity", tmp_path, box="ffhq")
    assert extractor.input_resolution is not None
    x = pictures(2, extractor.input_resolution)
    torch.testing.assert_close(extractor(x), find_identity(tmp_path, "ffhq")(x))
    assert extractor.observe(x).logits is None
    assert extractor.describe()["box"] == list(BOXES["ffhq"])
    assert extractor.name.startswith("dlib_identity_"), "other weights than the published ones show in the name"


def test_age_features_agree_with_the_module_that_documents_the_weights(shared: Path) -> None:
    folder = weights_folder(shared, "weights_age_gender")
    theirs, _ = module_from(folder / "load_age_gender.py").load(folder / "dlib_age_gender.fp16.safetensors")
    extractor = find_extractor("dlib_age", folder, box=(0.0, 0.0, 1.0, 1.0))
    network: Any = extractor.network
    chips = pictures(3, 64)
    with torch.no_grad():
        features, scores = network(chips)
        probabilities = theirs(conversions.to_unit(chips) * 255.0)
    torch.testing.assert_close(scores.softmax(1), probabilities, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(expected_age(scores), probabilities @ torch.arange(81.0), rtol=1e-4, atol=1e-4)
    observed = extractor.observe(pictures(3, 32))
    assert observed.features.shape == features.shape == (3, 256)
    assert observed.logits is not None
    assert (extractor.label, extractor.num_classes) == ("dlib_age", 81)


def test_the_expected_age_is_the_mean_of_the_distribution() -> None:
    scores = torch.full((1, 81), -torch.inf)
    scores[0, [20, 30]] = 0.0
    assert expected_age(scores).item() == pytest.approx(25.0)


def test_the_chip_of_the_age_is_a_fifteenth_narrower_around_the_same_centre() -> None:
    assert age_box((0.0, 0.0, 1.0, 1.0)) == pytest.approx((1 / 30, 1 / 30, 29 / 30, 29 / 30))


def test_a_wrong_age_file_is_refused(tmp_path: Path) -> None:
    weights = {f"gender.{name}": value for name, value in DlibAgeNetwork().state_dict().items()}
    save_file(weights, tmp_path / "dlib_age_gender.fp16.safetensors")
    with pytest.raises(ValueError, match="does not hold dlib's age predictor"):
        find_extractor("dlib_age", tmp_path)


# How images are brought to a network


def test_truncation_makes_the_bytes_that_torchmetrics_makes_of_floats_and_wraps_as_it_does() -> None:
    unit = torch.linspace(-0.5, 1.5, 997)
    # Next to whole levels the way over [-1, 1] decides by rounding.
    unit = unit[(unit * 255 - (unit * 255).round()).abs() > 1e-2].view(1, 1, 1, -1).expand(-1, 3, -1, -1)
    # Conversion as of torchmetrics with normalize=True; beyond the range it wraps.
    expected = conversions.from_bytes((unit * 255).byte())
    torch.testing.assert_close(truncated(conversions.from_unit(unit)), expected, atol=0, rtol=0)


def test_truncation_leaves_images_of_8_bits_as_they_are() -> None:
    every_byte = conversions.from_bytes(torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16))
    torch.testing.assert_close(truncated(every_byte), every_byte, atol=0, rtol=0)


def test_without_rounding_differences_below_a_level_are_seen_and_values_outside_are_clamped() -> None:
    extractor = find_extractor("random", quantisation="none")
    x = pictures(2) * 0.9
    assert (extractor(x + 0.4 / 255) - extractor(x)).abs().amax(1).min() > 0
    torch.testing.assert_close(extractor(x.sign() * 1.7), extractor(x.sign()), atol=0, rtol=0)
    assert extractor.describe()["quantised"] == "full precision, clamped"


def test_every_extractor_takes_every_resize_protocol_and_its_label_says_which() -> None:
    x = pictures(2, 40)
    found = {name: find_extractor("random", resize=name)(x) for name in ("clean", "tf1", "torch", "torchmetrics")}
    assert len({features.numpy().tobytes() for features in found.values()}) == 4
    assert find_extractor("random").label == "random"
    extractor = find_extractor("random", resize="tf1", precision="bfloat16", quantisation="truncate")
    assert extractor.label == "random_tf1_bf16_truncate"
    assert extractor.describe()["resize"] == "tf1 to 32x32"


def test_bfloat16_gives_float32_features_close_to_the_exact_ones() -> None:
    x = pictures(4)
    exact, rough = find_extractor("random")(x), find_extractor("random", precision="bfloat16")(x)
    assert rough.dtype == torch.float32
    assert 0 < (rough - exact).abs().max() < 0.02 * exact.abs().max()


def test_features_do_not_depend_on_how_many_images_come_at_a_time() -> None:
    extractor = find_extractor("random")
    x = pictures(extractor.cpu_piece + 3, 8)
    torch.testing.assert_close(extractor(x)[-1:], extractor(x[-1:]), atol=1e-6, rtol=1e-5)


def test_no_images_give_no_rows(shared: Path) -> None:
    assert find_extractor("random")(pictures(0)).shape == (0, 64)
    found = find_extractor("efflite0", weights_folder(shared, "weights_imagenet")).observe(pictures(0))
    assert found.features.shape == (0, 1280)
    assert found.logits is not None
    assert found.logits.shape == (0, 1000)


def test_features_are_ordinary_tensors() -> None:
    features = find_extractor("random")(pictures(2).requires_grad_())
    assert not features.is_inference()
    assert not features.requires_grad


def test_features_that_are_not_finite_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    extractor = find_extractor("random", resize="torch")
    monkeypatch.setattr(extractor, "see", lambda images: (torch.full((len(images), 64), torch.nan), None))
    with pytest.raises(ValueError, match="random gave features that are NaN or infinite for finite images"):
        extractor(pictures(2))


def test_images_out_of_range_are_clamped_and_never_wrapped() -> None:
    extractor = find_extractor("random")
    x = pictures(2)
    torch.testing.assert_close(extractor(x.sign() * 1.7), extractor(x.sign()), atol=0, rtol=0)


def test_images_are_seen_as_8_bits() -> None:
    extractor = find_extractor("random")
    x = pictures(2)
    torch.testing.assert_close(extractor(x + 0.4 / 255), extractor(x), atol=0, rtol=0)


def test_autocast_does_not_reach_an_extractor() -> None:
    extractor = find_extractor("random")
    x = pictures(2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = extractor(x)
    torch.testing.assert_close(inside, extractor(x), atol=0, rtol=0)


def test_grey_images_are_repeated_and_other_channel_counts_refused() -> None:
    extractor = find_extractor("random")
    grey = pictures(2)[:, :1]
    torch.testing.assert_close(extractor(grey), extractor(grey.expand(-1, 3, -1, -1)))
    with pytest.raises(ValueError, match="1 or 3 channels, got 4"):
        extractor(torch.zeros(1, 4, 8, 8))


def test_a_perceptual_distance_repeats_grey_images_too() -> None:
    distance = find_perceptual("random_l2")
    a, b = pictures(2)[:, :1], pictures(2).flip(0)[:, :1]
    found = distance(a, b)
    assert (found > 0).all()
    torch.testing.assert_close(found, distance(a.expand(-1, 3, -1, -1), b.expand(-1, 3, -1, -1)))


def test_images_of_a_diverged_model_are_refused() -> None:
    with pytest.raises(ValueError, match="the model has diverged"):
        find_extractor("random")(torch.full((1, 3, 8, 8), torch.nan))


# Frozen networks


@pytest.mark.parametrize("network", ["extractor", "perceptual"])
def test_a_network_inside_a_module_that_trains_stays_in_eval_and_frozen(network: str) -> None:
    inner: FrozenNetwork = find_extractor("random") if network == "extractor" else find_perceptual("random_l2")
    outer = nn.Sequential(inner, nn.BatchNorm2d(3))
    outer.train()
    assert outer[1].training
    assert not any(part.training for part in inner.modules())
    assert not any(parameter.requires_grad for parameter in inner.parameters())


def test_the_random_network_is_the_same_everywhere() -> None:
    assert find_extractor("random").sha256[:16] == "40d2c2adcbc67db3"


def test_loading_leaves_the_global_random_state_alone(shared: Path) -> None:
    path = weights_folder(shared, "weights_stlpips") / "stlpips_alex.safetensors"
    from latent_lab.networks.perceptual import ShiftTolerantLPIPS

    before = torch.random.get_rng_state()
    ShiftTolerantLPIPS(path, "0")
    assert torch.equal(before, torch.random.get_rng_state())


# Perceptual distances


def test_st_lpips_agrees_with_the_module_that_documents_its_weights(shared: Path) -> None:
    folder = weights_folder(shared, "weights_stlpips")
    theirs = module_from(folder / "load_stlpips.py").load(folder / "stlpips_alex.safetensors")
    a, b = pictures(3, 64), pictures(3, 64, seed=1)
    with torch.no_grad():
        torch.testing.assert_close(find_perceptual("st_lpips_alex", folder)(a, b), theirs(a, b), rtol=1e-5, atol=1e-6)


def test_st_lpips_enlarges_small_images_and_says_so(shared: Path) -> None:
    distance = find_perceptual("st_lpips_alex", weights_folder(shared, "weights_stlpips"))
    a, b = pictures(2), pictures(2, seed=1)
    torch.testing.assert_close(distance(a, b), distance(conversions.resize(a, 64), conversions.resize(b, 64)))
    assert "64 px" in distance.describe()["resize"]


@pytest.mark.parametrize("net", ["alex", "squeeze"])
def test_lpips_takes_a_trunk_in_torchvisions_layout(net: str, tmp_path: Path) -> None:
    lpips = pytest.importorskip("lpips")
    from torchvision import models

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        trunk = models.alexnet() if net == "alex" else models.squeezenet1_1()
    path = tmp_path / "trunk.pth"
    torch.save(trunk.state_dict(), path)
    distance = find_perceptual(f"lpips_{net}", path)
    assert distance.name == f"lpips_{net}_{sha256_of(path)[:8]}", "other weights must not bear the canonical name"
    a, b = pictures(2, 64), pictures(2, 64, seed=1)
    theirs = lpips.LPIPS(net=net, pnet_rand=True, verbose=False)
    for name, value in theirs.net.state_dict().items():
        value.copy_(trunk.state_dict()["features." + name.split(".", 1)[1]])
    torch.testing.assert_close(distance(a, b), theirs(a, b).flatten(), rtol=1e-5, atol=1e-7)


def test_absent_lpips_trunk_is_explained_in_one_sentence() -> None:
    with pytest.raises(ValueError, match=r"put vgg16-397923af\.pth into the folder"):
        find_perceptual("lpips_vgg")


def test_a_wrong_trunk_is_refused(tmp_path: Path) -> None:
    torch.save({"features.0.weight": torch.zeros(1)}, tmp_path / "trunk.pth")
    with pytest.raises(ValueError, match="more tensors are missing"):
        find_perceptual("lpips_alex", tmp_path / "trunk.pth")


@pytest.mark.parametrize("name", ["lpips_alex", "st_lpips_alex"])
def test_a_damaged_file_of_a_perceptual_distance_is_refused_in_one_sentence(name: str, tmp_path: Path) -> None:
    file = tmp_path / ("weights.pth" if name == "lpips_alex" else "weights.safetensors")
    file.write_bytes(b"no weights at all")
    with pytest.raises(ValueError, match=r"weights\.\w+ does not hold (LPIPS's trunk AlexNet|ST-LPIPS)"):
        find_perceptual(name, file)


def test_perceptual_distances_are_zero_for_equal_images_symmetric_and_differentiable() -> None:
    distance = find_perceptual("random_l2")
    a, b = pictures(2).requires_grad_(), pictures(2, seed=1)
    assert distance(b, b).abs().max() == 0
    torch.testing.assert_close(distance(a, b), distance(b, a))
    (gradient,) = torch.autograd.grad(distance(a, b).sum(), a)
    assert gradient.abs().sum() > 0


def test_perceptual_distances_see_differences_finer_than_8_bits() -> None:
    a = pictures(1) * 0.9
    assert find_perceptual("random_l2")(a, a + 0.1 / 255 * pictures(1, seed=1)).item() > 0


# Choice


def test_auto_without_any_weights_is_the_random_network_and_its_name_shows_it() -> None:
    assert find_extractor("auto").name == "random"
    assert find_perceptual("auto").name == "random_l2"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "vgg"}, "unknown extractor 'vgg': use auto, inception"),
        ({"name": "random", "resize": "area"}, "unknown resize protocol 'area': use clean, tf1, torch or torchmetrics"),
        ({"name": "random", "precision": "half"}, "unknown precision 'half': use float32 or bfloat16"),
        ({"name": "random", "quantisation": "floor"}, "unknown quantisation 'floor': use round, truncate or none"),
        ({"name": "random", "box": "celeba"}, "a box is for the extractors dlib_identity and dlib_age"),
        ({"name": "dlib_age", "path": "x"}, "were expected at x"),
        ({"name": "random", "path": "x"}, "has no weights file"),
        ({"name": "auto", "path": "x"}, "name the extractor that it belongs to"),
    ],
)
def test_extractor_options_that_make_no_sense_are_refused(arguments: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        find_extractor(**arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "lpips"}, "unknown perceptual distance 'lpips': use auto, lpips_alex"),
        ({"name": "random_l2", "path": "x"}, "has no weights file"),
        ({"name": "auto", "path": "x"}, "name the distance that it belongs to"),
    ],
)
def test_perceptual_options_that_make_no_sense_are_refused(arguments: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        find_perceptual(**arguments)
