"""Attributes of images turned up and down along directions in latent space, and what else changes with them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from latent_lab.analyses.base import AbstractAnalysis, Result, Table, file_stem
from latent_lab.analyses.directions import (
    Direction,
    Exemplars,
    choose_exemplars,
    difference_of_means,
    read_direction,
)
from latent_lab.analyses.feeding import HeldOut, batches, device_of, real_images, situation, spread
from latent_lab.analyses.label_changes import Estimates, label_change
from latent_lab.analyses.label_regression import separate
from latent_lab.analyses.sample import magnification
from latent_lab.images import enlarge, make_grid, quantise
from latent_lab.latent.interfaces import AbstractAutoencoder, AbstractLayeredDecoder, require
from latent_lab.latent.styles import mix, parse_layers, repeat
from latent_lab.networks.face_identity import SAME_PERSON, DlibIdentity, distance, find_identity
from latent_lab.networks.label_regressor import LabelRegressor, load_regressor
from latent_lab.plotting import column_heads
from latent_lab.types import Film, Images, ImageSource, Latents
from latent_lab.video import WITHOUT_MP4, can_write_mp4, check_video, film_frame, there_and_back, video_files

ALL_LAYERS = "all"
MEASURED_AT = 1.0
"""Strength at which changes, leakage and direction are reported as numbers."""

_ESTIMATES, _SCORES, _IDENTITY = "estimates", "scores", "identity"

Instruments = Mapping[str, Callable[[Images], Tensor]]


@dataclass(frozen=True)
class _Attribute:
    """A direction and where it comes from."""

    direction: Direction
    facts: Mapping[str, Any]
    differences: Mapping[str, float] = field(default_factory=dict)
    """Mean labels of the exemplars with the attribute minus those without it."""


class _Seen:
    """What instruments read from pictures that come batch by batch, and the first pictures themselves."""

    def __init__(self, instruments: Instruments, keep: int) -> None:
        self.instruments = instruments
        self.keep = keep
        self.pictures: list[Images] = []
        self._parts: dict[str, list[Tensor]] = {name: [] for name in instruments}

    def add(self, pictures: Images) -> None:
        for name, read in self.instruments.items():
            self._parts[name].append(read(pictures).double().cpu())
        kept = sum(map(len, self.pictures))
        if kept < self.keep:
            self.pictures.append(pictures[: self.keep - kept].cpu())

    def __getitem__(self, name: str) -> Tensor:
        return torch.cat(self._parts[name])


@dataclass(frozen=True)
class Edit(AbstractAnalysis):
    """Images with attributes added and taken away: decode(z + strength * delta).

    delta is the mean code of images with the attribute minus that of images without it. Both sets are training images
    chosen by a label (`attributes`), or two folders (`latent-lab edit --with-dir A --without-dir B`), or delta comes
    ready from a file (`direction`). Strengths mean the same for all images, and none is chosen by eye.
    """

    name = "edit"
    requires = AbstractAutoencoder
    needs_images = True
    reference_beside_own_images = True

    attributes: tuple[str, ...] = ()
    """Labels, separated by commas or spaces. With a direction's file or two folders: the label that it stands for."""
    direction: str | None = None
    """File with a ready direction: .npy (as `latent-lab directions` and InterFaceGAN write them), .safetensors or .pt
    with one array (1, D) or (D,); for latents with one point per layer also (L, D), or (D,) for all layers."""
    strengths: tuple[float, ...] = (-2.0, -1.0, 1.0, 2.0)
    """What delta is multiplied by, from left to right on the sheets."""
    num_exemplars: int = 64
    """Images with, and as many without the attribute. Published: 16 to 64."""
    quantile: float = 0.25
    """Share of the training images that counts as high, and as low, in labels that are no yes or no."""
    renormalise: bool = False
    """Whether edited codes are projected to the latent space; as printed they are not."""
    layers: str = ALL_LAYERS
    """Layers that see the edited code, for decoders with one code per layer: all, coarse, middle, fine, or a-b (without
    b); the others see the unedited one."""
    num: int = 64
    """Images that are edited and measured, evenly spaced over the source."""
    rows: int = 8
    """Images on each sheet, the first of these."""
    regressor: str | None = None
    """File of `latent-lab train-regressor`: with it the change of every label is measured."""
    identity: Literal["dlib"] | None = None
    """dlib: measures the distance between the reconstruction's and the edited picture's face embedding."""
    identity_path: str | None = None
    """Its weights file, or a folder that holds it."""
    identity_box: tuple[float, ...] | str = "celeba"
    """How faces are framed: celeba (centred square of the aligned images), celeba_narrow, ffhq, or [left, top,
    right, bottom] of the embedding's chip in shares of the image."""
    seed: int = 0
    """Of the choice of exemplars."""
    batch_size: int = 64
    """Images at a time."""
    video_frames: int = 0
    """Frames of a video of each attribute (GIF, WebP, and MP4 where the package av is installed): the images of the
    sheet, from the lowest to the highest strength and back, through 0. 0: no video."""
    frames_per_second: float = 12.0
    """Of the videos."""

    def __post_init__(self) -> None:
        for option in ("num", "rows", "num_exemplars", "batch_size"):
            if getattr(self, option) < 1:
                raise ValueError(f"edit needs {option} of at least 1, got {getattr(self, option)}")
        if not 0 < self.quantile <= 0.5:
            raise ValueError(f"edit needs a quantile in (0, 0.5], got {self.quantile}")
        if not self.strengths or not all(math.isfinite(one) for one in self.strengths):
            raise ValueError(f"edit needs at least one finite strength, got {list(self.strengths)}")
        check_video(self.name, self.video_frames, self.frames_per_second)
        if self.direction is not None and len(self.names) > 1:
            raise ValueError(f"one direction stands for one attribute, got {', '.join(self.names)}: name one or none")

    @property
    def names(self) -> tuple[str, ...]:
        """The attributes one by one."""
        return separate(self.attributes)

    @property
    def needs_reference(self) -> bool:  # type: ignore[override]
        """Exemplars are training images, unless the direction is ready."""
        return self.direction is None

    @torch.no_grad()
    def run(self, model: AbstractAutoencoder, source: ImageSource | None) -> Result:
        """Numbers, for each attribute A:

            length_A: |delta|

        with a regressor, of strength +1 against the reconstruction (strength 0):

            change_A_LABEL: mean change of the label's estimate, in the label's units (a yes or no: probability)
            right_way_A: share of images whose own label moves up
            leakage_A: the largest change of another label over that of the label itself, both in standard deviations
                of the estimates over the reconstructions; labels that the regressor estimates poorly are left out

        with an identity, means over images:

            id_dlib_A_STRENGTH: distance between edited picture and reconstruction
            id_dlib_same_A_STRENGTH: share of images for which that is below 0.6
            id_dlib_reconstruction: distance between reconstruction and original
            id_dlib_others: distance between reconstructions of neighbouring images, others than the same person mostly

        Raises:
            ValueError: if nothing says what to edit, a label or file is not there, or the source is empty.
        """
        assert source is not None
        if len(source) == 0:
            raise ValueError("edit needs at least one image and the source is empty: name another folder")
        layers = self._layers(model)
        attributes = self._attributes(model, source)
        device = device_of(model)
        regressor = None if self.regressor is None else load_regressor(self.regressor).to(device)
        identity = None if self.identity is None else find_identity(self.identity_path, self.identity_box).to(device)
        instruments: dict[str, Callable[[Images], Tensor]] = {}
        if regressor is not None:
            instruments |= {_ESTIMATES: regressor, _SCORES: regressor.scores}
        if identity is not None:
            instruments |= {_IDENTITY: identity}

        measured = sorted({*self.strengths, MEASURED_AT}) if instruments else list(self.strengths)
        originals, plain = _Seen(instruments, self.rows), _Seen(instruments, self.rows)
        edited = {(name, strength): _Seen(instruments, self.rows) for name in attributes for strength in measured}
        places = spread(len(source), self.num)
        for piece in batches(range(len(places)), self.batch_size):
            images = real_images(model, source, [places[i] for i in piece])
            latents = model.encode(images)
            originals.add(quantise(images))
            plain.add(quantise(model.decode(latents).float()))
            for (name, strength), seen in edited.items():
                delta = attributes[name].direction.to(latents)
                seen.add(quantise(self._decode(model, latents, delta, strength, layers).float()))

        numbers = {f"length_{name}": torch.linalg.vector_norm(one.direction).item() for name, one in attributes.items()}
        tables: dict[str, Table] = {}
        if regressor is not None:
            found, tables = _label_changes(regressor, attributes, plain, edited, measured)
            numbers |= found
        if identity is not None:
            numbers |= _identity_changes(attributes, originals, plain, edited, self.strengths)
        pictures = {
            f"edit_{file_stem(name)}": self._sheet(model, originals, plain, [edited[name, s] for s in self.strengths])
            for name in attributes
        }
        files: dict[str, Callable[[Path], None]] = {}
        if self.video_frames:
            shown = real_images(model, source, places[: self.rows])
            for name, one in attributes.items():
                film = self._film(model, shown, one.direction, layers, name)
                files |= video_files(f"edit_{file_stem(name)}", film, frames_per_second=self.frames_per_second)
        protocol = self._protocol(model, source, attributes, len(places), layers, regressor, identity)
        if self.video_frames and not can_write_mp4():
            protocol["notes"].append(WITHOUT_MP4)
        if numbers.get("id_dlib_others", math.inf) < SAME_PERSON:
            protocol["notes"].append(
                "reconstructions of other people count as the same person, too: see id_dlib_others"
            )
        return Result(self.name, numbers, protocol, pictures, tables, files=files)

    def _film(
        self, model: AbstractAutoencoder, shown: Images, direction: Direction, layers: range | None, name: str
    ) -> Film:
        """Frames (T, 3, H, W): the images above, and below them what the strength written on top makes of them."""
        latents = model.encode(shown)
        lowest, highest = min(0.0, *self.strengths), max(0.0, *self.strengths)
        factor = magnification(model.resolution)
        frames = []
        for share in there_and_back(self.video_frames):
            strength = lowest + share * (highest - lowest)
            edited = self._decode(model, latents, direction.to(latents), strength, layers).float()
            sheet = enlarge(make_grid(torch.cat([shown, edited]), len(shown)).cpu(), factor).expand(-1, 3, -1, -1)
            head = column_heads([f"{name} {strength:+.2f}"], sheet.shape[3])
            frames.append(film_frame(torch.cat([head, sheet], dim=2)))
        return torch.cat(frames)

    def _decode(
        self, model: AbstractAutoencoder, latents: Latents, delta: Direction, strength: float, layers: range | None
    ) -> Images:
        """Pictures of the latents moved by strength * delta, in the given layers or, if none are given, in all."""
        moved = latents + strength * delta
        if self.renormalise:
            moved = model.latent_space.project(moved)
        if layers is None:
            return model.decode(moved)
        assert isinstance(model, AbstractLayeredDecoder)
        base, source = (repeat(codes, model.num_layers) for codes in (latents, moved))
        return model.decode_layers(mix(base, source, layers))

    def _layers(self, model: AbstractAutoencoder) -> range | None:
        if self.layers == ALL_LAYERS:
            return None
        by = f"edit of the layers {self.layers}"
        layered = require(model, AbstractLayeredDecoder, by=by)  # type: ignore[type-abstract]
        return parse_layers(self.layers, layered.layer_resolutions)

    def _attributes(self, model: AbstractAutoencoder, source: ImageSource) -> dict[str, _Attribute]:
        """Name -> direction of everything that is to be edited."""
        if self.direction is not None:
            path = Path(self.direction)
            space = model.latent_space
            delta = read_direction(path, space.dim, getattr(space, "num_layers", 1))
            return {next(iter(self.names), path.stem): _Attribute(delta, {"from": f"the file {path.name}"})}
        if isinstance(source, Exemplars):
            return dict([self._between_sets(model, source)])
        if not self.names:
            raise ValueError(
                "edit needs to know what to change: name labels as attributes, or a direction's file, or give two "
                "folders to `latent-lab edit --with-dir A --without-dir B`"
            )
        if not isinstance(source, HeldOut):
            raise ValueError(
                "edit chooses its exemplars from labelled training images and was given none: pass a HeldOut source, "
                "or name a direction's file"
            )
        return dict(self._by_label(model, source.reference))

    def _between_sets(self, model: AbstractAutoencoder, source: Exemplars) -> tuple[str, _Attribute]:
        if len(self.names) > 1:
            raise ValueError(f"two sets stand for one attribute, got {', '.join(self.names)}: name one or none")
        present, absent = ((one, spread(len(one), self.num_exemplars)) for one in (source.present, source.absent))
        facts = {
            "from": "two sets of images",
            "with": dict(source.present.recipe),
            "without": dict(source.absent.recipe),
            "num_with": len(present[1]),
            "num_without": len(absent[1]),
        }
        name = next(iter(self.names), str(source.present.recipe.get("source", "attribute")))
        return name, _Attribute(difference_of_means(model, present, absent, self.batch_size), facts)

    def _by_label(self, model: AbstractAutoencoder, source: ImageSource) -> Iterator[tuple[str, _Attribute]]:
        for label in self.names:
            chosen = choose_exemplars(source, label, self.num_exemplars, self.seed, self.quantile)
            facts = {
                "from": "labels of training images",
                "rule": chosen.rule,
                "num_with": len(chosen.present),
                "num_without": len(chosen.absent),
                "reference": dict(source.recipe),
            }
            delta = difference_of_means(model, (source, chosen.present), (source, chosen.absent), self.batch_size)
            yield label, _Attribute(delta, facts, chosen.differences)

    def _sheet(self, model: AbstractAutoencoder, originals: _Seen, plain: _Seen, edited: Sequence[_Seen]) -> Images:
        """One row for each image: itself, its reconstruction, and the strengths from left to right."""
        columns = [torch.cat(seen.pictures) for seen in (originals, plain, *edited)]
        tiles = torch.stack(columns, dim=1).flatten(0, 1)
        return enlarge(make_grid(tiles, len(columns)), magnification(model.resolution))

    def _protocol(
        self,
        model: AbstractAutoencoder,
        source: ImageSource,
        attributes: Mapping[str, _Attribute],
        num: int,
        layers: range | None,
        regressor: LabelRegressor | None,
        identity: DlibIdentity | None,
    ) -> dict[str, Any]:
        notes = []
        for name, one in attributes.items():
            least = min(one.facts.get(f"num_{side}", self.num_exemplars) for side in ("with", "without"))
            if least < self.num_exemplars:
                notes.append(f"{name}: one set has {least} exemplars, fewer than the {self.num_exemplars} asked for")
            if regressor is not None and name not in regressor.names:
                notes.append(f"{name} is no label of the regressor, so leakage and right way are not measured")
            elif regressor is not None and name not in regressor.reliable:
                notes.append(f"the regressor estimates {name} poorly, so what it says of it means little")
            if one.facts.get("reference", {}).get("hash", "") == source.recipe.get("hash"):
                notes.append(f"{name}: exemplars are among the images that are edited")
        if regressor is not None and regressor.facts.get("data", {}).get("hash", "") == source.recipe.get("hash"):
            notes.append("the regressor was trained on the images that are edited")
        return {
            **situation(model),
            "attributes": {name: dict(one.facts) for name, one in attributes.items()},
            "formula": "decode(z + strength * delta), the sum "
            + ("projected to the latent space" if self.renormalise else "as it is"),
            "layers": self.layers if layers is None else list(layers),
            "num": num,
            "chosen": "evenly spaced over the source",
            "columns": ["image", "reconstruction", *(f"{strength:+g}" for strength in self.strengths)],
            "curated": False,
            "regressor": None if regressor is None else regressor.describe(),
            "identity": None if identity is None else identity.describe(),
            "notes": notes,
        }


# ---------------------------------------------------------------------------------------------------- measurements


def _label_changes(
    regressor: LabelRegressor,
    attributes: Mapping[str, _Attribute],
    plain: _Seen,
    edited: Mapping[tuple[str, float], _Seen],
    strengths: Sequence[float],
) -> tuple[dict[str, float], dict[str, Table]]:
    """What edits do to every label, as numbers and as tables; see `Edit.run`."""
    before = Estimates(plain[_ESTIMATES], plain[_SCORES])
    numbers: dict[str, float] = {}
    tables: dict[str, Table] = {}
    in_deviations: dict[str, Mapping[str, float]] = {}
    for name, attribute in attributes.items():
        seen = {s: Estimates(edited[name, s][_ESTIMATES], edited[name, s][_SCORES]) for s in strengths}
        found = {s: label_change(regressor, name, before, after) for s, after in seen.items()}
        at_one = found[MEASURED_AT]
        numbers |= {f"change_{name}_{label}": change for label, change in at_one.changes.items()}
        in_deviations[name] = at_one.in_deviations
        if at_one.right_way is not None:
            numbers[f"right_way_{name}"] = at_one.right_way
        if at_one.leakage is not None:
            numbers[f"leakage_{name}"] = at_one.leakage
        header = ["label", "held-out", "exemplars", *(f"{strength:+g}" for strength in strengths)]
        rows: list[list[str | float]] = []
        for label in regressor.names:
            of_exemplars = attribute.differences.get(label, "")
            changes = (found[strength].changes[label] for strength in strengths)
            rows.append([label, _quality(regressor, label), of_exemplars, *changes])
        tables[f"mean change by {name}"] = [header, *rows]
    labels = [label for label in regressor.names if any(label in one for one in in_deviations.values())]
    rows = [[label, *(one.get(label, "") for one in in_deviations.values())] for label in labels]
    title = "change at +1 in standard deviations of the reconstructions"
    leakage: dict[str, Table] = {title: [["label", *in_deviations], *rows]}
    return numbers, leakage | tables


def _quality(regressor: LabelRegressor, label: str) -> str:
    """The regressor's held-out figure of a label: "auc 0.98"."""
    figures = regressor.facts.get("quality", {}).get(label, {})
    return ", ".join(f"{measure} {figures[measure]:.3f}" for measure in ("auc", "r2") if measure in figures)


def _identity_changes(
    attributes: Mapping[str, _Attribute],
    originals: _Seen,
    plain: _Seen,
    edited: Mapping[tuple[str, float], _Seen],
    strengths: Sequence[float],
) -> dict[str, float]:
    """Distances of face embeddings; see `Edit.run`."""
    faces = plain[_IDENTITY]
    numbers = {"id_dlib_reconstruction": distance(faces, originals[_IDENTITY]).mean().item()}
    if len(faces) > 1:
        numbers["id_dlib_others"] = distance(faces, faces.roll(1, 0)).mean().item()
    for name in attributes:
        for strength in strengths:
            apart = distance(faces, edited[name, strength][_IDENTITY])
            numbers[f"id_dlib_{name}_{strength:+g}"] = apart.mean().item()
            numbers[f"id_dlib_same_{name}_{strength:+g}"] = (apart < SAME_PERSON).double().mean().item()
    return numbers


__all__ = ["Edit"]
