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
from latent_lab.metrics.functional.path_length import (
    LARGEST_COMPARED,
    crop_face,
    path_distances,
    reduce_for_comparison,
    trimmed_mean,
)
from latent_lab.metrics.functional.prediction import area_under_curve, explained_share
from latent_lab.metrics.functional.reconstruction import (
    mean_absolute_error,
    mean_squared_error,
    peak_signal_to_noise_ratio,
    root_mean_squared_error,
)
from latent_lab.metrics.functional.separability import (
    attribute_entropy,
    conditional_entropy,
    most_confident,
    separability_score,
)
from latent_lab.metrics.functional.sliced_wasserstein import (
    laplacian_pyramid,
    pyramid_resolutions,
    sliced_wasserstein,
    sliced_wasserstein_of_points,
)

__all__ = [
    "LARGEST_COMPARED",
    "FrechetEstimate",
    "KernelEstimate",
    "Moments",
    "area_under_curve",
    "attribute_entropy",
    "conditional_entropy",
    "crop_face",
    "explained_share",
    "frechet_distance",
    "full_kernel_distance",
    "kernel_distance",
    "laplacian_pyramid",
    "mean_absolute_error",
    "mean_squared_error",
    "moments",
    "moments_from_sums",
    "most_confident",
    "path_distances",
    "peak_signal_to_noise_ratio",
    "polynomial_kernel",
    "pyramid_resolutions",
    "reduce_for_comparison",
    "root_mean_squared_error",
    "separability_score",
    "sliced_wasserstein",
    "sliced_wasserstein_of_points",
    "trimmed_mean",
]
