from __future__ import annotations

import sys
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

import latent_lab
from latent_lab.cli import exploring
from latent_lab.cli.arguments import Arguments
from latent_lab.cli.explorer import Bridge, Explorer, fit_bridge, picture_of, read_photograph
from latent_lab.cli.exploring import Exploring, bridges_of, explorers_of
from latent_lab.cli.trained import read_trained
from latent_lab.distributed import IndexedRandom
from latent_lab.latent.interfaces import AbstractAutoencoder, AbstractDecoder
from latent_lab.latent.maps import LinearMap, save_map
from latent_lab.latent.spaces import Gaussian
from latent_lab.latent.views import WSpaceView


@pytest.fixture(scope="module")
def automodulator():
    return Explorer("automodulator", latent_lab.load("automodulator_faces32"), num_axes=3)


@pytest.fixture(scope="module")
def stylegan():
    return Explorer("stylegan", WSpaceView(latent_lab.load("stylegan_faces32")), num_axes=3)


class Scaled(AbstractDecoder):
    """A decoder of four coordinates whose images are the coordinates, times a factor."""

    resolution = 2
    latent_space = Gaussian(4)
    device = "cpu"

    def __init__(self, factor):
        self.factor = factor

    def decode(self, latents):
        return (self.factor * latents).view(-1, 1, 2, 2) / 10


class Encoding(Scaled, AbstractAutoencoder):
    def encode(self, images):
        return images.flatten(1) * 10 / self.factor


def scaled(name, factor, encodes=True, channels=1):
    kind = Encoding if encodes else Scaled
    return Explorer(name, kind(factor), channels=channels, num_axes=0)


def test_samples_are_those_of_the_command_sample(automodulator):
    model = automodulator.model
    normal = IndexedRandom(0, "evaluate/latents").normal(range(5, 7), 64)
    (first, name), (second, _) = automodulator.samples(5, 2)
    assert name == "5"
    assert not np.array_equal(first, second)
    with torch.no_grad():
        assert np.array_equal(first, picture_of(model.decode(model.latent_space.from_normal(normal))[:1]))


@pytest.mark.parametrize("number", [-1, 2**31])
def test_samples_have_numbers_from_0_on(automodulator, number):
    with pytest.raises(ValueError, match="samples are numbered 0 to 2147483647, got"):
        automodulator.sample(number)
    with pytest.raises(ValueError, match="samples are numbered"):
        automodulator.samples(number, 3)


def test_mixing_every_scale_gives_the_source_and_mixing_none_the_base(automodulator):
    base, source = automodulator.sample(0), automodulator.sample(1)
    assert np.array_equal(automodulator.mix(base, source, []), automodulator.picture(base))
    assert np.array_equal(automodulator.mix(base, source, automodulator.scales), automodulator.picture(source))
    coarse = automodulator.mix(base, source, ["coarse"])
    assert not np.array_equal(coarse, automodulator.picture(base))
    assert not np.array_equal(coarse, automodulator.picture(source))


def test_paths_begin_at_one_image_and_end_at_the_other(stylegan):
    start, end = stylegan.sample(0), stylegan.sample(1)
    assert np.array_equal(stylegan.interpolate(start, end, 0.0), stylegan.picture(start))
    assert np.array_equal(stylegan.interpolate(start, end, 1.0), stylegan.picture(end))


def test_nothing_moves_at_strength_0_and_every_axis_moves_something(automodulator):
    latents = automodulator.sample(0)
    still = automodulator.picture(latents)
    assert np.array_equal(automodulator.move(latents, [0.0, 0.0, 0.0]), still)
    moved = [automodulator.move(latents, row) for row in torch.eye(3).tolist()]
    assert all(not np.array_equal(one, still) for one in moved)
    assert not np.array_equal(automodulator.move(latents, [1.0, 0.0, 0.0], "fine"), moved[0])


def test_strength_1_of_an_axis_is_a_deviation_of_samples(automodulator, stylegan):
    # Points of a sphere of 64 coordinates deviate by 1/8 along any direction.
    for axis in automodulator.axes:
        assert axis.direction.norm().item() == pytest.approx(0.125, rel=0.05)
    first, second, third = (axis.direction.norm().item() for axis in stylegan.axes)
    assert first > second > third


def test_attributes_come_first_and_are_added_as_they_are():
    model = latent_lab.load("automodulator_faces32")
    direction = torch.full((1, 64), 0.05)
    explorer = Explorer("a", model, attributes={"smile": direction}, num_axes=1)
    assert [axis.name for axis in explorer.axes] == ["smile", "axis 1"]
    latents = explorer.sample(0)
    expected = model.latent_space.project(latents + 2.0 * direction)
    assert np.array_equal(explorer.move(latents, [2.0, 0.0]), explorer.picture(expected))


def test_normals_are_added_by_deviations_of_samples():
    normal = torch.eye(64)[:1]
    explorer = Explorer("a", latent_lab.load("automodulator_faces32"), attributes={"smile": normal}, num_axes=0)
    (axis,) = explorer.axes
    assert axis.direction[0, 0].item() == pytest.approx(0.125, rel=0.05)
    assert axis.direction[0, 1:].abs().max() == 0


def test_what_a_model_cannot_do_is_said(automodulator, stylegan):
    assert automodulator.lacks == []
    assert stylegan.lacks == ["StyleGAN has no encoder, so photographs cannot be reconstructed or edited."]
    in_z = Explorer("z", stylegan.model.decoder)
    assert in_z.axes == []
    assert "No layer of StyleGAN reads this latent as it is" in in_z.lacks[-1]
    pioneer = Explorer("p", latent_lab.load("balanced_pioneer_faces32"))
    assert pioneer.scales == ()
    assert pioneer.lacks == ["Pioneer has one latent for all layers, so images cannot be mixed scale by scale."]


def test_a_photograph_is_reconstructed_with_its_error(automodulator, photos):
    seen, decoded, error = automodulator.reconstruct(photos / "a.png")
    difference = seen.astype(float) - decoded.astype(float)
    assert error == pytest.approx((difference / 127.5).__pow__(2).mean(), rel=1e-4)


# ------------------------------------------------------------------------------------------------------ photographs


def test_a_photograph_is_read_as_the_middle_square(photos):
    colour = read_photograph(photos / "a.png", 8)
    grey = read_photograph(photos / "a.png", 8, grey=True)
    assert (colour.shape, grey.shape) == ((1, 3, 8, 8), (1, 1, 8, 8))
    middle = np.asarray(Image.open(photos / "a.png"))[:, 5:25]
    Image.fromarray(middle).save(photos / "middle.png")
    assert torch.equal(read_photograph(photos / "middle.png", 8), colour)


def test_a_file_that_is_no_image_is_refused_without_its_folder(photos):
    with pytest.raises(ValueError, match=r"^d\.png is not an image that can be read: choose a JPEG, PNG or WebP file$"):
        read_photograph(photos / "d.png", 8)


def test_a_half_image_is_refused(photos):
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(photos / "half.bmp")
    (photos / "half.bmp").write_bytes((photos / "half.bmp").read_bytes()[:2000])
    with pytest.raises(ValueError, match=r"^half\.bmp cannot be read: "):
        read_photograph(photos / "half.bmp", 8)


def test_a_heavy_file_is_refused(photos):
    (photos / "heavy.png").write_bytes((photos / "a.png").read_bytes() + bytes(21 * 2**20))
    with pytest.raises(ValueError, match=r"^heavy\.png is too large: it has 21\.0 MB, 20 MB is the most$"):
        read_photograph(photos / "heavy.png", 8)


@pytest.mark.parametrize("side", [8000, 60_000])
def test_an_image_of_too_many_pixels_is_refused_before_it_is_decoded(photos, side):
    def chunk(kind, body):
        return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")

    header = side.to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    (photos / "wide.png").write_bytes(content)
    with pytest.raises(ValueError, match=r"^wide\.png is too large: .*50 megapixels is the most$"):
        read_photograph(photos / "wide.png", 8)


# -------------------------------------------------------------------------------------------------- two models


@pytest.mark.parametrize(("here", "there"), [(True, True), (True, False), (False, True)])
def test_a_map_is_found_between_models_of_which_one_encodes(here, there):
    source, target = scaled("a", 1.0, here), scaled("b", 2.0, there)
    bridge = fit_bridge(source, target, 64)
    latents = 0.5 * source.sample(0)
    # The ridge penalty is 1 % of the variance.
    assert bridge.picture(latents).astype(int) == pytest.approx(source.picture(latents).astype(int), abs=2)
    assert "it explains 100% of the variance of b's latents" in bridge.origin
    drawn, encoded = ("a", "b") if there else ("b", "a")
    assert f"fitted to 48 samples of {drawn} that {encoded} encodes" in bridge.origin


def test_models_without_encoders_or_of_other_channels_are_not_joined():
    with pytest.raises(ValueError, match="neither a nor b encodes, so nothing says which latents correspond"):
        fit_bridge(scaled("a", 1.0, False), scaled("b", 2.0, False), 64)
    with pytest.raises(ValueError, match="a has 1 channels, b 3: no map"):
        fit_bridge(scaled("a", 1.0), scaled("b", 2.0, channels=3), 64)


def test_the_code_of_a_samples_picture_goes_through_a_map_of_codes():
    class Halving(Encoding):
        def encode(self, images):
            return super().encode(images) / 2

    source, target = Explorer("a", Halving(1.0), channels=1, num_axes=0), scaled("b", 1.0)
    latents = source.sample(0)
    same = LinearMap(torch.eye(4))
    direct = Bridge(source, same, target, "", of_codes=False)
    coded = Bridge(source, same, target, "", of_codes=True)
    assert np.array_equal(direct.picture(latents), target.picture(latents))
    assert np.array_equal(coded.picture(latents), target.picture(latents / 2))


# ------------------------------------------------------------------------------------------------- the command


def explored(names, options=None, settings=None):
    trained = [read_trained(name, ()) for name in names]
    return explorers_of(trained, Arguments(options=options or {}), settings or Exploring(axes=1)), trained


def test_a_stylegan_is_looked_at_in_w_unless_z_is_asked_for_or_a_map_is_given():
    (w,), _ = explored(["stylegan_faces32"])
    (z,), _ = explored(["stylegan_faces32"], {"space": "z"})
    (mapped,), _ = explored(["stylegan_faces32"], {"map": "map.safetensors"})
    assert [one.model.latent_space.symbol for one in (w, z, mapped)] == ["w", "z", "z"]


def test_truncation_draws_samples_together():
    (whole,), _ = explored(["stylegan_faces32"])
    (none,), _ = explored(["stylegan_faces32"], {"truncation": "0"})
    assert none.lacks == whole.lacks
    assert not np.array_equal(whole.picture(whole.sample(0)), whole.picture(whole.sample(1)))
    assert np.array_equal(none.picture(none.sample(0)), none.picture(none.sample(1)))


def test_directions_belong_to_the_first_model_or_to_a_named_one(folder):
    for name in ("smile", "stylegan_faces32_glasses_svm"):
        np.save(folder / f"{name}.npy", np.ones((1, 64), np.float32))
    names = ["automodulator_faces32", "stylegan_faces32"]
    words = ["smile.npy", "stylegan_faces32=stylegan_faces32_glasses_svm.npy"]
    (first, second), _ = explored(names, {"direction": words})
    assert [axis.name for axis in first.axes] == ["smile", "axis 1"]
    assert [axis.name for axis in second.axes] == ["glasses_svm", "axis 1"]
    with pytest.raises(ValueError, match="--direction names the model stylegan, which is not here: did you mean"):
        explored(names, {"direction": ["stylegan=smile.npy"]})


def test_a_map_from_a_file_joins_the_first_two_models_and_says_where_it_comes_from(folder):
    names = ["automodulator_faces32", "balanced_pioneer_faces32"]
    explorers, trained = explored(names)
    save_map(folder / "map.safetensors", LinearMap(torch.eye(64)))
    (bridge,), notes = bridges_of(explorers, trained, "map.safetensors", 8)
    assert (bridge.origin, bridge.of_codes, notes) == ("The map in map.safetensors.", True, [])
    save_map(folder / "other.safetensors", LinearMap(torch.eye(8)))
    with pytest.raises(ValueError, match=r"other\.safetensors: the map is from 8 to 8 coordinates"):
        bridges_of(explorers, trained, "other.safetensors", 8)
    with pytest.raises(ValueError, match="--map is from the first checkpoint to the second: name two"):
        bridges_of(explorers[:1], trained[:1], "map.safetensors", 8)


def test_models_that_cannot_be_joined_are_named():
    models = [scaled("a", 1.0, False), scaled("b", 2.0, False)]
    bridges, notes = bridges_of(models, [], None, 8)
    assert bridges == []
    assert notes == ["a and b are not joined: neither a nor b encodes, so nothing says which latents correspond."]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((), "explore needs checkpoints"),
        (("automodulator_faces32", "--space", "w"), "models that map their latents (StyleGAN), and none does"),
        (("automodulator_faces32", "--space", "w+"), "--space must be z or w, got w+"),
        (("stylegan_faces32", "--truncation", "much"), "--truncation must be a number, got much"),
        (("automodulator_faces32", "--axes", "65"), "--axes must be at most 64"),
        (("automodulator_faces32", "--axes", "-1"), "explore needs axes from 0 on"),
        (("automodulator_faces32", "--port", "70000"), "explore needs a port from 1 to 65535, got 70000"),
        (("automodulator_faces32", "--direction", "no.npy"), "there is no direction at no.npy"),
    ],
)
def test_bad_options_get_a_sentence(latent_lab, words, sentence):
    outcome = latent_lab("explore", *words)
    assert outcome.code == 2
    assert sentence in outcome.error


def test_without_gradio_the_command_says_how_to_install_it(latent_lab, monkeypatch):
    monkeypatch.setattr(exploring.importlib.util, "find_spec", lambda name: None)
    outcome = latent_lab("explore", "automodulator_faces32")
    assert outcome.code == 2
    assert outcome.error == (
        "latent-lab: explore needs Gradio, which is not installed: pip install 'latent-lab[explore]'\n"
    )


def test_the_help_needs_no_gradio(latent_lab):
    before = "gradio" in sys.modules
    assert "--direction" in latent_lab("explore", "--help").out
    assert ("gradio" in sys.modules) == before
