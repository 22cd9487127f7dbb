"""dlib's face embedding: geometry, structure, file. The published weights are not needed here."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from latent_lab.networks.face_identity import BOXES, DlibFaceNetwork, cut, distance, find_identity

WHOLE = (0.0, 0.0, 1.0, 1.0)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of the published layout with other numbers."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = DlibFaceNetwork()
    path = tmp_path_factory.mktemp("weights") / "dlib_face_resnet_v1.fp16.safetensors"
    save_file({name: value.half() for name, value in network.state_dict().items()}, path)
    return path


def ramp(resolution: int) -> torch.Tensor:
    """Images that say where their pixels are: x in the first channel, y in the second, from -1 to 1 at the edges."""
    centres = (torch.arange(resolution) + 0.5) / resolution * 2 - 1
    x, y = centres.expand(resolution, resolution), centres[:, None].expand(resolution, resolution)
    return torch.stack([x, y, torch.zeros_like(x)])[None]


def test_the_whole_image_at_its_own_size_is_itself() -> None:
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    torch.testing.assert_close(cut(images, WHOLE, 16), images)


def test_a_box_shows_its_own_part_of_the_image() -> None:
    found = cut(ramp(64), (0.25, 0.5, 0.5, 0.75), 8)[0]
    expected = lambda begin: (begin + 0.25 * (torch.arange(8) + 0.5) / 8) * 2 - 1  # noqa: E731
    # A linear ramp is reproduced exactly by bilinear sampling.
    torch.testing.assert_close(found[0, 0], expected(0.25), atol=1e-5, rtol=0)
    torch.testing.assert_close(found[1, :, 0], expected(0.5), atol=1e-5, rtol=0)


def test_outside_the_image_its_edge_is_repeated() -> None:
    found = cut(ramp(16), (0.0, 0.5, 1.0, 1.5), 16)[0, 1]
    assert found[8:].unique().numel() == 1
    assert found[-1, 0].item() == pytest.approx(1 - 1 / 16)


def test_a_reduced_image_is_antialiased() -> None:
    stripes = torch.ones(1, 3, 256, 256)
    stripes[..., ::2] = -1.0
    # Away from the edges, where the filter sees one stripe more than the other.
    assert cut(stripes, WHOLE, 32)[..., 4:-4].abs().max() < 0.05


def test_boxes_of_celeba_agree_with_the_place_in_the_aligned_images() -> None:
    for name, (left, top, side) in {"celeba": (0, 20, 178), "celeba_narrow": (25, 45, 128)}.items():
        chip = [edge * side + offset for edge, offset in zip(BOXES[name], (left, top, left, top), strict=True)]
        assert chip == pytest.approx([32.8, 75.6, 146.8, 189.6])


def test_the_network_has_29_convolutions_and_halves_as_dlib_does() -> None:
    network = DlibFaceNetwork()
    assert sum(isinstance(module, torch.nn.Conv2d) for module in network.modules()) == 29
    sizes = []
    for block in network.blocks:
        block.register_forward_hook(lambda _module, _inputs, output: sizes.append(tuple(output.shape[1:])))
    assert network(torch.zeros(1, 3, 150, 150)).shape == (1, 128)
    assert sizes[2] == (32, 35, 35)
    assert sizes[6] == (64, 17, 17)
    assert sizes[9] == (128, 8, 8)
    assert sizes[-1] == (256, 2, 2)


def test_embeddings_do_not_depend_on_the_batch_and_take_grey_images(weights: Path) -> None:
    identity = find_identity(weights, "ffhq")
    images = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    # Convolutions over other batch sizes round differently.
    torch.testing.assert_close(identity(images)[:1], identity(images[:1]), atol=1e-5, rtol=1e-4)
    assert identity(images[:, :1]).shape == (3, 128)
    assert not identity.train().training


def test_a_file_with_other_numbers_does_not_bear_the_published_name(weights: Path) -> None:
    described = find_identity(weights).describe()
    assert (described["name"], described["canonical"], len(described["sha256"])) == ("id_dlib", False, 64)


def test_distance_is_euclidean() -> None:
    assert distance(torch.tensor([[0.0, 3.0]]), torch.tensor([[4.0, 0.0]])).tolist() == [5.0]


def test_unknown_boxes_and_absent_or_wrong_weights_are_refused(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match="celeba, celeba_narrow, ffhq"):
        find_identity(weights, "portrait")
    with pytest.raises(ValueError, match="left < right"):
        find_identity(weights, (0.5, 0.0, 0.2, 1.0))
    monkeypatch.delenv("LATENT_LAB_WEIGHTS", raising=False)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(ValueError, match=r"dlib's face recognition network.* was not found"):
        find_identity()
    save_file({"a": torch.zeros(1)}, tmp_path / "wrong.safetensors")
    with pytest.raises(ValueError, match="does not hold dlib's face recognition network"):
        find_identity(tmp_path / "wrong.safetensors")
