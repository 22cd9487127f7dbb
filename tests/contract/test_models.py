"""What every model must do, whichever it is."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

import latent_lab
from latent_lab.cli import main
from latent_lab.latent.interfaces import (
    AbstractAutoencoder,
    AbstractDecoder,
    AbstractLayeredDecoder,
    AbstractStochasticEncoder,
    AbstractTranslator,
    AbstractViewDecoder,
)
from latent_lab.models import MODELS as REGISTERED
from latent_lab.models.base import CHECKPOINT_KEY
from latent_lab.models.loading import build, read_checkpoint
from tests.contract.recipes import CLASS_OF, MODELS, build_model, train

TOTAL = 320  # images of the tiny schedules
CLASSES = {name: REGISTERED[CLASS_OF.get(name, name)] for name in MODELS}
DECODERS = sorted(name for name, model in CLASSES.items() if issubclass(model, AbstractDecoder))
TRANSLATORS = sorted(name for name, model in CLASSES.items() if issubclass(model, AbstractTranslator))
AUTOENCODERS = sorted(name for name, model in CLASSES.items() if issubclass(model, AbstractAutoencoder))
LAYERED = sorted(name for name, model in CLASSES.items() if issubclass(model, AbstractLayeredDecoder))
WITH_A_BUFFER = sorted(name for name, options in MODELS.items() if "sample_buffer" in options)
WITH_POOLS = sorted(name for name, options in MODELS.items() if "pool_size" in options)


@pytest.fixture(params=sorted(MODELS))
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("uninterrupted")
    return {name: train(name, folder / name, cache, images=TOTAL) for name in MODELS}


def assert_equal(a: Any, b: Any, where: str = "") -> None:
    """Bitwise equality of nested plain data and tensors."""
    assert type(a) is type(b), where
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b), f"{where}: largest difference {(a.double() - b.double()).abs().max()}"
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            assert_equal(a[key], b[key], f"{where}/{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), where
        for number, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_equal(x, y, f"{where}/{number}")
    else:
        assert a == b or (a != a and b != b), f"{where}: {a} is not {b}"


def test_every_registered_model_has_a_recipe_here():
    assert set(REGISTERED) == {CLASS_OF.get(name, name) for name in MODELS}


def test_every_model_is_a_decoder_or_a_translator():
    assert sorted([*DECODERS, *TRANSLATORS]) == sorted(MODELS)


def outputs(model: Any, count: int = 3) -> torch.Tensor:
    """Everything that a model makes in evaluation, of fixed inputs."""
    rng = torch.Generator().manual_seed(0)
    if isinstance(model, AbstractTranslator):
        images = torch.rand(count, model.channels, model.resolution, model.resolution, generator=rng) * 2 - 1
        there = model.translate(images, model.domains[0], model.domains[-1])
        return torch.cat([there, model.translate(there, model.domains[-1], model.domains[0])])
    images = model.decode(model.latent_space.sample(count, rng))
    return torch.cat([images, model.reconstruct(images)]) if isinstance(model, AbstractAutoencoder) else images


@pytest.mark.parametrize("decoder", DECODERS)
def test_decode_gives_float_images_of_the_stated_resolution(decoder: str):
    model: Any = build_model(decoder).eval()
    images = model.decode(model.latent_space.sample(3, torch.Generator().manual_seed(0)))
    assert images.shape == (3, 3, model.resolution, model.resolution)
    assert images.dtype == torch.float32


@pytest.mark.parametrize("translator", TRANSLATORS)
def test_translations_are_float_images_of_the_same_size(translator: str):
    model: Any = build_model(translator).eval()
    images = torch.rand(3, 3, model.resolution, model.resolution, generator=torch.Generator().manual_seed(0)) * 2 - 1
    for source in model.domains:
        for target in model.domains:
            moved = model.translate(images, source, target)
            assert moved.shape == images.shape
            assert moved.dtype == torch.float32
            assert torch.equal(moved, images) == (source == target)


@pytest.mark.parametrize("translator", TRANSLATORS)
def test_a_translation_over_several_domains_passes_each_of_them(translator: str):
    model: Any = build_model(translator).eval()
    images = torch.rand(3, 3, model.resolution, model.resolution, generator=torch.Generator().manual_seed(0)) * 2 - 1
    first, *others = model.domains
    moved = images
    for before, after in zip(model.domains, others, strict=False):
        moved = model.translate(moved, before, after)
    assert torch.equal(moved, model.translate(images, first, others[-1]))


@pytest.mark.parametrize("layered", LAYERED)
def test_one_latent_for_all_layers_is_decoded_as_that_latent(layered: str):
    model: Any = build_model(layered).eval()
    latents = model.latent_space.sample(3, torch.Generator().manual_seed(0))
    styles = latents.unsqueeze(1).expand(-1, model.num_layers, -1)
    # Layers between a latent and its styles may round otherwise for another number of rows.
    torch.testing.assert_close(model.decode_layers(styles), model.decode(latents), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("layered", LAYERED)
def test_layers_are_counted_from_the_coarsest_to_the_last_resolution(layered: str):
    model: Any = build_model(layered)
    assert len(model.layer_resolutions) == model.num_layers
    assert list(model.layer_resolutions) == sorted(model.layer_resolutions)
    assert model.layer_resolutions[-1] >= model.schedule.resolution


@pytest.mark.parametrize("layered", LAYERED)
@pytest.mark.parametrize("images", [0, 104, 304])
def test_layers_up_to_the_present_resolution_count_and_those_above_do_nothing(layered: str, images: int):
    model: Any = build_model(layered).eval()
    model.images_seen = images
    rng = torch.Generator().manual_seed(0)
    latents, other = model.latent_space.sample(2, rng), model.latent_space.sample(2, rng)
    expected = model.decode_layers(model.styles(rest=latents))
    for layer, pixels in enumerate(model.layer_resolutions):
        changed = model.decode_layers(model.styles(layers={layer: other}, rest=latents))
        assert torch.equal(changed, expected) == (pixels > model.resolution)


@pytest.mark.parametrize("autoencoder", AUTOENCODERS)
def test_encode_gives_points_of_the_latent_space(autoencoder: str):
    model: Any = build_model(autoencoder).eval()
    codes = model.encode(torch.rand(3, 3, model.resolution, model.resolution) * 2 - 1)
    torch.testing.assert_close(model.latent_space.project(codes), codes)
    assert codes.shape == (3, model.latent_space.dim)


@pytest.mark.parametrize("autoencoder", AUTOENCODERS)
def test_a_posterior_has_its_mean_where_encode_says(autoencoder: str):
    model: Any = build_model(autoencoder).eval()
    images = torch.rand(3, 3, model.resolution, model.resolution) * 2 - 1
    if isinstance(model, AbstractStochasticEncoder):
        torch.testing.assert_close(model.posterior(images).mean, model.encode(images))
        assert (model.posterior(images).stddev > 0).all()
    else:
        assert not hasattr(model, "posterior")


def test_evaluation_changes_nothing(name: str):
    model: Any = build_model(name).eval()
    before = copy.deepcopy(model.state_dict())
    first = outputs(model)
    assert torch.equal(outputs(model), first)
    assert_equal(before, model.state_dict())


def test_what_is_for_training_only_is_not_used_in_evaluation(name: str):
    model: Any = build_model(name).eval()
    assert set(model.training_only) <= {part for part, _ in model.named_children()}
    for part in model.training_only:
        for value in (*model.get_submodule(part).parameters(), *model.get_submodule(part).buffers()):
            value.data.fill_(torch.nan)
    assert outputs(model, 2).isfinite().all()


def test_an_averaged_network_leaves_its_original_to_training(name: str):
    model: Any = build_model(name)
    parts = {part for part, _ in model.named_children()}
    assert "generator_average" not in parts or {"generator", "decoder"} & parts <= set(model.training_only)


def test_a_recipe_builds_an_equal_model(name: str):
    model = build_model(name)
    again = build(model.recipe)
    assert {k: v.shape for k, v in again.state_dict().items()} == {k: v.shape for k, v in model.state_dict().items()}
    assert build(again.recipe).recipe == again.recipe


@pytest.mark.parametrize(
    "images",
    [
        pytest.param(32, id="first phase"),
        pytest.param(104, id="mid-fade"),
        pytest.param(192, id="phase change"),
        pytest.param(304, id="full buffer"),
        pytest.param(312, id="last step"),
    ],
)
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(
    name: str, images: int, uninterrupted: dict[str, Path], tmp_path: Path, cache: Path
):
    first = train(name, tmp_path, cache, images=images)
    assert read_checkpoint(first)[CHECKPOINT_KEY]["images_seen"] == images
    last = train(name, tmp_path, cache, images=TOTAL, resume=first)
    resumed, expected = read_checkpoint(last), read_checkpoint(uninterrupted[name])
    for key in ("state_dict", "optimizer_states", CHECKPOINT_KEY, "callbacks"):
        assert_equal(resumed[key], expected[key], key)


@pytest.mark.parametrize("buffered", WITH_A_BUFFER)
def test_the_buffer_of_the_full_buffer_point_is_full(buffered: str, uninterrupted: dict[str, Path]):
    assert len(read_checkpoint(uninterrupted[buffered])[CHECKPOINT_KEY]["sample_buffer"]["images"]) == 16


@pytest.mark.parametrize("pooled", WITH_POOLS)
def test_the_pools_of_the_full_buffer_point_are_full(pooled: str, uninterrupted: dict[str, Path]):
    pools = read_checkpoint(uninterrupted[pooled])[CHECKPOINT_KEY]["image_pools"]
    assert pools
    assert all(len(images) == 16 for images in pools.values())


def test_records_of_a_resumed_run_equal_those_of_an_uninterrupted_one(
    name: str, uninterrupted: dict[str, Path], tmp_path: Path, cache: Path
):
    import json

    first = train(name, tmp_path, cache, images=104)
    train(name, tmp_path, cache, images=TOTAL, resume=first)

    def lines(folder: Path) -> list[dict[str, float]]:
        records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        return [{k: v for k, v in record.items() if not k.startswith("speed/")} for record in records]

    assert lines(tmp_path) == lines(uninterrupted[name].parents[1])


def test_a_checkpoint_is_plain_data_and_holds_no_extractor(name: str, uninterrupted: dict[str, Path]):
    content = torch.load(uninterrupted[name], weights_only=True)
    expected = set(build_model(name).state_dict())
    assert set(content["state_dict"]) == expected


def test_a_checkpoint_alone_is_enough_to_load_a_model(name: str, uninterrupted: dict[str, Path]):
    model = latent_lab.load(uninterrupted[name])
    assert not model.training
    assert model.images_seen == TOTAL
    assert_equal(dict(model.state_dict()), dict(read_checkpoint(uninterrupted[name])["state_dict"]))


def test_an_export_makes_the_same_and_takes_less_room(name: str, uninterrupted: dict[str, Path], tmp_path: Path):
    path, small = uninterrupted[name], tmp_path / "small.ckpt"
    assert main(["export", str(path), "--out", str(small)]) == 0
    assert small.stat().st_size < path.stat().st_size
    exported, whole = latent_lab.load(small), latent_lab.load(path)
    assert exported.images_seen == TOTAL
    assert torch.equal(outputs(exported), outputs(whole))
    if isinstance(whole, AbstractViewDecoder):
        seen = torch.arange(3), torch.eye(4).expand(3, 4, 4)
        assert torch.equal(exported.predict_views(*seen), whole.predict_views(*seen))


def test_the_checkpoint_of_another_model_is_refused_in_one_sentence(
    name: str, uninterrupted: dict[str, Path], tmp_path: Path
):
    content = read_checkpoint(uninterrupted[name])
    content[CHECKPOINT_KEY]["model"]["class_path"] = "latent_lab.models.other.Other"
    with pytest.raises(ValueError, match="the checkpoint holds a Other, the configuration asks for a"):
        build_model(name).on_load_checkpoint(content)


def test_one_state_dict_shape_serves_the_whole_run(name: str, uninterrupted: dict[str, Path]):
    trained = read_checkpoint(uninterrupted[name])["state_dict"]
    fresh = build_model(name).state_dict()
    assert {k: v.shape for k, v in trained.items()} == {k: v.shape for k, v in fresh.items()}
