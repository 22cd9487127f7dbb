"""The recoder: pairs, the frozen decoder, one file that holds both, and nested recipes that are not trusted."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import torch

import latent_lab
from latent_lab.growth import GrowthSchedule, Stage
from latent_lab.latent.views import LayersView, WSpaceView
from latent_lab.models import GAN, Pioneer, Recoder, StyleGAN
from latent_lab.models.base import CHECKPOINT_KEY, LatentModel
from latent_lab.networks.recoder import LatentRecoder
from latent_lab.types import ImageBatch

SCHEDULE = GrowthSchedule([Stage(16, 1.0, 8, learning_rate=3e-3)])


def gan() -> GAN:
    return GAN(SCHEDULE, latent_dim=6, generator_widths=[8, 8], discriminator_widths=[8, 8], start_channels=4, seed=3)


def save(model: LatentModel, path: Path) -> Path:
    content: dict[str, Any] = {"state_dict": model.state_dict()}
    model.on_save_checkpoint(content)
    torch.save(content, path)
    return path


@pytest.fixture
def decoder_file(tmp_path: Path) -> Path:
    """A GAN whose weights are not those that its recipe starts with."""
    model = gan()
    with torch.no_grad():
        for parameter in model.generator.parameters():
            parameter.mul_(3.0)  # at first all its images are nearly alike
    model.advance(100)
    return save(model, tmp_path / "gan.ckpt")


def ready(decoder: Any, **options: Any) -> Recoder:
    model = Recoder(SCHEDULE, decoder, widths=[8, 8], **options)
    optimizer = model.configure_optimizers()
    model.optimizers = lambda *_, **__: optimizer  # type: ignore[method-assign,assignment]
    model.manual_backward = lambda loss: loss.backward()  # type: ignore[method-assign]
    return model.train()


def batch(value: float = 0.0, count: int = 8) -> ImageBatch:
    return ImageBatch(torch.full((count, 3, 16, 16), value), torch.arange(count))


def test_a_step_trains_on_generated_pairs_and_never_looks_at_the_real_images(decoder_file: Path):
    losses = [ready(str(decoder_file)).training_step(batch(value))["train/encoder/i_mse"] for value in (-0.5, 0.5)]
    assert losses[0] == losses[1]


def test_the_latent_objective_is_the_error_of_the_latents(decoder_file: Path):
    model = ready(str(decoder_file))
    latents = model.training_normals(batch().images, "pairs", 6)
    with torch.no_grad():
        expected = (model.encode(model.decode(latents)) - latents).square().mean()
    statistics = model.training_step(batch())
    torch.testing.assert_close(statistics["train/encoder/i_mse"], expected)
    torch.testing.assert_close(statistics["train/encoder/i_mse_relative"], expected / latents.var(0).mean())


def test_the_image_objective_is_the_error_of_the_images(decoder_file: Path):
    model = ready(str(decoder_file), objective="image")
    latents = model.training_normals(batch().images, "pairs", 6)
    with torch.no_grad():
        made = model.decode(latents)
        expected = (model.reconstruct(made) - made).square().mean()
    torch.testing.assert_close(model.training_step(batch())["train/encoder/image"], expected)
    assert all(parameter.grad is not None for parameter in model.encoder.parameters())


def test_training_lowers_the_error(decoder_file: Path):
    model = ready(str(decoder_file))
    errors = [model.training_step(batch(count=32))["train/encoder/i_mse_relative"].item() for _ in range(60)]
    # From nearly all of the latents' variance to a sixth of it.
    assert sum(errors[:5]) / 5 > 0.9
    assert sum(errors[-5:]) / 5 < 0.4


@pytest.mark.parametrize("objective", ["latent", "image"])
def test_the_decoder_is_never_changed_and_gets_no_gradient(decoder_file: Path, objective: Any):
    model = ready(str(decoder_file), objective=objective)
    before = {name: value.clone() for name, value in model.decoder.state_dict().items()}
    model.training_step(batch())
    assert all(torch.equal(value, before[name]) for name, value in model.decoder.state_dict().items())
    assert all(parameter.grad is None for parameter in model.decoder.parameters())
    assert model.training
    assert not any(module.training for module in model.decoder.modules())


def test_one_file_holds_the_whole_autoencoder(decoder_file: Path, tmp_path: Path):
    model = ready(str(decoder_file))
    model.training_step(batch())
    path = save(model, tmp_path / "recoder.ckpt")
    decoder_file.unlink()
    loaded = latent_lab.load(path)
    images = torch.rand(2, 3, 16, 16) * 2 - 1
    assert torch.equal(loaded.reconstruct(images), model.eval().reconstruct(images))
    assert loaded.decoder.images_seen == 100


def test_the_recipe_holds_the_decoders_recipe_and_no_path(decoder_file: Path):
    model = Recoder(SCHEDULE, str(decoder_file), widths=[8])
    assert model.recipe["init_args"]["decoder"] == gan().recipe
    assert Recoder(SCHEDULE, model.recipe["init_args"]["decoder"], widths=[8]).recipe == model.recipe


def test_codes_lie_in_the_decoders_space_whichever_it_is(tmp_path: Path):
    pioneer = Pioneer(SCHEDULE, latent_dim=6, widths=[4, 4, 4])
    model = ready(str(save(pioneer, tmp_path / "pioneer.ckpt")))
    codes = model.encode(torch.rand(3, 3, 16, 16) * 2 - 1)
    torch.testing.assert_close(codes.norm(dim=1), torch.ones(3))
    statistics = model.training_step(batch())
    # The mean squared coordinate of a point of the sphere is 1/6, and so is that of its code.
    assert statistics["train/encoder/i_mse"] < 4 / 6


def test_an_untrained_decoder_is_said(capsys: pytest.CaptureFixture[str]):
    Recoder(SCHEDULE, gan().recipe, widths=[8]).on_train_start()
    assert "the decoder GAN has seen no image" in capsys.readouterr().err


def test_a_trained_decoder_is_not(decoder_file: Path, capsys: pytest.CaptureFixture[str]):
    Recoder(SCHEDULE, str(decoder_file), widths=[8]).on_train_start()
    assert capsys.readouterr().err == ""


def test_a_decoder_of_another_size_is_refused(decoder_file: Path):
    with pytest.raises(ValueError, match="the schedule has 8 px, but the decoder GAN makes images of 16 px"):
        Recoder(GrowthSchedule([Stage(8, 1.0, 8)]), str(decoder_file))


def test_a_decoder_that_is_not_there_is_named():
    with pytest.raises(FileNotFoundError, match=r"no checkpoint at nowhere\.ckpt"):
        Recoder(SCHEDULE, "nowhere.ckpt")


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({}, "model.decoder has no recipe of a model"),
        ({"class_path": "GAN"}, "model.decoder has no recipe of a model"),
        ({"class_path": "Nobody", "init_args": {}}, "there is no class Nobody"),
        ({"class_path": "latent_lab.growth.Stage", "init_args": {}}, "as its model, which is none"),
        ({"class_path": "no_such_package.Model", "init_args": {}}, "which is not latent-lab's"),
    ],
)
def test_a_decoder_that_is_no_model_is_refused(recipe: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        Recoder(SCHEDULE, recipe)


@pytest.mark.parametrize("class_path", ["subprocess.Popen", "antigravity.Model"])
def test_a_nested_recipe_cannot_start_anything_but_a_model(decoder_file: Path, tmp_path: Path, class_path: str):
    # A checkpoint is untrusted input, and so is the recipe inside its recipe.
    model = Recoder(SCHEDULE, str(decoder_file), widths=[8])
    trace = tmp_path / "trace"
    path = save(model, tmp_path / "poisoned.ckpt")
    content = torch.load(path, weights_only=True)
    poison = {"class_path": class_path, "init_args": {"args": f"touch {trace}", "shell": True}}
    content[CHECKPOINT_KEY]["model"]["init_args"]["decoder"] = poison
    torch.save(content, path)
    with pytest.raises(ValueError, match=class_path):
        latent_lab.load(path)
    time.sleep(0.2)  # a command would run in the background
    assert not trace.exists()


# Towards the second space of a StyleGAN


def stylegan() -> StyleGAN:
    model = StyleGAN(SCHEDULE, latent_dim=6, widths=[8, 8, 8], mapping_layers=2, seed=3)
    model.advance(100)
    return model


@pytest.fixture
def stylegan_file(tmp_path: Path) -> Path:
    return save(stylegan(), tmp_path / "stylegan.ckpt")


def test_points_of_w_are_found_by_a_recoder_towards_w(stylegan_file: Path):
    model = ready(str(stylegan_file), space="w")
    view = WSpaceView(stylegan().eval())
    normal = model.training_normals(batch().images, "pairs", 6)
    points = view.map(stylegan().latent_space.from_normal(normal))
    with torch.no_grad():
        expected = (model.encode(view.decode(points)) - points).square().mean()
    statistics = model.training_step(batch())
    torch.testing.assert_close(statistics["train/encoder/i_mse"], expected)
    torch.testing.assert_close(statistics["train/encoder/i_mse_relative"], expected / points.var(0).mean())
    assert model.latent_space.symbol == "w"


def test_towards_w_plus_every_layer_has_a_point_of_its_own(stylegan_file: Path):
    model = ready(str(stylegan_file), space="w+").eval()
    view = LayersView(WSpaceView(stylegan().eval()))
    codes = model.encode(batch(0.3).images)
    assert codes.shape == (8, 6 * model.decoder.num_layers)
    torch.testing.assert_close(model.decode(codes), view.decode(codes))


def test_the_decoder_is_in_the_state_once_and_weights_come_back(stylegan_file: Path, tmp_path: Path):
    model = ready(str(stylegan_file), space="w")
    model.training_step(batch())
    assert all(name.startswith(("decoder.", "encoder.")) or "." not in name for name in model.state_dict())
    again = latent_lab.load(save(model, tmp_path / "recoder.ckpt"))
    assert isinstance(again, Recoder)
    images = batch(0.3).images
    torch.testing.assert_close(again.reconstruct(images), model.eval().reconstruct(images))


@pytest.mark.parametrize("reduction", ["bilinear", "nearest"])
def test_images_are_reduced_before_the_network_sees_them(stylegan_file: Path, reduction: str):
    model = ready(str(stylegan_file), space="w", input_resolution=8, input_reduction=reduction).eval()
    columns = torch.linspace(-1, 1, 16).expand(2, 3, 16, 16)
    small = columns[..., ::2, ::2] if reduction == "nearest" else columns
    if reduction == "bilinear":
        small = torch.nn.functional.interpolate(
            columns, (8, 8), mode="bilinear", align_corners=False, antialias=True
        ).clamp(-1, 1)
    torch.testing.assert_close(model.encode(columns), model.encoder(small.contiguous()))
    assert "train/encoder/i_mse" in model.train().training_step(batch())


def test_a_decoder_without_w_and_a_larger_input_are_refused(decoder_file: Path, stylegan_file: Path):
    with pytest.raises(ValueError, match=r"a recoder towards w needs a decoder that has W: .* a StyleGAN"):
        Recoder(SCHEDULE, str(decoder_file), space="w")
    with pytest.raises(ValueError, match="input_resolution must be 1 to 16, the decoder's, got 32"):
        Recoder(SCHEDULE, str(stylegan_file), input_resolution=32)


def test_the_published_recoder_of_stylegan_has_the_published_number_of_parameters():
    with torch.device("meta"):
        network = LatentRecoder(512, 256, widths=[32, 64, 128, 256, 512, 1024], kernel_size=3, extra_dense=True)
    assert sum(parameter.numel() for parameter in network.parameters()) == 40_893_760


def test_a_decoder_that_has_not_grown_up_is_refused(tmp_path: Path):
    growth = GrowthSchedule([Stage(8, 1.0, 8), Stage(16, 1.0, 8)])
    file = save(StyleGAN(growth, latent_dim=6, widths=[8, 8, 8], mapping_layers=2), tmp_path / "half.ckpt")
    with pytest.raises(ValueError, match="the decoder StyleGAN has only grown to 8 px"):
        Recoder(SCHEDULE, str(file), space="w")
