from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from latent_lab.analyses import ANALYSES, HeldOut, Result, ViewSynthesis
from latent_lab.analyses.camera_runs import CameraRun, RunImages, camera_runs
from latent_lab.analyses.run_processes import Chart, Start, described, fitted_process, scaled_process
from latent_lab.images import from_bytes
from latent_lab.latent.interfaces import AbstractAutoencoder
from latent_lab.latent.spaces import AbstractLatentSpace, Gaussian, Hypersphere
from latent_lab.latent.trajectory import LatentTrajectory
from latent_lab.priors.poses import Poses
from latent_lab.types import ImageBatch
from tests.unit.analyses.toys import Noise

PACES = {
    "uniform": (0.0, 0.2, 0.4, 0.6, 0.8, 1.0),
    "standstill": (0.0, 0.5, 0.5, 0.5, 0.5, 1.0),
    "back_and_forth": (0.0, 0.8, 0.2, 0.2, 0.9, 1.0),
    "long": tuple(frame / 20 for frame in range(21)),
}
FEW: dict[str, Any] = {
    "perceptual": "random_l2",
    "step": 1,
    "columns": 3,
    "video_frames": 0,
    "num_samples": 2,
    "num_resamples": 20,
}


def poses_at(yaws: Sequence[float]) -> Tensor:
    """Camera-to-object matrices of heads turned by so many degrees."""
    angles = torch.deg2rad(torch.tensor(list(yaws), dtype=torch.float64))
    poses = torch.eye(4, dtype=torch.float64).repeat(len(angles), 1, 1)
    poses[:, 0, 0] = poses[:, 2, 2] = angles.cos()
    poses[:, 0, 2], poses[:, 2, 0] = angles.sin(), -angles.sin()
    return poses


class Turning:
    """Persons whose images are linear in the sine of the yaw, from -40 to 40 degrees at a pace."""

    label_names: tuple[str, ...] = ("object", "view", "yaw")

    def __init__(self, pace: str = "standstill", num_runs: int = 2, *, posed: bool = True, split: str = "test") -> None:
        self.yaws = [80.0 * place - 40.0 for place in PACES[pace]] * num_runs
        self.num_frames = len(PACES[pace])
        self.posed = posed
        self.recipe: dict[str, Any] = {"split": split, "hash": f"{pace}-{num_runs}"}

    def __len__(self) -> int:
        return len(self.yaws)

    def batch(self, indices: Sequence[int], resolution: int) -> ImageBatch:
        yaws = [self.yaws[place] for place in indices]
        persons = [place // self.num_frames for place in indices]
        x = torch.linspace(-1, 1, resolution)
        grey = [
            128 + 10 * person + 80 * math.sin(math.radians(yaw)) * x for person, yaw in zip(persons, yaws, strict=True)
        ]
        pixels = torch.stack(grey).round().to(torch.uint8)[:, None, None].expand(-1, 3, resolution, -1)
        frames = [place % self.num_frames for place in indices]
        labels = torch.tensor([[*row] for row in zip(persons, frames, yaws, strict=True)], dtype=torch.float32)
        return ImageBatch(
            from_bytes(pixels), torch.tensor(list(indices)), labels, poses_at(yaws).float() if self.posed else None
        )


class Linear(nn.Module, AbstractAutoencoder):
    """Codes are coordinates of images along fixed directions, on a flat space or scaled to length 1."""

    def __init__(self, space: AbstractLatentSpace | None = None, resolution: int = 16) -> None:
        super().__init__()
        self.space = Gaussian(3) if space is None else space
        self.pixels = resolution
        row = torch.linspace(-1, 1, resolution)
        axes = torch.stack([torch.ones(resolution), row, row.square() - row.square().mean()])
        axes = axes[:, None, None].expand(-1, 3, resolution, -1).flatten(1)
        self.axes = nn.Parameter(axes / torch.linalg.vector_norm(axes, dim=1, keepdim=True))

    @property
    def latent_space(self) -> AbstractLatentSpace:
        return self.space

    @property
    def resolution(self) -> int:
        return self.pixels

    def encode(self, images: Tensor) -> Tensor:
        return self.space.project(images.flatten(1) @ self.axes.T)

    def decode(self, latents: Tensor) -> Tensor:
        return (latents @ self.axes).view(-1, 3, self.pixels, self.pixels)


def run(source: Any = None, model: Any = None, **options: Any) -> Result:
    return ViewSynthesis(**{**FEW, **options})(model or Linear(), source or Turning())


def test_it_is_registered():
    assert ANALYSES["view-synthesis"] is ViewSynthesis


@pytest.mark.parametrize("pace", ["standstill", "back_and_forth"])
def test_a_process_follows_the_camera_where_a_line_does_not(pace: str):
    numbers = run(Turning(pace)).numbers
    # Codes are linear in the sine of the yaw, which two ends of a run determine; a line misses them by far.
    assert numbers["code_distance_gp_view"] < 0.2 * numbers["code_distance_linear"]
    assert numbers["mse_gp_view_minus_linear"] < 0
    assert numbers["random_l2_gp_view_to_reconstruction_minus_linear"] < 0


def test_on_uniform_motion_both_are_nearly_the_same():
    numbers = run(Turning("uniform")).numbers
    assert abs(numbers["psnr_gp_view_minus_linear"]) < 1.0


def test_differences_are_those_of_the_means():
    result = run()
    numbers = result.numbers
    for measure in ("mse", "ssim", "random_l2", "mse"):
        difference = numbers[f"{measure}_gp_view"] - numbers[f"{measure}_linear"]
        assert numbers[f"{measure}_gp_view_minus_linear"] == pytest.approx(difference)
    low, high = result.intervals["mse_gp_view_minus_linear"]
    assert low <= numbers["mse_gp_view_minus_linear"] <= high


def test_smoothing_compares_with_reconstructions_and_leaves_one_out():
    result = run(observed="all")
    assert result.protocol["mode"] == "smoothing"
    assert not [name for name in result.numbers if "linear" in name]
    assert {"nlpd_gp_view", "coverage_gp_view", "mse_gp_view_minus_reconstruction"} <= set(result.numbers)


def test_every_kernel_and_the_released_baseline_have_numbers_of_their_own():
    kernels = ("view", "euler", "face_released", "view_translation")
    result = run(kernels=kernels, baselines=("linear", "linear_released"))
    assert {f"mse_gp_{kernel}" for kernel in kernels} <= set(result.numbers)
    assert "mse_linear_released" in result.numbers


def test_the_released_baseline_goes_a_fifth_too_far():
    # A seventh, with 21 frames: 6/5 of 20/21.
    result = run(Turning("long"), baselines=("linear", "linear_released"))
    assert result.numbers["code_distance_linear_released"] > 1.5 * result.numbers["code_distance_linear"]


@pytest.mark.parametrize("geometry", ["tangent", "project"])
def test_latents_on_a_sphere_stay_there(geometry: str):
    numbers = run(model=Linear(Hypersphere(3)), geometry=geometry).numbers
    assert numbers["code_distance_gp_view"] < 0.3 * numbers["code_distance_linear"]


@pytest.mark.parametrize("fit_to", ["training", "observed", "run"])
def test_hyperparameters_are_fitted(fit_to: str):
    source = HeldOut(Turning(), Turning("uniform", split="train"))
    result = run(source, hyperparameters="fitted", fit_to=fit_to, observed="every:2", fit_frames=6)
    found = result.protocol["shown"]["hyperparameters"]["gp_view"]
    assert found["length_scale"] != pytest.approx(ViewSynthesis().length_scale, rel=1e-6)


def test_published_hyperparameters_are_taken_as_they_are():
    found = run(hyperparameters="published").protocol["shown"]["hyperparameters"]["gp_view"]
    assert found == pytest.approx({"variance": 13.8156, "length_scale": 1.0975, "noise": 1.4})


def test_the_figure_has_five_rows_and_the_videos_all_columns(tmp_path):
    result = run(video_frames=4)
    assert result.pictures["views"].shape[2] % 5 == 0
    result.save(tmp_path)
    with Image.open(tmp_path / "views.gif") as video:
        assert video.n_frames == 4


def test_uncertainty_is_least_at_observed_frames():
    result = run(Turning("uniform"), columns=6, num_samples=16, length_scale=0.5)
    rows = result.pictures["views"]
    shading = rows[0, 0, -rows.shape[2] // 5 :, 150:]
    middle, ends = shading.shape[1] // 2, shading.shape[1] // 6
    assert shading[:, middle - 8 : middle + 8].mean() < shading[:, 4 : ends - 4].mean()


def test_frames_without_an_image_are_predicted_and_not_compared():
    images = Turning("uniform", 1)
    trajectory = LatentTrajectory.from_matrices(poses_at(images.yaws), [1, 2, 3, 7, 8, 9])
    source = RunImages(images, CameraRun("walk", trajectory, (0, None, 2, 3, None, 5)))
    result = run(source, observed="1,9")
    assert result.protocol["shown"]["observed"] == [1, 9]
    assert any("2 frames of walk have no image" in note for note in result.protocol["notes"])
    assert any("missing" in note for note in result.protocol["notes"])


def test_equal_codes_and_repeated_poses_are_no_obstacle():
    source = Turning("uniform", 1)
    source.yaws = [10.0] * 6
    numbers = run(source).numbers
    assert numbers["code_distance_gp_view"] == pytest.approx(0.0, abs=1e-6)
    assert all(math.isfinite(value) for value in numbers.values())


def test_batch_size_changes_nothing():
    assert run(batch_size=1).numbers == pytest.approx(run().numbers, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"observed": "first"}, "ends, all, every:N or numbers"),
        ({"observed": "0"}, "at least two frames of a run must be observed"),
        ({"observed": "0,17"}, "frame 17 has no pose"),
        ({"observed": "every:1"}, "nothing to predict"),
        ({"observed": "every:0"}, "N of at least 1"),
        ({"observed": "0,1,5", "baselines": ("linear", "linear_released")}, "between two observed frames, got 3"),
        ({"hyperparameters": "fitted"}, "no training runs"),
        ({"hyperparameters": "fitted", "fit_to": "observed"}, "2 frames do not determine hyper-parameters"),
        ({"shown": 2}, "one of 2 runs"),
    ],
)
def test_what_cannot_be_is_said_in_one_sentence(options: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        run(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kernels": ("cosine",)}, "kernels must be some of view"),
        ({"kernels": ("view", "view")}, "each once"),
        ({"baselines": ("linear_released",)}, "must hold linear"),
        ({"noise_share": 0.0}, "noise_share must be positive"),
        ({"step": 0}, "step must be at least 1"),
        ({"num_runs": 0}, "num_runs must be at least 1"),
        ({"level": 1.0}, "level must lie between 0 and 1"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        ViewSynthesis(**options)


@pytest.mark.parametrize("source", [Noise(4), Turning(posed=False)], ids=["noise", "labels alone"])
def test_images_without_poses_are_refused(source: Any):
    with pytest.raises(ValueError, match="have neither or only one of the two"):
        run(source)


def test_a_pose_that_is_no_rotation_is_refused():
    class Scaled(Turning):
        def batch(self, indices: Sequence[int], resolution: int) -> ImageBatch:
            batch = super().batch(indices, resolution)
            assert batch.pose is not None
            return batch._replace(pose=2.0 * batch.pose)

    with pytest.raises(ValueError, match="run 0: the 3 x 3 of frame 0 is no rotation"):
        run(Scaled())


def test_a_single_frame_is_no_run():
    class Single(Turning):
        def __len__(self) -> int:
            return 1

    with pytest.raises(ValueError, match="run 0: a trajectory needs at least two frames"):
        run(Single())


def test_runs_are_told_apart_by_object():
    runs = camera_runs(Turning(num_runs=3), 2)
    assert [one.name for one in runs] == ["run 0", "run 1"]
    assert runs[1].places == tuple(range(6, 12))


# -------------------------------------------------------------------------------------------------------- processes


def test_a_chart_brings_codes_back():
    codes = Hypersphere(4).sample(6, torch.Generator().manual_seed(0)).double()
    for geometry in ("tangent", "project"):
        chart = Chart.around(Hypersphere(4), codes, geometry)
        assert torch.allclose(chart.curved(chart.flat(codes)), codes)


def test_the_scaled_variance_is_the_most_likely_one():
    poses = Poses.from_matrices(poses_at([-40, -10, 5, 40]))
    rows = torch.randn(4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    start = Start(1.0, 1.0, 0.1)
    made = scaled_process("view", start, poses, rows)
    # n / (n - 1) of the factor by which the start is most likely, so the factor of the result is (n - 1) / n.
    assert made.best_scale(poses, rows) == pytest.approx(3 / 4)
    assert described(made)["noise"] == pytest.approx(0.1 * described(made)["variance"])


def test_runs_that_are_fitted_together_are_independent():
    rng = torch.Generator().manual_seed(0)
    poses = Poses.from_matrices(poses_at([-40, -20, 0, 20, 40]))
    rows = [torch.randn(5, 4, generator=rng, dtype=torch.float64) for _ in range(2)]
    process, facts = fitted_process("view", Start(1.0, 1.0, 0.1), [(poses, one) for one in rows])
    apart = sum(process.log_marginal_likelihood(poses, one).item() for one in rows)
    assert facts["log_likelihood"] == pytest.approx(apart, rel=1e-9)
