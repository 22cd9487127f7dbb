"""Extractors and perceptual distances: independent programs, resize protocols, frozen networks, absent weights."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from unittest import mock

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from latent_lab import images as conversions
from latent_lab.networks.features import find_extractor
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
        expected = theirs.features(theirs.preprocess(x))
    torch.testing.assert_close(find_extractor("efflite0", folder)(x), expected, atol=1e-4, rtol=0)


def test_efficientnet_lite_is_found_by_auto_and_never_bears_the_name_of_fid(
    shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LATENT_LAB_WEIGHTS", str(weights_folder(shared, "weights_imagenet").parent))
    extractor = find_extractor("auto")
    assert (extractor.name, extractor.canonical, extractor.num_features) == ("efflite0", False, 1280)
    assert extractor.sha256.startswith("1109a716bbb9f024")
    assert find_extractor("efflite0") is extractor, "weights are loaded once per process"


# Inception


def test_inception_with_tf1_resize_equals_torch_fidelity_on_bytes(inception_file: Path) -> None:
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    theirs = FeatureExtractorInceptionV3("theirs", ["2048"], feature_extractor_weights_path=str(inception_file))
    x = pictures(1)
    (expected,) = theirs(conversions.to_bytes(x))
    assert expected.std() > 0
    ours = find_extractor("inception", inception_file, resize="tf1")(x)
    torch.testing.assert_close(ours, expected, rtol=1e-3, atol=1e-4 * expected.abs().max().item())


def test_inception_with_other_weights_does_not_bear_the_canonical_name(inception_file: Path) -> None:
    extractor = find_extractor("inception", inception_file.parent)
    assert not extractor.canonical
    assert extractor.name == f"inception_{sha256_of(inception_file)[:8]}_clean"
    assert extractor(pictures(1, 40)).shape == (1, 2048)
    assert extractor.describe()["resize"] == "clean to 299x299"


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


# Resize protocols and ranges


@pytest.mark.parametrize("size", [(32, 224), (64, 299), (400, 299)])
def test_clean_resize_equals_pillows_bicubic_on_floats(size: tuple[int, int]) -> None:
    start, end = size
    # As smooth as photographs of this size: torch places its filter in float32, which white noise at 400 px would show.
    x = conversions.resize(pictures(2, min(start, 32)), start)
    ours = (conversions.resize(x, end) + 1.0) * 127.5
    for channel in range(3):
        plane = Image.fromarray(((x[0, channel] + 1.0) * 127.5).numpy().astype(np.float32))
        pillow = np.asarray(plane.resize((end, end), Image.Resampling.BICUBIC)).clip(0, 255)
        assert np.abs(ours[0, channel].numpy() - pillow).max() < 1e-3


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
        ({"name": "random", "resize": "torch"}, "unknown resize protocol 'torch'"),
        ({"name": "random", "resize": "tf1"}, "exists for the extractor inception alone, got random"),
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
