"""Names and ranges of layers, mixing, and the builder `model.styles(...)`."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from latent_lab.latent.interfaces import AbstractLayeredDecoder
from latent_lab.latent.spaces import Hypersphere
from latent_lab.latent.styles import mix, parse_layers, repeat, scales

UP_TO_512 = (4, 8, 16, 32, 64, 128, 256, 512)


class Decoder(AbstractLayeredDecoder):
    latent_space = Hypersphere(3)
    resolution = 32
    num_layers = 4
    layer_resolutions = (4, 8, 16, 32)

    def decode(self, latents: Tensor) -> Tensor:
        return self.decode_layers(repeat(latents, 4))

    def decode_layers(self, styles: Tensor) -> Tensor:
        return styles.mean((1, 2))[:, None, None, None].expand(-1, 3, 32, 32)


def codes(*values: float, rows: int = 2) -> list[Tensor]:
    return [torch.full((rows, 3), float(value)) for value in values]


@pytest.mark.parametrize(
    ("layer_resolutions", "coarse", "middle", "fine"),
    [
        pytest.param(UP_TO_512, range(2), range(2, 5), range(5, 8), id="the published program's blocks"),
        pytest.param((4, 8, 16, 32, 64, 128), range(2), range(2, 5), range(5, 6), id="128 pixels"),
        pytest.param((4, 8, 16, 32, 64), range(2), range(2, 4), range(4, 5), id="64 pixels"),
        pytest.param((4, 8, 16, 32), range(2), range(2, 3), range(3, 4), id="32 pixels"),
        pytest.param((4, 8, 16), range(1), range(1, 2), range(2, 3), id="16 pixels"),
        pytest.param((4, 8), range(1), range(1, 1), range(1, 2), id="8 pixels have no middle"),
        pytest.param((4,), range(1), range(1, 1), range(1, 1), id="4 pixels are all coarse"),
        pytest.param((4, 8, 8, 16, 32), range(3), range(3, 4), range(4, 5), id="a supporting block"),
        pytest.param((4, 4, 8, 8, 16, 16, 32, 32), range(4), range(4, 6), range(6, 8), id="two layers each"),
    ],
)
def test_scales_divide_the_layers_by_their_resolutions(
    layer_resolutions: tuple[int, ...], coarse: range, middle: range, fine: range
) -> None:
    assert scales(layer_resolutions) == {"coarse": coarse, "middle": middle, "fine": fine}


@pytest.mark.parametrize(
    ("text", "layers"),
    [
        ("coarse", range(2)),
        ("hi", range(2)),
        ("mid", range(2, 5)),
        ("lo", range(5, 8)),
        ("0-2", range(2)),
        ("2-4", range(2, 4)),
        ("2-end", range(2, 8)),
        ("3", range(3, 4)),
        (" 7-8 ", range(7, 8)),
    ],
)
def test_ranges_are_half_open_and_scales_have_names(text: str, layers: range) -> None:
    assert parse_layers(text, UP_TO_512) == layers


@pytest.mark.parametrize("text", ["8", "2-2", "3-2", "5-9", "8-end"])
def test_layers_that_do_not_exist_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=f"layers {text} are not among the 8 layers"):
        parse_layers(text, UP_TO_512)


@pytest.mark.parametrize("text", ["", "rough", "2-", "-1", "0:2", "1.5"])
def test_a_text_that_is_no_range_is_refused_with_what_could_be_written(text: str) -> None:
    with pytest.raises(ValueError, match=r"layers must be coarse, middle, fine \(hi, mid, lo\), a-b .*got"):
        parse_layers(text, UP_TO_512)


def test_a_scale_without_layers_is_refused() -> None:
    with pytest.raises(ValueError, match="a decoder of 4, 8 pixels has no mid layers: write numbers"):
        parse_layers("mid", (4, 8))


def test_mixing_takes_the_range_from_the_source_and_leaves_both_as_they_were() -> None:
    base, source = torch.zeros(2, 4, 3), torch.ones(2, 4, 3)
    mixed = mix(base, source, range(1, 3))
    assert mixed[:, :, 0].tolist() == [[0, 1, 1, 0]] * 2
    assert base.sum() == 0
    assert source.min() == 1


def test_mixing_all_layers_gives_the_source_and_none_the_base() -> None:
    base, source = torch.rand(2, 4, 3), torch.rand(2, 4, 3)
    assert torch.equal(mix(base, source, range(4)), source)
    assert torch.equal(mix(base, source, range(0)), base)


def test_mixing_passes_gradients_to_both() -> None:
    base, source = torch.zeros(1, 4, 3, requires_grad=True), torch.zeros(1, 4, 3, requires_grad=True)
    mix(base, source, range(1, 2)).sum().backward()
    assert base.grad is not None
    assert source.grad is not None
    assert base.grad[0, :, 0].tolist() == [1, 0, 1, 1]
    assert source.grad[0, :, 0].tolist() == [0, 1, 0, 0]


def test_a_repeated_latent_is_the_same_in_every_layer() -> None:
    latents = torch.rand(2, 3)
    assert torch.equal(repeat(latents, 4), torch.stack([latents] * 4, dim=1))


def test_each_scale_takes_its_code_by_either_name() -> None:
    a, b, c = codes(1, 2, 3)
    ours, published = Decoder().styles(coarse=a, middle=b, fine=c), Decoder().styles(hi=a, mid=b, lo=c)
    assert ours[:, :, 0].tolist() == [[1, 1, 2, 3]] * 2
    assert torch.equal(ours, published)


def test_scales_equal_their_ranges_however_these_are_written() -> None:
    a, b, c = codes(1, 2, 3)
    expected = Decoder().styles(hi=a, mid=b, lo=c)
    assert torch.equal(Decoder().styles(layers={"0-2": a, "2": b, "3-end": c}), expected)
    assert torch.equal(Decoder().styles(layers={(0, 2): a, (2, 3): b, (3, None): c}), expected)
    assert torch.equal(Decoder().styles(hi=a, layers={2: b, 3: c}), expected)


def test_unset_layers_share_one_random_code_in_each_row() -> None:
    (a,) = codes(1)
    styles = Decoder().styles(middle=a, rng=torch.Generator().manual_seed(0))
    expected = Hypersphere(3).sample(2, torch.Generator().manual_seed(0))
    assert torch.equal(styles[:, 2], a)
    for layer in (0, 1, 3):
        assert torch.equal(styles[:, layer], expected)


def test_nothing_is_drawn_where_every_layer_has_a_code() -> None:
    rng = torch.Generator().manual_seed(0)
    before = rng.get_state()
    Decoder().styles(layers={"0-end": torch.ones(2, 3)}, rng=rng)
    assert torch.equal(rng.get_state(), before)


def test_without_any_code_one_random_row_is_drawn() -> None:
    assert Decoder().styles(rng=torch.Generator().manual_seed(0)).shape == (1, 4, 3)


def test_the_rest_may_be_given() -> None:
    a, b = codes(1, 5)
    assert Decoder().styles(fine=a, rest=b)[:, :, 0].tolist() == [[5, 5, 5, 1]] * 2
    assert torch.equal(Decoder().styles(rest=b), repeat(b, 4))


def test_one_row_serves_all_rows() -> None:
    one, many = torch.ones(1, 3), torch.arange(12.0).view(4, 3)
    styles = Decoder().styles(coarse=one, rest=many)
    assert torch.equal(styles[:, 2], many)
    assert torch.equal(styles[:, 0], one.expand(4, 3))
    assert torch.equal(Decoder().styles(coarse=many, rest=one)[:, 3], one.expand(4, 3))


def test_a_layer_with_two_codes_is_refused() -> None:
    a, b = codes(1, 2)
    with pytest.raises(ValueError, match="layer 0 is given twice, by coarse and by hi: give every layer one code"):
        Decoder().styles(coarse=a, hi=b, rest=a)
    with pytest.raises(ValueError, match=r"layer 1 is given twice, by coarse and by \(1, 3\)"):
        Decoder().styles(coarse=a, layers={(1, 3): b}, rest=a)


def test_unset_layers_need_a_source_of_codes() -> None:
    (a,) = codes(1)
    with pytest.raises(ValueError, match=r"styles needs a code for every layer.*as rest, or a torch.Generator as rng"):
        Decoder().styles(coarse=a)
    with pytest.raises(ValueError, match=r"rest or rng .* got both"):
        Decoder().styles(coarse=a, rest=a, rng=torch.Generator())


@pytest.mark.parametrize("key", ["rough", "0-9", (0, 9), (2, -1), (2, 2), 4, (-1, 2)])
def test_wrong_ranges_are_refused(key: str | int | tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=r"layers .* (are not among the 4 layers|got 'rough')"):
        Decoder().styles(layers={key: torch.ones(1, 3)}, rest=torch.ones(1, 3))


def test_codes_of_wrong_or_unequal_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"the code of coarse must have shape \(N, D\), .* got \(3,\)"):
        Decoder().styles(coarse=torch.ones(3), rest=torch.ones(1, 3))
    with pytest.raises(ValueError, match=r"same number of rows, or one row, got \(2, 3\), \(5, 3\)"):
        Decoder().styles(coarse=torch.ones(2, 3), rest=torch.ones(5, 3))
    with pytest.raises(ValueError, match=r"the same D .* got \(2, 3\), \(2, 4\)"):
        Decoder().styles(coarse=torch.ones(2, 3), rest=torch.ones(2, 4))
