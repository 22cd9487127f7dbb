"""The four ways in which programs bring images to the size that an extractor sees; each gives another FID.

All of them take float images in [-1, 1] of any shape and return square ones:

- `clean`: Pillow's antialiased bicubic filter on floats, colour by colour, nothing rounded (Parmar et al. 2022);
- `tf1`: TensorFlow 1's bilinear resize without half-pixel centres and without antialias, as the original FID program;
- `torch`: PyTorch's bilinear resize with half-pixel centres and without antialias, as most ports have it;
- `torchmetrics`: the same with antialias, the default of torchmetrics.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor

from latent_lab.types import Images, OtherImages


def clean(images: Images, size: int) -> OtherImages:
    """Bicubic (a = -1/2), antialiased, cut off at [-1, 1] as clean-fid cuts off at 0 and 255."""
    if images.shape[-2:] == (size, size):
        return images
    # Pillow places its filter in float64; in float32, large images differ from it by a hundredth of a level.
    exact = images if images.device.type == "mps" else images.double()
    resized = F.interpolate(exact, (size, size), mode="bicubic", align_corners=False, antialias=True)
    return resized.clamp(-1.0, 1.0).to(images.dtype)


def tf1(images: Images, size: int) -> OtherImages:
    """Bilinear between the pixels floor(i s) and floor(i s) + 1, where s = old size / new size: corner to corner."""
    rows, next_rows, down = _tf1_places(images.shape[-2], size, images)
    columns, next_columns, right = _tf1_places(images.shape[-1], size, images)
    across = torch.lerp(images[..., columns], images[..., next_columns], right)
    return torch.lerp(across[..., rows, :], across[..., next_rows, :], down[:, None])


def _tf1_places(old: int, new: int, images: Images) -> tuple[Tensor, Tensor, Tensor]:
    """First pixel, second pixel and the weight of the second one, for each of `new` places along a side."""
    # TensorFlow has the scale and the product in float32; in float64, some places would fall short of a pixel.
    scale = torch.tensor(old / new, dtype=torch.float32, device=images.device)
    places = torch.arange(new, dtype=torch.float32, device=images.device) * scale
    first = places.long()
    return first, (first + 1).clamp(max=old - 1), (places - first).to(images.dtype)


def torch_bilinear(images: Images, size: int) -> OtherImages:
    """`F.interpolate(mode="bilinear", align_corners=False)`."""
    return F.interpolate(images, (size, size), mode="bilinear", align_corners=False)


def torchmetrics_bilinear(images: Images, size: int) -> OtherImages:
    """`F.interpolate(mode="bilinear", align_corners=False, antialias=True)`."""
    return F.interpolate(images, (size, size), mode="bilinear", align_corners=False, antialias=True)


RESIZES: Mapping[str, Callable[[Tensor, int], Tensor]] = MappingProxyType(
    {"clean": clean, "tf1": tf1, "torch": torch_bilinear, "torchmetrics": torchmetrics_bilinear}
)
"""Name of a protocol to its function of images and pixels per side."""
RESIZE_PROTOCOLS = tuple(RESIZES)

__all__ = ["RESIZES", "RESIZE_PROTOCOLS", "clean", "tf1", "torch_bilinear", "torchmetrics_bilinear"]
