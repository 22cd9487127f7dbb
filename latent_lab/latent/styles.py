"""One latent for every layer: names of scales, ranges of layers, mixing, and the builder behind `model.styles(...)`.

Layers are counted from 0, the coarsest. Where a decoder has one layer for each resolution, ranges mean the same as in
the published Automodulator program; StyleGAN has two layers for each resolution.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from latent_lab.types import Latents, Styles

SCALES = ("coarse", "middle", "fine")
"""Names of the scales, from the first layer to the last."""

SYNONYMS: Mapping[str, str] = {"hi": "coarse", "mid": "middle", "lo": "fine"}
"""Names of the published Automodulator program -> ours; high stands for what is decided first."""

LayerKey: TypeAlias = str | int | tuple[int, int | None]
"""What a layer range may be written as: "coarse", "0-2", "2-end", "3", 3, (0, 2), (2, None)."""

_COARSE_UP_TO = 8
_FINE_FROM = 128
_RANGE = re.compile(r"(\d+)(?:-(\d+|end))?")


def scales(layer_resolutions: Sequence[int]) -> dict[str, range]:
    """The layers of each scale, under the names `SCALES`.

    Coarse layers work at 4 and 8 pixels, fine ones from 128 pixels on, middle ones between, as in the Automodulator
    program (StyleGAN's figures let the fine ones begin at 64). A decoder that ends below 128 pixels keeps three scales:
    its last resolution is fine, and coarse are 4 and 8 pixels as far as they are below its last two resolutions. With
    fewer than three resolutions the first is coarse, the last fine, and middle is empty.

    Args:
        layer_resolutions: pixels per side at which each layer works, ascending.
    """
    steps = sorted(set(layer_resolutions))
    if steps[-1] >= _FINE_FROM:
        coarse_up_to, fine_from = _COARSE_UP_TO, _FINE_FROM
    elif len(steps) >= 3:
        coarse_up_to, fine_from = min(_COARSE_UP_TO, steps[-3]), steps[-1]
    else:
        coarse_up_to, fine_from = steps[0], steps[0] + 1
    coarse = sum(pixels <= coarse_up_to for pixels in layer_resolutions)
    fine = sum(pixels < fine_from for pixels in layer_resolutions)
    return dict(zip(SCALES, (range(coarse), range(coarse, fine), range(fine, len(layer_resolutions))), strict=True))


def scale_name(text: str) -> str:
    """The name without its synonyms: "hi" is "coarse"; anything else stays as it is."""
    return SYNONYMS.get(text, text)


def parse_layers(text: str, layer_resolutions: Sequence[int]) -> range:
    """Layers by the name of a scale or by their numbers.

    "coarse", "middle", "fine" and their synonyms "hi", "mid", "lo" name scales; "a-b" are the layers a ... b - 1, half
    open like the published program's (begin, end); "a-end" are a and all after it; "a" is one layer.

    Args:
        text: one of these.
        layer_resolutions: pixels per side at which each layer works, ascending.

    Raises:
        ValueError: if the text is none of these, or if such layers do not exist.
    """
    text = text.strip()
    count = len(layer_resolutions)
    if scale_name(text) in SCALES:
        layers = scales(layer_resolutions)[scale_name(text)]
        if not layers:
            sizes = ", ".join(map(str, sorted(set(layer_resolutions))))
            raise ValueError(f"a decoder of {sizes} pixels has no {text} layers: write numbers of layers, such as 0-1")
        return layers
    found = _RANGE.fullmatch(text)
    if found is None:
        raise ValueError(
            f"layers must be coarse, middle, fine (hi, mid, lo), a-b (layers a to b - 1), a-end or one number, "
            f"got {text!r}"
        )
    begin = int(found[1])
    end = count if found[2] == "end" else int(found[2]) if found[2] else begin + 1
    return _checked(begin, end, count, text)


def mix(base: Styles, source: Styles, layers: range) -> Styles:
    """The base with these layers taken from the source, row by row.

    Args:
        base: (N, L, D).
        source: (N, L, D).
        layers: consecutive ones, as `parse_layers` gives them.
    """
    mixed = base.clone()
    mixed[:, layers.start : layers.stop] = source[:, layers.start : layers.stop]
    return mixed


def repeat(latents: Latents, num_layers: int) -> Styles:
    """The same latent for every layer, (N, L, D); it takes no memory."""
    return latents.unsqueeze(1).expand(-1, num_layers, -1)


def assemble(
    codes: Iterable[tuple[LayerKey, Tensor]],
    layer_resolutions: Sequence[int],
    rest: Tensor | Callable[[int], Tensor],
) -> Styles:
    """Styles from codes for parts of the layers.

    Args:
        codes: pairs of a layer range and its code, (N, D) or (1, D) for all rows.
        layer_resolutions: pixels per side at which each layer works, ascending; there are L of them.
        rest: one code (N, D) or (1, D) for all layers that no pair names, or a function of N that gives it; the
            function is called only if there are such layers.

    Returns:
        (N, L, D), with N the largest number of rows of any code.

    Raises:
        ValueError: if a range is wrong, if two ranges overlap, or if the codes' shapes do not fit together.
    """
    layer_codes: list[Tensor | None] = [None] * len(layer_resolutions)
    names: dict[int, LayerKey] = {}
    given = []
    for key, code in codes:
        given.append(_checked_code(f"the code of {key}", code))
        for layer in _layers_of(key, layer_resolutions):
            if layer in names:
                raise ValueError(
                    f"layer {layer} is given twice, by {names[layer]} and by {key}: give every layer one code"
                )
            names[layer] = key
            layer_codes[layer] = code
    if not callable(rest):
        given.append(_checked_code("rest", rest))
    rows = _common_rows(given)
    if any(code is None for code in layer_codes):
        remaining = rest(rows) if callable(rest) else rest
        remaining = remaining.to(given[0]) if given else remaining
        layer_codes = [remaining if code is None else code for code in layer_codes]
    return torch.stack([code.expand(rows, -1) for code in layer_codes if code is not None], dim=1)


def _layers_of(key: LayerKey, layer_resolutions: Sequence[int]) -> range:
    if isinstance(key, str):
        return parse_layers(key, layer_resolutions)
    count = len(layer_resolutions)
    begin, end = (key, key + 1) if isinstance(key, int) else key
    return _checked(begin, count if end is None else end, count, str(key))


def _checked(begin: int, end: int, count: int, text: str) -> range:
    if not 0 <= begin < end <= count:
        raise ValueError(
            f"layers {text} are not among the {count} layers: a range begins at 0 or later, ends after it begins, at "
            f"{count} at most, and leaves its end out (a-end or (a, None): all from a on)"
        )
    return range(begin, end)


def _checked_code(what: str, code: Tensor) -> Tensor:
    if code.ndim != 2 or len(code) == 0:
        raise ValueError(f"{what} must have shape (N, D), or (1, D) for all rows alike, got {tuple(code.shape)}")
    return code


def _common_rows(codes: Sequence[Tensor]) -> int:
    """Rows of codes that fit together; 1 if there are none."""
    if len({code.shape[1] for code in codes}) > 1 or len({len(code) for code in codes} - {1}) > 1:
        shapes = ", ".join(dict.fromkeys(str(tuple(code.shape)) for code in codes))
        raise ValueError(f"codes must have the same D and the same number of rows, or one row, got {shapes}")
    return max((len(code) for code in codes), default=1)
