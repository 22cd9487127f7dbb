"""Squares between four and hexagons between six latents, with a decoder that shows its latents."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from latent_lab.analyses import Interpolate
from latent_lab.analyses.feeding import prior_latents
from latent_lab.analyses.interpolate import HEXAGON_ROWS, centred_rows, corner_grid, hexagon, hexagon_nodes
from latent_lab.images import to_bytes
from latent_lab.latent.interfaces import AbstractAutoencoder
from latent_lab.latent.spaces import Gaussian, Hypersphere
from tests.unit.analyses.toys import Noise, ToyAutoencoder, ToyDecoder


class Linear(nn.Module, AbstractAutoencoder):
    """A 4 x 4 grey image, 1/10 of the latent's coordinates."""

    resolution = 4
    latent_space = Gaussian(16)

    def encode(self, images: Tensor) -> Tensor:
        return 10 * images[:, 0].flatten(1)

    def decode(self, latents: Tensor) -> Tensor:
        return (latents / 10).unflatten(1, (1, 4, 4)).expand(-1, 3, -1, -1)


def latents(n: int, dim: int = 16) -> Tensor:
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(0))


# Four corners


def test_on_straight_lines_the_square_is_bilinear() -> None:
    corners = latents(4)
    grid = corner_grid(Gaussian(16), corners, 5).view(5, 5, 16)
    for row in range(5):
        for column in range(5):
            down, across = row / 4, column / 4
            above = (1 - across) * corners[0] + across * corners[1]
            below = (1 - across) * corners[2] + across * corners[3]
            torch.testing.assert_close(grid[row, column], (1 - down) * above + down * below)


def test_on_the_sphere_paths_go_down_the_sides_first_and_then_across() -> None:
    space = Hypersphere(16)
    corners = space.project(latents(4))
    grid = corner_grid(space, corners, 3).view(3, 3, 16)
    torch.testing.assert_close(grid[[0, 0, 2, 2], [0, 2, 0, 2]], corners)
    left, right = (space.interpolate(corners[side][None], corners[side + 2][None], 0.5) for side in (0, 1))
    torch.testing.assert_close(grid[1, 1][None], space.interpolate(left, right, 0.5))
    torch.testing.assert_close(grid.norm(dim=2), torch.ones(3, 3))


def test_the_square_is_drawn_row_by_row_with_its_corners_in_the_corners() -> None:
    model = Linear()
    sheet = Interpolate(layout="corners", steps=3, seed=2)(model).pictures["interpolations"]
    # 4 pixels and an edge of 2, sixteen times enlarged.
    assert sheet.shape == (1, 3, 16 * (3 * 6 + 2), 16 * (3 * 6 + 2))
    small = sheet[..., 8::16, 8::16]
    ends = model.decode(prior_latents(model, 2, "interpolate/latents", range(4))).clamp(-1, 1)
    for end, (row, column) in zip(ends, [(0, 0), (0, 2), (2, 0), (2, 2)], strict=True):
        top, left = 2 + 6 * row, 2 + 6 * column
        torch.testing.assert_close(small[0, :, top : top + 4, left : left + 4], end)


def test_real_corners_stand_in_the_first_row() -> None:
    source, model = Noise(9), ToyAutoencoder()
    result = Interpolate(layout="corners", steps=6, seed=1)(model, source)
    sheet = result.pictures["interpolations"][..., ::4, ::4]
    assert sheet.shape == (1, 3, 7 * 18 + 2, 6 * 18 + 2)
    every = source.batch(range(9), 16).images
    places = []
    for column in range(6):
        tile = sheet[0, :, 2:18, 2 + 18 * column : 18 + 18 * column]
        distances = (every - tile).abs().amax((1, 2, 3))
        places.append(int(distances.argmin()) if distances.min() < 1e-6 else None)
    assert len(set(places[:4])) == 4
    assert None not in places[:4]
    assert places[4:] == [None, None]
    codes = model.encode(every[places[:1]])
    torch.testing.assert_close(sheet[:, :, 20:36, 2:18], model.decode(codes).detach().clamp(-1, 1))


@pytest.mark.parametrize("steps", [2, 3])
def test_more_corners_than_steps_take_more_rows(steps: int) -> None:
    sheet = Interpolate(layout="corners", steps=steps)(ToyAutoencoder(), Noise(9)).pictures["interpolations"]
    assert sheet.shape[2:] == (4 * ((2 + steps) * 18 + 2), 4 * (steps * 18 + 2))


def test_straight_paths_of_a_linear_decoder_have_even_steps() -> None:
    class Small(Linear):
        def decode(self, latents: Tensor) -> Tensor:  # nothing is clamped
            return super().decode(latents) / 10

    for layout in ("pairs", "corners"):
        numbers = Interpolate(layout=layout)(Small()).numbers
        assert numbers == {"largest_step_ratio": pytest.approx(1, abs=1e-4)}


# Six corners


def test_the_hexagon_has_19_nodes_and_42_links() -> None:
    nodes = hexagon_nodes()
    distances = torch.cdist(nodes, nodes)
    assert len(nodes) == sum(HEXAGON_ROWS) == 19
    assert ((distances - 1).abs() < 1e-9).sum() == 2 * 42
    assert distances.max().item() == pytest.approx(4)
    assert torch.allclose(nodes[9], torch.zeros(2, dtype=torch.float64))


def test_corners_stay_and_sides_are_halved() -> None:
    space = Hypersphere(8)
    corners = space.project(latents(6, 8))
    points = hexagon(space, corners)
    assert torch.equal(points[[0, 2, 7, 11, 16, 18]], corners)
    sides = {1: (0, 1), 3: (0, 2), 6: (1, 3), 12: (2, 4), 15: (3, 5), 17: (4, 5)}
    for node, (a, b) in sides.items():
        torch.testing.assert_close(points[node][None], space.interpolate(corners[a][None], corners[b][None], 0.5))
    torch.testing.assert_close(points.norm(dim=1), torch.ones(19))


def test_inner_nodes_weigh_corners_by_nearness() -> None:
    space = Hypersphere(8)
    corners = space.project(latents(6, 8))
    points = hexagon(space, corners)
    # From the centre all corners are equally far.
    torch.testing.assert_close(points[9], space.project(corners.mean(0, keepdim=True))[0])
    # The node beside the first corner: 1 from it, sqrt(3) from its neighbours, sqrt(7) from theirs, 3 from the last.
    near, next_to, beyond, far = (1 - d / 4 for d in (1, 3**0.5, 7**0.5, 3))
    weights = torch.tensor([near, next_to, next_to, beyond, beyond, far])
    torch.testing.assert_close(points[4], space.project(weights[None] @ corners)[0])


def test_in_a_space_of_vectors_inner_nodes_are_means() -> None:
    same = latents(1).expand(6, -1)
    torch.testing.assert_close(hexagon(Gaussian(16), same), latents(1).expand(19, -1))


def test_the_order_of_corners_turns_with_the_hexagon() -> None:
    space = Gaussian(16)
    corners = latents(6)
    turned = hexagon(space, corners.flip(0))
    torch.testing.assert_close(turned, hexagon(space, corners).flip(0))


def test_rows_of_the_sheet_interlock() -> None:
    rows = [torch.full((n, 3, 4, 4), value) for n, value in ((2, -0.5), (3, 0.5), (1, 0.0))]
    sheet = centred_rows(rows)
    assert sheet.shape == (1, 3, 3 * 6 + 2, 3 * 6 + 2)
    middle = [sheet[0, 0, 2 + 6 * row + 1] for row in range(3)]
    dark = [(line < 0.9).nonzero().flatten().tolist() for line in middle]
    assert dark[0] == [*range(5, 9), *range(11, 15)]
    assert dark[1] == [*range(2, 6), *range(8, 12), *range(14, 18)]
    assert dark[2] == [*range(8, 12)]


def test_a_hexagon_of_samples_and_one_of_images() -> None:
    samples = Interpolate(layout="hexagon")(ToyDecoder())
    assert samples.pictures["interpolations"].shape == (1, 3, 4 * (5 * 18 + 2), 4 * (5 * 18 + 2))
    assert set(samples.numbers) == {"largest_link_ratio"}
    assert 1 < samples.numbers["largest_link_ratio"] < 42
    images = Interpolate(layout="hexagon")(ToyAutoencoder(), Noise(6))
    assert images.pictures["interpolations"].shape == (1, 3, 4 * (6 * 18 + 2), 4 * (6 * 18 + 2))


@pytest.mark.parametrize(("layout", "count"), [("corners", 4), ("hexagon", 6)])
def test_too_few_images_are_refused(layout: str, count: int) -> None:
    with pytest.raises(ValueError, match=f"needs at least {count} images, got a source with {count - 1}"):
        Interpolate(layout=layout)(ToyAutoencoder(), Noise(count - 1))


# Videos


def test_a_video_takes_all_pairs_there_and_back_along_the_spaces_own_path(tmp_path) -> None:
    model = Linear()
    result = Interpolate(pairs=4, steps=2, video_frames=4, seed=1)(model)
    ends = prior_latents(model, 1, "interpolate/latents", range(8))
    film = result.files["interpolations.gif"].keywords["frames"]
    assert film.shape == (4, 3, 32 * 14, 32 * 14)  # two rows of two, enlarged to 128 px each, and gaps of 2
    for frame, share in zip(film[:, :, ::32, ::32], (0.0, 0.5, 1.0, 0.5), strict=True):
        latents = model.latent_space.interpolate(ends[0::2], ends[1::2], share)
        first = model.decode(latents).clamp(-1, 1)
        assert torch.equal(frame[:, 2:6, 2:6], to_bytes(first[:1])[0])
        assert torch.equal(frame[:, 8:12, 8:12], to_bytes(first[3:])[0])
    for name, write in result.files.items():
        write(tmp_path / name)
    assert {"interpolations.gif", "interpolations.webp"} <= {path.name for path in tmp_path.iterdir()}


@pytest.mark.parametrize(("layout", "order"), [("corners", (0, 1, 3, 2)), ("hexagon", (0, 1, 3, 5, 4, 2))])
def test_a_video_of_a_square_or_hexagon_goes_round_its_corners(layout, order) -> None:
    model = Linear()
    result = Interpolate(layout=layout, video_frames=2 * len(order), seed=3)(model)
    film = result.files["interpolations.gif"].keywords["frames"][:, :, ::32, ::32]
    corners = prior_latents(model, 3, "interpolate/latents", range(len(order)))[list(order)]
    halfway = (corners + corners.roll(-1, 0)) / 2
    expected = to_bytes(model.decode(torch.stack([corners, halfway], 1).flatten(0, 1)))
    assert (film[:, :, 2:6, 2:6].int() - expected.int()).abs().max() <= 1  # sums in another order round otherwise


@pytest.mark.parametrize("layout", ["corners", "hexagon"])
def test_a_video_with_fewer_frames_than_corners_is_refused(layout) -> None:
    with pytest.raises(ValueError, match=f"round a {layout} needs a frame for each of its"):
        Interpolate(layout=layout, video_frames=3)


def test_no_video_is_made_unless_it_is_asked_for() -> None:
    assert Interpolate()(Linear()).files == {}


def test_a_video_without_mp4_says_so(monkeypatch) -> None:
    monkeypatch.setattr("latent_lab.video.importlib.util.find_spec", lambda name: None)
    result = Interpolate(pairs=1, video_frames=2)(Linear())
    assert set(result.files) == {"interpolations.gif", "interpolations.webp"}
    assert "latent-lab[video]" in result.protocol["notes"][0]
