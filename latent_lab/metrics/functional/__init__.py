"""The mathematics of the metrics: pure functions, float64 where sums matter."""

from latent_lab.metrics.functional.frechet import (
    FrechetEstimate,
    Moments,
    frechet_distance,
    moments,
    moments_from_sums,
)
from latent_lab.metrics.functional.kernel import (
    KernelEstimate,
    full_kernel_distance,
    kernel_distance,
    polynomial_kernel,
)
from latent_lab.metrics.functional.path_length import crop_face, path_distances, trimmed_mean
from latent_lab.metrics.functional.reconstruction import (
    mean_absolute_error,
    mean_squared_error,
    peak_signal_to_noise_ratio,
    root_mean_squared_error,
)
from latent_lab.metrics.functional.sliced_wasserstein import (
    laplacian_pyramid,
    pyramid_resolutions,
    sliced_wasserstein,
    sliced_wasserstein_of_points,
)

__all__ = [
    "FrechetEstimate",
    "KernelEstimate",
    "Moments",
    "crop_face",
    "frechet_distance",
    "full_kernel_distance",
    "kernel_distance",
    "laplacian_pyramid",
    "mean_absolute_error",
    "mean_squared_error",
    "moments",
    "moments_from_sums",
    "path_distances",
    "peak_signal_to_noise_ratio",
    "polynomial_kernel",
    "pyramid_resolutions",
    "root_mean_squared_error",
    "sliced_wasserstein",
    "sliced_wasserstein_of_points",
    "trimmed_mean",
]
