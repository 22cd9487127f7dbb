"""Portraits of stylised people, drawn by vectorised torch code at any resolution from known factors.

A head is an ellipsoid under an orthographic camera. Each pixel is cast onto it once; the features of the face are
drawn in the coordinates of its surface, so that they shift and foreshorten when the head turns. Hair and hat are
slightly larger ellipsoids; ears, neck and shoulders are flat shapes at projected places. Every outline is a signed
distance turned into the covered fraction of a pixel, so that an image and the reduced copy of a larger one agree.

Frames and units:
    screen: x to the viewer's right and y up, both in [-1, 1] over the image.
    head frame: the screen moved to the middle of the head and turned back by the roll.
    object: X to the viewer's right, Y up, Z out of the face, in screen units, turning with the head.

Inside this module colours are RGB in [0, 1], held as (3, N, 1, 1), pictures are (3, N, h, w), maps over pixels
(N, h, w) and measures of a person (N, 1, 1). Only +, -, *, /, rsqrt, remainder and comparisons touch pixels: torch's
transcendental functions differ in the last bit between vectorised and remaining elements, and pixels would depend on
the batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from latent_lab.distributed import IndexedRandom
from latent_lab.images import from_unit
from latent_lab.types import Images

GEOMETRY_NAMES: tuple[str, ...] = (
    "face_width",
    "face_length",
    "jaw_width",
    "eye_spacing",
    "eye_size",
    "eye_height",
    "eye_tilt",
    "brow_height",
    "brow_thickness",
    "nose_length",
    "nose_width",
    "mouth_width",
    "lip_fullness",
    "ear_size",
    "neck_width",
    "hairline_height",
)
"""Columns of `FaceFactors.geometry`."""

LABEL_NAMES: tuple[str, ...] = (
    "identity",
    "male",
    "age",
    "skin_tone",
    "hair_colour",
    "hair_length",
    "smiling",
    "mouth_open",
    "eyeglasses",
    "wearing_hat",
    "beard",
    "yaw",
    "pitch",
    "roll",
    "light_azimuth",
    "light_elevation",
    "light_strength",
)
"""Columns of `FaceFactors.labels()`: the scalar factors in their own units, under the names usual for faces."""

_FIELD_OF_LABEL = {"smiling": "smile", "eyeglasses": "glasses", "wearing_hat": "hat"}

CAMERA_DISTANCE = 4.0
"""From the camera to the middle of the head, in screen units (half the image is 1)."""

_HEAD_CENTRE_Y = 0.035
_WIDEST_JAW = 1.25
# Torch runs maps of this size on one thread, without barriers, and they stay in the cache.
_PIXELS_PER_CHUNK = 32768

# Any of the sizes N, h and w may be 1 and broadcasts.
Map = Float[Tensor, "_ _ _"]
Measure = Float[Tensor, "_ 1 1"]
Colour = Float[Tensor, "3 _ 1 1"]
Picture = Float[Tensor, "3 _ _ _"]
_Axes = tuple[Measure, Measure, Measure]


@dataclass(frozen=True)
class FaceFactors:
    """What is to be seen in N images; every field is float32 with one row for each image.

    Values outside the ranges that are named here are drawn as the nearest sensible ones; pixels stay in [-1, 1].
    """

    identity: Float[Tensor, "N"]
    """Number of the person; draws nothing by itself. Exact below 2^24."""
    geometry: Float[Tensor, "N K"]
    """Shape of the face in standard deviations, in [-2, 2]; columns `GEOMETRY_NAMES`."""
    male: Float[Tensor, "N"]
    """Sex as the shape of the face shows it: 0 female ... 1 male."""
    age: Float[Tensor, "N"]
    """Years, 4 ... 85."""
    skin_tone: Float[Tensor, "N"]
    """0 fair ... 1 dark."""
    eye_colour: Float[Tensor, "N"]
    """0 dark brown, 0.25 brown, 0.5 hazel, 0.75 green, 1 blue."""
    hair_colour: Float[Tensor, "N"]
    """0 black, 0.25 dark brown, 0.5 chestnut, 0.75 red blond, 1 light blond; greys with age."""
    hair_length: Float[Tensor, "N"]
    """0 shaven, 0.3 short, 0.5 to the chin, 1 below the shoulders."""
    hair_volume: Float[Tensor, "N"]
    """0 flat ... 1 full."""
    hair_curl: Float[Tensor, "N"]
    """0 straight ... 1 curly."""
    hair_part: Float[Tensor, "N"]
    """Side to which the hair over the forehead is swept, -1 ... 1; 0 is a centre parting."""
    fringe: Float[Tensor, "N"]
    """How far hair covers the forehead: 0 not at all ... 1 to the brows."""
    smile: Float[Tensor, "N"]
    """-1 corners of the mouth down ... 1 broad smile."""
    mouth_open: Float[Tensor, "N"]
    """0 closed ... 1 open; shows the upper teeth."""
    beard: Float[Tensor, "N"]
    """Density of beard and moustache: 0 shaven ... 0.3 stubble ... 1 full."""
    glasses: Float[Tensor, "N"]
    """0 none, 1 worn; fractions are transparent."""
    glasses_shape: Float[Tensor, "N"]
    """0 round ... 1 rectangular."""
    glasses_tint: Float[Tensor, "N"]
    """0 clear ... 1 sunglasses."""
    hat: Float[Tensor, "N"]
    """0 none, 1 worn; fractions are transparent."""
    hat_brim: Float[Tensor, "N"]
    """0 knitted cap ... 1 wide brim."""
    hat_colour: Float[Tensor, "N 3"]
    """RGB in [0, 1]."""
    clothes_colour: Float[Tensor, "N 3"]
    """RGB in [0, 1]."""
    background_top: Float[Tensor, "N 3"]
    """RGB in [0, 1] at the upper edge."""
    background_bottom: Float[Tensor, "N 3"]
    """RGB in [0, 1] at the lower edge."""
    light_azimuth: Float[Tensor, "N"]
    """Degrees in the camera's frame, -90 from the left ... 90 from the right."""
    light_elevation: Float[Tensor, "N"]
    """Degrees, -90 from below ... 90 from above."""
    light_strength: Float[Tensor, "N"]
    """0 even light ... 1 one hard lamp."""
    yaw: Float[Tensor, "N"]
    """Degrees; positive turns the face to the viewer's right."""
    pitch: Float[Tensor, "N"]
    """Degrees; positive looks up."""
    roll: Float[Tensor, "N"]
    """Degrees; positive tilts the head counter-clockwise in the image."""

    def __len__(self) -> int:
        """Number of faces."""
        return self.identity.shape[0]

    def select(self, rows: slice | Sequence[int] | Tensor) -> FaceFactors:
        """The factors of some of the faces."""
        return FaceFactors(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})

    def labels(self) -> Float[Tensor, "N K"]:
        """The scalar factors as (N, K) float32, columns `LABEL_NAMES`."""
        return torch.stack([getattr(self, _FIELD_OF_LABEL.get(name, name)) for name in LABEL_NAMES], dim=1)


class _Draws:
    """Named random columns, one row for each index, drawn from that row's own generator."""

    def __init__(self, random: IndexedRandom, indices: Sequence[int], uniforms: int, normals: int) -> None:
        generators = [random.generator(index) for index in indices]
        uniform = torch.stack([torch.rand(uniforms, generator=rng) for rng in generators])
        normal = torch.stack([torch.randn(normals, generator=rng) for rng in generators]).clamp_(-2.0, 2.0)
        self._next_uniform, self._next_normal = iter(uniform.unbind(1)), iter(normal.unbind(1))

    def uniform(self, low: float | Tensor = 0.0, high: float | Tensor = 1.0) -> Tensor:
        """The next column, uniform between the bounds, (N,)."""
        return low + (high - low) * next(self._next_uniform)

    def chance(self, probability: float | Tensor) -> Tensor:
        """The next column, 1 with the probability and else 0, (N,)."""
        return (next(self._next_uniform) < probability).float()

    def normal(self, mean: float | Tensor = 0.0, deviation: float = 1.0) -> Tensor:
        """The next column, normal, cut at two deviations, (N,)."""
        return mean + deviation * next(self._next_normal)

    def colour(self, saturation: Tensor, value: Tensor) -> Tensor:
        """A colour of random hue from its saturation and value (N,), as (N, 3) RGB."""
        hue = next(self._next_uniform)[:, None] + torch.tensor([0.0, 2 / 3, 1 / 3])
        pure = ((hue.remainder(1.0) * 6.0 - 3.0).abs() - 1.0).clamp(0.0, 1.0)
        return value[:, None] * (1.0 - saturation[:, None] * (1.0 - pure))

    def normals(self, count: int) -> Tensor:
        """The next columns, standard normal, cut at two deviations, (N, count)."""
        return torch.stack([next(self._next_normal) for _ in range(count)], dim=1)


def sample_factors(seed: int, indices: Sequence[int], *, num_identities: int | None = None) -> FaceFactors:
    """Draws the factors of faces; a row depends on the seed and its index alone.

    Sex, skin, eyes, hair colour and the shape of the face belong to a person; age, pose, light, expression, hairdo and
    clothing to an image. Beards need grown men, long hair is more frequent among women, glasses among the old, dark
    eyes and hair go with dark skin; all else is independent.

    Args:
        seed: of the data set.
        indices: places in the data set, not negative.
        num_identities: number of persons, of whom each index shows one; None gives each index its own person.

    Raises:
        ValueError: if there are no indices or the number of persons is not positive.
    """
    if len(indices) == 0:
        raise ValueError("indices is empty; give at least one index")
    if num_identities is not None and num_identities < 1:
        raise ValueError(f"num_identities must be at least 1 or None, not {num_identities}")
    of_image = _Draws(IndexedRandom(seed, "synthetic_faces/image"), indices, uniforms=40, normals=16)
    place = of_image.uniform()
    persons = list(indices) if num_identities is None else [int(u * num_identities) for u in place.double().tolist()]
    of_person = _Draws(IndexedRandom(seed, "synthetic_faces/person"), persons, uniforms=8, normals=32)

    male = of_person.chance(0.5)
    skin_tone = of_person.uniform()
    dark = _smoothstep(0.35, 0.65, skin_tone)
    grown = of_image.uniform()
    age = 4.0 + 78.0 * grown * (0.45 + 0.55 * grown)
    adult = _smoothstep(15.0, 22.0, age)
    smiles = of_image.chance(0.55)
    smile = torch.where(smiles > 0, of_image.uniform(0.3, 1.0), of_image.uniform(-0.6, 0.15))
    short, long = of_image.uniform(0.12, 0.34), of_image.uniform(0.4, 1.0)
    wears_short = of_image.chance(0.12 + 0.78 * male)
    balding = of_image.chance(0.22 * male * _smoothstep(30.0, 55.0, age))
    bearded = of_image.chance(0.45 * male * adult)
    background_value = of_image.uniform(0.25, 0.95)
    background_saturation = of_image.uniform(0.05, 0.5)
    background = of_image.colour(background_saturation, background_value)
    fringed = of_image.chance(0.4)
    return FaceFactors(
        identity=torch.tensor(persons, dtype=torch.float32),
        geometry=of_person.normals(len(GEOMETRY_NAMES)),
        male=male,
        age=age,
        skin_tone=skin_tone,
        eye_colour=of_person.uniform() * (1.0 - 0.8 * dark),
        hair_colour=of_person.uniform() * (1.0 - 0.75 * dark),
        hair_length=torch.where(wears_short > 0, short, long) * (1.0 - 0.9 * balding),
        hair_volume=of_image.uniform(),
        hair_curl=(of_person.uniform(-0.6, 0.7) + 0.4 * dark).clamp(0.0, 1.0),
        hair_part=of_image.uniform(-1.0, 1.0),
        fringe=fringed * of_image.uniform(0.2, 1.0),
        smile=smile,
        mouth_open=(of_image.uniform(-0.6, 0.8) + 0.3 * smiles).clamp(0.0, 1.0),
        beard=bearded * of_image.uniform(0.2, 1.0),
        glasses=of_image.chance(0.15 + 0.25 * _smoothstep(20.0, 60.0, age)),
        glasses_shape=of_image.uniform(),
        glasses_tint=of_image.chance(0.15) * of_image.uniform(0.5, 1.0),
        hat=of_image.chance(0.18),
        hat_brim=of_image.chance(0.5),
        hat_colour=of_image.colour(of_image.uniform(0.1, 0.8), of_image.uniform(0.15, 0.9)),
        clothes_colour=of_image.colour(of_image.uniform(0.1, 0.8), of_image.uniform(0.15, 0.95)),
        background_top=background,
        background_bottom=(background * of_image.uniform(0.45, 1.25)[:, None]).clamp(0.0, 1.0),
        light_azimuth=of_image.uniform(-70.0, 70.0),
        light_elevation=of_image.uniform(0.0, 60.0),
        light_strength=of_image.uniform(0.3, 1.0),
        yaw=of_image.normal(0.0, 17.0),
        pitch=of_image.normal(0.0, 7.0),
        roll=of_image.normal(0.0, 5.0),
    )


def vary(factors: FaceFactors, **changes: float | int | Sequence[float | int] | Tensor) -> FaceFactors:
    """The same faces with some factors set: an attribute edited, a series of ages, a camera run.

    Args:
        factors: N faces; a single face is repeated as often as the changes have rows.
        changes: new values by field name; a number for all faces, or a row for each.

    Raises:
        ValueError: if a factor is unknown, or its rows do not match the faces.
    """
    names = [field.name for field in fields(factors)]
    unknown = sorted(set(changes) - set(names))
    if unknown:
        raise ValueError(f"unknown factors {', '.join(unknown)}; there are {', '.join(names)}")
    values = {name: torch.as_tensor(value, dtype=torch.float32) for name, value in changes.items()}
    values = {name: value.to(factors.identity.device) for name, value in values.items()}
    count = len(factors)
    if count == 1:
        count = max([1, *(value.shape[0] for value in values.values() if value.ndim)])
        factors = factors.select([0] * count)
    for name, value in values.items():
        shape = getattr(factors, name).shape
        if value.ndim and value.shape != shape:
            raise ValueError(f"{name} has shape {tuple(value.shape)}; {count} faces need {tuple(shape)} or a number")
        values[name] = value.expand(shape).contiguous()
    return replace(factors, **values)


def _rotation(factors: FaceFactors) -> Float[Tensor, "N 3 3"]:
    """Object to camera without roll, Rx(pitch) Ry(yaw), in float64.

    Float64 because torch's vectorised and scalar sine differ in the last bit: the rounded result must not depend on a
    row's place in the batch.
    """
    yaw, pitch = torch.deg2rad(factors.yaw.double()), torch.deg2rad(factors.pitch.double())
    cy, sy, cp, sp = yaw.cos(), yaw.sin(), pitch.cos(), pitch.sin()
    zero = torch.zeros_like(cy)
    rows = [cy, zero, sy, -sp * sy, cp, sp * cy, -cp * sy, -sp, cp * cy]
    return torch.stack(rows, dim=1).view(-1, 3, 3)


def camera_to_object(factors: FaceFactors) -> Float[Tensor, "N 4 4"]:
    """Rigid matrices that take homogeneous points of the camera's frame to the head's own frame.

    The camera's frame has x to the right of the image, y up and z towards the viewer (OpenGL: it looks along -z); the
    object frame has its origin in the middle of the head, X to the viewer's right, Y to the top of the head and Z out
    of the face when the angles are 0. With R = Rz(roll) Rx(pitch) Ry(yaw), which turns the head in front of the camera,

        p_object = R^T (p_camera + (0, 0, CAMERA_DISTANCE)),

    so that the last column is the camera's place, seen from the head. Lengths are screen units; the projection is
    orthographic, hence the distance changes no image.
    """
    roll = torch.deg2rad(factors.roll.double())
    c, s, zero, one = roll.cos(), roll.sin(), torch.zeros_like(roll), torch.ones_like(roll)
    turn = torch.stack([c, -s, zero, s, c, zero, zero, zero, one], dim=1).view(-1, 3, 3)
    to_object = (turn @ _rotation(factors)).transpose(1, 2)
    matrix = torch.zeros(len(factors), 4, 4, dtype=torch.float64, device=roll.device)
    matrix[:, :3, :3] = to_object
    matrix[:, :3, 3] = to_object[:, :, 2] * CAMERA_DISTANCE
    matrix[:, 3, 3] = 1.0
    return matrix.float()


def _smoothstep(low: float, high: float, x: Tensor) -> Tensor:
    """0 below low, 1 above high, with zero slope at both."""
    t = ((x - low) / (high - low)).clamp(0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def _bell(t: Map) -> Map:
    """Smooth bump (1 - t^2)^2 for |t| < 1, else 0."""
    return (1.0 - t * t).clamp_(min=0.0).square_()


def _wave(t: Map) -> Map:
    """Nearly a sine of period 1: two parabolas, for torch's sine is slow and its last bit depends on the batch."""
    phase = t.remainder(1.0) - 0.5
    return phase * (phase.abs() - 0.5) * 16.0


def _inside(distance: Map, pixel: Map | Measure | float) -> Map:
    """Covered fraction of pixels at a signed distance (negative inside) from a straight edge."""
    return (0.5 - distance / pixel).clamp_(0.0, 1.0)


def _band(offset: Map, half_width: Map | Measure, pixel: Map | Measure | float) -> Map:
    """Covered fraction of pixels at an offset from the middle of a stripe, right for stripes thinner than a pixel."""
    reach = (half_width - offset.abs()) / pixel + 0.5
    full = (half_width / pixel * 2.0).clamp(0.0, 1.0)
    return torch.minimum(reach.clamp_(min=0.0), full)


def _disc(x: Map, y: Map, radius_x: Measure, radius_y: Measure, pixel: Map | Measure | float) -> Map:
    """Covered fraction of an ellipse, right to first order at its edge, (N, h, w).

    The distance to x^2/a^2 + y^2/b^2 = 1 is taken as (q - 1) / |grad q|.
    """
    u, v = x / radius_x, y / radius_y
    gradient = (u / radius_x).square_() + (v / radius_y).square_()
    distance = (u * u + v * v - 1.0) * 0.5 * gradient.clamp_(min=1e-6).rsqrt_()
    full = (torch.minimum(radius_x, radius_y) / pixel * 2.0).clamp(0.0, 1.0)
    return torch.minimum(_inside(distance, pixel), full)


def _blend(picture: Picture, colour: Colour, alpha: Map, bright: Map | None = None) -> None:
    """Lays a colour, times a brightness, over a picture, in place; plane by plane to stay below torch's grain size."""
    for plane, value in zip(picture, colour, strict=True):
        shaded = value.expand_as(plane) if bright is None else value * bright
        plane.lerp_(shaded, alpha)


def _rgb(red: float, green: float, blue: float) -> Float[Tensor, "3 1 1 1"]:
    """A colour for all faces."""
    return torch.tensor([red, green, blue]).view(3, 1, 1, 1)


def _ramp(table: Sequence[tuple[float, float, float]], place: Measure) -> Colour:
    """Colours between evenly spaced stops, for places in [0, 1]."""
    stops = torch.tensor(table, device=place.device)
    t = place.flatten().clamp(0.0, 1.0) * (len(table) - 1)
    lower = t.long().clamp(max=len(table) - 2)
    fraction = (t - lower)[:, None]
    return (stops[lower] * (1.0 - fraction) + stops[lower + 1] * fraction).T[:, :, None, None]


_SKIN = (
    (0.98, 0.85, 0.77),
    (0.95, 0.77, 0.65),
    (0.86, 0.65, 0.49),
    (0.68, 0.47, 0.33),
    (0.47, 0.31, 0.22),
    (0.33, 0.21, 0.15),
)
_HAIR = (
    (0.07, 0.06, 0.07),
    (0.21, 0.13, 0.09),
    (0.40, 0.23, 0.13),
    (0.66, 0.37, 0.17),
    (0.88, 0.72, 0.42),
)
_IRIS = (
    (0.17, 0.09, 0.05),
    (0.38, 0.22, 0.10),
    (0.48, 0.38, 0.18),
    (0.34, 0.50, 0.30),
    (0.32, 0.52, 0.74),
)
_GREY = (0.78, 0.78, 0.80)
_LIP = (0.74, 0.25, 0.27)


_UNIT_FACTORS = (
    *("male", "skin_tone", "eye_colour", "hair_colour", "hair_length", "hair_volume", "hair_curl", "fringe"),
    *("mouth_open", "beard", "glasses", "glasses_shape", "glasses_tint", "hat", "hat_brim", "light_strength"),
)
_LIMITS = {
    **dict.fromkeys(_UNIT_FACTORS, (0.0, 1.0)),
    **dict.fromkeys(("smile", "hair_part"), (-1.0, 1.0)),
    "geometry": (-3.0, 3.0),
}


class _Window(NamedTuple):
    """A rectangle of pixels."""

    rows: slice
    columns: slice

    def within(self, outer: _Window) -> tuple[slice, slice]:
        """Index of this window in maps of an outer one."""
        top, left = outer.rows.start, outer.columns.start
        rows = slice(self.rows.start - top, self.rows.stop - top)
        return rows, slice(self.columns.start - left, self.columns.stop - left)


class _Person:
    """What several parts share about N people: measures, colours, pose, light, and the pixels they fall on."""

    def __init__(self, factors: FaceFactors, resolution: int) -> None:
        limits = {name: getattr(factors, name).clamp(low, high) for name, (low, high) in _LIMITS.items()}
        self.factors = factors = replace(factors, **limits)
        self.resolution = resolution
        self.pixel = 2.0 / resolution
        self._set_pose()
        self._set_light()
        self._set_proportions()
        self._set_colours()

    def __getitem__(self, name: str) -> Measure:
        """A scalar factor or a column of the geometry by its name."""
        if name in GEOMETRY_NAMES:
            return self.factors.geometry[:, GEOMETRY_NAMES.index(name), None, None]
        values: Tensor = getattr(self.factors, name)
        return values[:, None, None]

    def _set_pose(self) -> None:
        rotation = _rotation(self.factors)
        self.rotation = rotation.float()
        self.axes_on_screen = self.rotation[:, :2].flatten(1)[:, :, None, None].unbind(1)
        self.extents_on_screen = self.rotation[:, :2].abs().flatten(1)[:, :, None, None].unbind(1)
        roll = torch.deg2rad(self.factors.roll.double())
        self.roll_cosine, self.roll_sine = roll.cos().float()[:, None, None], roll.sin().float()[:, None, None]
        view = rotation[:, 2]
        depth = view[:, 2].clamp(min=0.4)
        # A point at height h over the face hides the surface point at this multiple of h from its foot.
        self.lift_x, self.lift_y = ((-view[:, axis] / depth).float()[:, None, None] for axis in (0, 1))
        self.turn = rotation[:, 0, 2].float()[:, None, None]

    def _set_light(self) -> None:
        azimuth = torch.deg2rad(self.factors.light_azimuth.double())
        elevation = torch.deg2rad(self.factors.light_elevation.double())
        x, y, z = elevation.cos() * azimuth.sin(), elevation.sin(), elevation.cos() * azimuth.cos()
        self.light = tuple(part.float()[:, None, None] for part in (x, y, z))
        c, s = self.roll_cosine.flatten().double(), self.roll_sine.flatten().double()
        rows = (c * x + s * y, c * y - s * x, z)
        turned = [sum(row * _rotation(self.factors)[:, i, axis] for i, row in enumerate(rows)) for axis in range(3)]
        self.object_light = tuple(torch.as_tensor(part).float()[:, None, None] for part in turned)
        self.ambient = 1.0 - 0.55 * self["light_strength"]
        self.diffuse = 0.75 * self["light_strength"]

    def _set_proportions(self) -> None:
        age, male = self["age"], self["male"]
        self.youth = 1.0 - _smoothstep(3.0, 18.0, age)
        self.old = _smoothstep(38.0, 80.0, age)
        self.female = 1.0 - male
        youth = self.youth
        self.width = 0.485 * (1.0 + 0.035 * self["face_width"] + 0.02 * male + 0.02 * youth)
        self.height = 0.645 * (1.0 + 0.030 * self["face_length"] + 0.015 * male - 0.10 * youth)
        self.depth = 0.555 * torch.ones_like(age)
        self.jaw = 0.03 + 0.05 * self["jaw_width"] + 0.10 * male * (1.0 - youth) + 0.02 * youth
        self.eye_x = self.width * (0.43 + 0.018 * self["eye_spacing"])
        self.eye_y = self.height * (0.05 + 0.018 * self["eye_height"] - 0.13 * youth)
        self.eye_width = self.width * (0.205 + 0.012 * self["eye_size"] + 0.035 * youth + 0.012 * self.female)
        self.brow_y = self.eye_y + self.width * (0.285 + 0.022 * self["brow_height"] + 0.02 * self.female)
        self.nose_y = self.eye_y - self.height * (0.355 + 0.024 * self["nose_length"] - 0.09 * youth)
        self.nose_width = self.width * (0.165 + 0.018 * self["nose_width"] + 0.02 * male - 0.015 * youth)
        self.nose_height = 0.125 + 0.012 * self["nose_length"] - 0.045 * youth
        self.mouth_y = self.nose_y - self.height * (0.235 - 0.03 * youth)
        broad = 1.0 + 0.16 * self["smile"].clamp(min=0.0) - 0.10 * self["mouth_open"]
        self.mouth_width = self.width * (0.345 + 0.025 * self["mouth_width"] - 0.03 * youth) * broad
        self.neck_width = self.width * (0.56 + 0.03 * self["neck_width"] + 0.10 * male - 0.10 * youth)
        thickness = 0.012 + 0.10 * self["hair_length"].clamp(0.0, 0.35)
        fullness = self["hair_volume"] * self["hair_length"].clamp(0.0, 0.5)
        thickness = thickness + (0.08 + 0.14 * self["hair_curl"]) * fullness
        self.hair_thickness = thickness * (1.0 - 0.6 * self["hat"])

    def _set_colours(self) -> None:
        factors = self.factors
        self.skin = _ramp(_SKIN, self["skin_tone"])
        grey = 0.92 * _smoothstep(42.0, 80.0, self["age"])
        self.hair = torch.lerp(_ramp(_HAIR, self["hair_colour"]), _rgb(*_GREY).to(grey.device), grey)
        self.iris = _ramp(_IRIS, self["eye_colour"])
        self.dark_skin = self.skin * _rgb(0.52, 0.42, 0.40).to(grey.device)
        self.hat = factors.hat_colour.T[:, :, None, None]
        self.clothes = factors.clothes_colour.T[:, :, None, None]

    def window(self, x: Measure, y: Measure, radius_x: Measure, radius_y: Measure) -> _Window:
        """The pixels around boxes in the head frame, one for each face, all together."""
        c, s = self.roll_cosine, self.roll_sine
        middle_x, middle_y = x * c - y * s, x * s + y * c + _HEAD_CENTRE_Y
        half_x, half_y = c.abs() * radius_x + s.abs() * radius_y, s.abs() * radius_x + c.abs() * radius_y
        high = torch.cat([half_y - middle_y, half_y + middle_y, half_x - middle_x, half_x + middle_x], dim=1).amax(0)
        down, up, left, right = (float(edge) for edge in high)
        top, bottom, left, right = ((1.0 + edge) / self.pixel for edge in (-up, down, -left, right))
        return _Window(self._clip(top, bottom), self._clip(left, right))

    def _clip(self, low: float, high: float) -> slice:
        start = min(max(math.floor(low) - 1, 0), self.resolution - 1)
        return slice(start, min(max(math.ceil(high) + 1, start + 1), self.resolution))

    def whole(self) -> _Window:
        """All pixels."""
        return _Window(slice(0, self.resolution), slice(0, self.resolution))

    def screen(self, window: _Window) -> tuple[Float[Tensor, "1 1 w"], Float[Tensor, "1 h 1"]]:
        """Screen coordinates of the middles of the pixels."""
        places = (torch.arange(self.resolution, device=self.rotation.device) + 0.5) * self.pixel - 1.0
        return places[window.columns][None, None, :], -places[window.rows][None, :, None]

    def head_frame(self, window: _Window) -> tuple[Map, Map]:
        """Coordinates of the middles of the pixels in the head frame."""
        x, y = self.screen(window)
        y = y - _HEAD_CENTRE_Y
        return x * self.roll_cosine + y * self.roll_sine, y * self.roll_cosine - x * self.roll_sine

    def project(self, x: Measure, y: Measure, z: Measure) -> tuple[Measure, Measure]:
        """Object points in the head frame."""
        r = self.axes_on_screen
        return x * r[0] + y * r[1] + z * r[2], x * r[3] + y * r[4] + z * r[5]

    def extent(self, x: Measure, y: Measure, z: Measure) -> tuple[Measure, Measure]:
        """Half the size in the head frame of the box around an object box, from half its sizes."""
        r = self.extents_on_screen
        return x * r[0] + y * r[1] + z * r[2], x * r[3] + y * r[4] + z * r[5]

    def brightness(self, lambert: Map) -> Map:
        """Light that a surface returns for the cosine to the lamp; soft beyond the terminator. In place."""
        return lambert.mul_(0.75).add_(0.25).clamp_(min=0.0).mul_(self.diffuse).add_(self.ambient)

    def flank_light(self, across: Map) -> Map:
        """Cosine to the lamp on an upright rounded body, from the place across it, -1 ... 1 from edge to edge."""
        front = 1.0 - 0.5 * across * across
        return across * self.light[0] + front * (self.light[2] * 0.9 + self.light[1] * 0.25)


class _Surface(NamedTuple):
    """The front of an ellipsoid as the camera sees it; maps over a window."""

    x: Map
    """Object coordinate X of the visible point."""
    y: Map
    z: Map
    outline: Map
    """Signed distance to the silhouette in screen units, negative inside."""
    pixel: Map
    """Width of a pixel in the object's frontal plane."""
    lambert: Map
    """Cosine between normal and lamp."""
    window: _Window

    def crop(self, window: _Window) -> _Surface:
        """The part of it in a smaller window."""
        maps = (self.x, self.y, self.z, self.outline, self.pixel, self.lambert)
        x, y, z, outline, pixel, lambert = (values[(..., *window.within(self.window))] for values in maps)
        return _Surface(x, y, z, outline, pixel, lambert, window)


def _cast(person: _Person, axes: _Axes, window: _Window) -> _Surface:
    """Casts the pixels of a window onto an ellipsoid around the middle of the head, jaw and all.

    In coordinates scaled to the unit sphere a pixel's ray is u = m0 x + m1 y + m2 z with m_i the rows of the rotation
    over the semi-axes. With the parts of m0 and m1 along m2 removed, the visible point is u = m0' x + m1' y + m2 s,
    where s^2 = (1 - q) / |m2|^2 and q = |m0' x + m1' y|^2 is 1 on the silhouette.
    """
    x, y = person.head_frame(window)
    below = (y / axes[1] * -1.0).clamp_(0.0, 1.0)
    x = x / (below * below * (person.jaw - 0.10) * (1.0 + 0.6 * below) + 1.0)
    rotation = person.rotation.double()
    inverse = 1.0 / torch.cat(axes, dim=1)[:, :, 0].double()
    m = rotation * inverse[:, None, :]
    steep = (m[:, 2] * m[:, 2]).sum(1, keepdim=True)
    share = (m * m[:, 2:]).sum(2) / steep
    free = m - share[:, :, None] * m[:, 2:]
    gram = (free[:, :, None] * free[:, None, :]).sum(3).float()[:, :, :, None, None]
    steep = steep.float()[:, :, None]

    half_qx, half_qy = x * gram[:, 0, 0] + y * gram[:, 0, 1], x * gram[:, 0, 1] + y * gram[:, 1, 1]
    q = x * half_qx + y * half_qy
    outline = (q - 1.0) * (half_qx.square_() + half_qy.square_()).clamp_(min=1e-4).rsqrt_() * 0.5
    rest = ((1.0 - q) / steep).clamp_(min=1e-8)
    s = rest * rest.rsqrt()
    plane = (rotation - share[:, :, None] * rotation[:, 2:]).float()[:, :, :, None, None]
    ray = person.rotation[:, :, :, None, None]
    point = [x * plane[:, 0, j] + y * plane[:, 1, j] + s * ray[:, 2, j] for j in range(3)]

    square = [axis * axis for axis in axes]
    normal = [value / scale for value, scale in zip(point, square, strict=True)]
    length = (normal[0] * normal[0] + normal[1] * normal[1] + normal[2] * normal[2]).clamp_(min=1e-6).rsqrt_()
    lights = person.object_light
    lambert = (normal[0] * lights[0] + normal[1] * lights[1] + normal[2] * lights[2]) * length
    # The surface element is seen under |n_z| and shows |N_Z| of itself in the frontal plane.
    stretch = (normal[2] / (s * steep)).clamp_(0.7, 2.5)
    return _Surface(point[0], point[1], point[2], outline, stretch * person.pixel, lambert, window)


def _background(person: _Person) -> Picture:
    """A vertical gradient with a soft glow behind the head."""
    x, y = person.screen(person.whole())
    top = person.factors.background_top.T[:, :, None, None]
    bottom = person.factors.background_bottom.T[:, :, None, None]
    glow = 1.06 - 0.16 * (x * x + y * y)
    picture = torch.empty(3, top.shape[1], person.resolution, person.resolution, device=top.device)
    for plane, upper, lower in zip(picture, top, bottom, strict=True):
        torch.mul((y + 1.0) * 0.5 * (upper - lower) + lower, glow, out=plane)
    return picture


def _hanging(person: _Person) -> tuple[Measure, Measure]:
    """Lower end of long hair in the head frame, and half its width, that of the hair on the head."""
    lower = -person.height * (0.25 + 1.5 * (person["hair_length"] - 0.3).clamp(min=0.0))
    side = (person.width + person.hair_thickness * 0.85) * person.rotation[:, 0, 0, None, None]
    back = (person.depth + person.hair_thickness) * person.turn
    return lower, (side * side + back * back).double().sqrt().float()


def _is_long(person: _Person) -> Measure:
    """0 for short hair ... 1 for hair that hangs over the ears."""
    return _smoothstep(0.34, 0.44, person["hair_length"])


def _back_hair(picture: Picture, person: _Person) -> None:
    """Hair that hangs behind neck and shoulders."""
    long = _is_long(person)
    if not bool((long > 0).any()):
        return
    lower, half_width = _hanging(person)
    window = person.window(torch.zeros_like(lower), lower * 0.5, half_width * 1.5, 0.05 - lower * 0.5)
    x, y = person.head_frame(window)
    below = (y * -1.5).clamp_(0.0, 1.0)
    offset = x + below * (0.12 * person.turn + person["hair_curl"] * 0.02 * _wave(y * 5.0))
    across = offset / half_width
    end = lower - y + 0.25 * person.width * across * across
    alpha = _band(offset, half_width * (1.0 + 0.06 * below), person.pixel) * _inside(end, person.pixel)
    alpha *= _inside(y, person.pixel) * long
    shade = 0.62 + _strands(person, offset * 9.0) * 0.10
    _blend(picture[(..., *window)], person.hair, alpha, shade)


def _strands(person: _Person, across: Map) -> Map:
    """Fine streaks, -1 ... 1, that fade where pixels are too wide to show them."""
    return (_wave(across) + _wave(across * 2.63) * 0.6) * max(0.0, 1.0 - person.pixel / 0.07)


def _neck(picture: Picture, person: _Person) -> None:
    """Neck and the upper chest, in the shadow of the chin."""
    window = _Window(slice(person.resolution // 2, person.resolution), slice(0, person.resolution))
    x, y = person.screen(window)
    offset = x - person.turn * 0.05
    spread = (-0.68 - y).clamp(min=0.0)
    width = person.neck_width * 0.86 + spread * 0.9
    across = (offset / width).clamp(-1.0, 1.0)
    chin = _HEAD_CENTRE_Y - person.height
    shadow = 1.0 - 0.42 * (1.0 - (chin + 0.03 - y) / 0.24).clamp(0.0, 1.0)
    bright = person.brightness(person.flank_light(across)) * shadow
    _blend(picture[(..., *window)], person.skin, _band(offset, width, person.pixel), bright)


def _shoulders(picture: Picture, person: _Person) -> None:
    """Clothes with a round neckline and a collar."""
    window = _Window(slice(person.resolution // 2, person.resolution), slice(0, person.resolution))
    x, y = person.screen(window)
    width = 0.98 + 0.10 * person["male"] - 0.34 * person.youth
    top = -0.76 + 0.02 * person["male"] - 0.03 * person.youth
    height = 0.55
    body = _disc(x.expand(1, y.shape[1], -1), y - (top - height), width, height * torch.ones_like(width), person.pixel)
    drop = y - (top + 0.02)
    neckline = person.neck_width * 1.04
    ones = torch.ones_like(neckline)
    hole = _disc(x, drop, neckline, 0.15 * ones, person.pixel)
    collar = _disc(x, drop, neckline + 0.05, 0.21 * ones, person.pixel)
    bright = person.brightness(person.flank_light((x / width).expand_as(body)))
    bright = bright * (1.0 - 0.28 * collar)
    _blend(picture[(..., *window)], person.clothes, body * (1.0 - hole), bright)


def _ear(picture: Picture, person: _Person, side: float, *, in_front: bool) -> None:
    """One ear, wholly behind the head, or as far in front of it as the head is turned and hair leaves it bare."""
    facing = -side * person.turn
    alpha = _smoothstep(0.08, 0.35, facing) * (1.0 - _is_long(person)) if in_front else torch.ones_like(facing)
    if in_front and not bool((alpha > 0).any()):
        return
    size = 1.0 + 0.06 * person["ear_size"] + 0.04 * person.old
    centre = person.project(side * person.width * 0.97, person.eye_y - 0.10 * person.height, -0.04 * person.depth)
    radius_x = (0.062 + 0.03 * facing.clamp(0.0, 1.0)) * size
    radius_y = 0.20 * person.height * size
    window = person.window(*centre, radius_x, radius_y)
    x, y = person.head_frame(window)
    x, y = x - centre[0], y - centre[1]
    x = x - side * 0.18 * y
    cover = _disc(x, y, radius_x, radius_y, person.pixel) * alpha
    hollow = _disc(x + side * 0.005, y - 0.02 * person.height, radius_x * 0.55, radius_y * 0.6, person.pixel)
    bright = person.brightness((side * 0.7 * person.light[0] + 0.6 * person.light[2]).expand_as(x).clone())
    region = picture[(..., *window)]
    _blend(region, person.skin * _rgb(1.0, 0.93, 0.91), cover, bright)
    _blend(region, person.dark_skin, cover * hollow * 0.45, bright)


class _Face(NamedTuple):
    """A face while it is painted: colours under even light, and the cosine to the lamp with all relief."""

    albedo: Picture
    lambert: Map
    surface: _Surface

    def crop(self, window: _Window) -> _Face:
        """The part of it in a smaller window; painting there paints here."""
        part = window.within(self.surface.window)
        return _Face(self.albedo[(..., *part)], self.lambert[(..., *part)], self.surface.crop(window))


def _part(face: _Face, person: _Person, x: Measure, y: Measure, radius_x: Measure, radius_y: Measure) -> _Face:
    """The face around an object box on its front; roomy, for the surface curves and tall features lean."""
    across, up = (x.abs() + radius_x) / person.width, (y.abs() + radius_y) / person.height
    low_z = person.depth * (1.0 - across * across - up * up).clamp(min=0.0)
    radius_x = radius_x * _WIDEST_JAW
    middle_z, radius_z = (person.depth + low_z) * 0.5, (person.depth - low_z) * 0.5
    window = person.window(*person.project(x, y, middle_z), *person.extent(radius_x, radius_y, radius_z))
    outer = face.surface.window
    rows = slice(max(window.rows.start, outer.rows.start), min(window.rows.stop, outer.rows.stop))
    columns = slice(max(window.columns.start, outer.columns.start), min(window.columns.stop, outer.columns.stop))
    if rows.stop <= rows.start or columns.stop <= columns.start:
        rows = slice(outer.rows.start, outer.rows.start + 1)
        columns = slice(outer.columns.start, outer.columns.start + 1)
    return face.crop(_Window(rows, columns))


def _head(picture: Picture, person: _Person) -> None:
    """Face with all its features, lit."""
    radius_x = torch.maximum(person.width, person.depth) * 1.15
    radius_y = torch.maximum(person.height, person.depth) * 1.08
    zero = torch.zeros_like(radius_x)
    window = person.window(zero, zero, radius_x, radius_y)
    surface = _cast(person, (person.width, person.height, person.depth), window)
    # Features belong to the front alone: behind the ears they are moved out of reach.
    hidden = torch.where(surface.z > 0, surface.y, 10.0)
    surface = surface._replace(y=hidden)
    albedo = torch.empty(3, *surface.x.shape, device=surface.x.device)
    for plane, value in zip(albedo, person.skin, strict=True):
        plane.copy_(value.expand_as(plane))
    face = _Face(albedo, surface.lambert, surface)
    _cheeks(face, person)
    _beard(face, person)
    _folds(face, person)
    _nose(face, person)
    _mouth(face, person)
    _eyes(face, person)
    _brows(face, person)
    bright = person.brightness(face.lambert)
    warmth = (1.0 - bright).clamp_(0.0, 1.0)
    albedo[0].mul_(bright + warmth * 0.10)
    albedo[1].mul_(bright)
    albedo[2].mul_(bright)
    cover = _inside(surface.outline, person.pixel)
    for plane, painted in zip(picture[(..., *window)], albedo, strict=True):
        plane.lerp_(painted, cover)


def _cheeks(face: _Face, person: _Person) -> None:
    """Rosy cheeks, and the hollow of the eye sockets."""
    x, y = face.surface.x.abs(), face.surface.y
    rise = 0.03 * person["smile"]
    place = _bell((x - 0.56 * person.width) / (0.36 * person.width)) * _bell((y + 0.24 * person.height - rise) / 0.17)
    rosy = (0.10 + 0.14 * person.female + 0.14 * person.youth) * (1.0 - 0.5 * person["skin_tone"])
    _blend(face.albedo, person.skin * _rgb(1.02, 0.72, 0.70), place * rosy)
    face.lambert.add_(place, alpha=0.08)
    across, up = (x - person.eye_x) / (person.eye_width * 1.9), (y - person.eye_y - 0.02) / (person.eye_width * 1.5)
    face.lambert.sub_(_bell(across) * _bell(up) * 0.20)


def _beard(face: _Face, person: _Person) -> None:
    """Beard along the jaw and moustache, soft at the edges."""
    density = person["beard"]
    if not bool((density > 0).any()):
        return
    height = person.height
    zero = torch.zeros_like(height)
    face = _part(face, person, zero, -0.5 * height, person.width, 0.65 * height)
    x, y = face.surface.x.abs(), face.surface.y
    across = x / person.width
    jaw = _inside(y - (person.mouth_y - 0.10 * height + 0.62 * height * across * across), 0.14 * height)
    lip = person.nose_y - 0.07 * height
    moustache = _inside(y - lip, 0.07 * height) * _inside(x - person.mouth_width * 1.08, 0.10)
    hairs = 0.93 + 0.07 * _strands(person, x * 13.0 + y * 4.0)
    _blend(face.albedo, person.hair * 0.75, torch.maximum(jaw, moustache) * density * 0.92, hairs)


def _folds(face: _Face, person: _Person) -> None:
    """Wrinkles of the forehead and around the eyes, and the folds from nose to mouth that smiles and years deepen."""
    old = person.old
    x, y, pixel = face.surface.x.abs(), face.surface.y, face.surface.pixel
    start = person.nose_y + 0.03
    down = start - y
    line = x - (person.nose_width * 1.3 + down * (1.1 - 1.3 * down))
    fold = _bell(line / (0.035 + 0.5 * pixel)) * _bell((down - 0.12) / 0.15)
    depth = 0.42 * old + 0.30 * person["smile"].clamp(min=0.0) * (1.0 - 0.6 * person.youth)
    _blend(face.albedo, person.dark_skin, fold * depth)
    if not bool((old > 0).any()):
        return
    zero = torch.zeros_like(old)
    _forehead_lines(_part(face, person, zero, person.brow_y + 0.16, person.width * 0.75, 0.14 + zero), person)
    _eye_lines(_part(face, person, zero, person.eye_y, person.width * 0.98, person.eye_width * 1.4), person)


def _forehead_lines(face: _Face, person: _Person) -> None:
    x, y, pixel = face.surface.x / person.width, face.surface.y, face.surface.pixel
    ease = _bell(x / 0.72)
    lines = torch.zeros_like(x)
    for height, reach in ((0.11, 0.8), (0.175, 1.0), (0.24, 0.7)):
        lines += _band(y - person.brow_y - height + 0.05 * x * x, 0.006 * ease, pixel) * reach
    _blend(face.albedo, person.dark_skin, lines * person.old * 0.55)


def _eye_lines(face: _Face, person: _Person) -> None:
    x, y, pixel = face.surface.x.abs() - person.eye_x, face.surface.y - person.eye_y, face.surface.pixel
    unit = person.eye_width
    out = x - unit
    feet = torch.zeros_like(x)
    for slope in (-0.55, -0.05, 0.45):
        feet += _band(y - slope * out, 0.006 * torch.ones_like(unit), pixel)
    feet *= _bell((out - unit * 0.38) / (unit * 0.36))
    t = x / unit
    bags = _band(y + unit * (0.78 - 0.34 * t * t), unit * 0.07 * (1.0 - t * t).clamp(min=0.0), pixel)
    _blend(face.albedo, person.dark_skin, torch.maximum(feet, bags) * person.old * 0.55)


def _nose(face: _Face, person: _Person) -> None:
    """A ridge whose flanks turn to and from the lamp, its tip standing out of the face, and nostrils."""
    top = person.eye_y + 0.05 * person.height
    length = top - person.nose_y
    zero = torch.zeros_like(top)
    reach_x = person.nose_width * 1.8 + person.nose_height * person.lift_x.abs()
    reach_y = length * 0.8 + person.nose_height * person.lift_y.abs()
    face = _part(face, person, zero, top - 0.55 * length, reach_x, reach_y)
    x, y, pixel = face.surface.x, face.surface.y, face.surface.pixel
    foot = ((top - y) / length).clamp_(0.0, 1.05)
    leaned = y - person.lift_y * person.nose_height * foot * foot
    along = (top - leaned) / length
    ridge = along.clamp(0.0, 1.0).square_() * person.nose_height
    offset = x - person.lift_x * ridge
    width = person.nose_width * (0.62 + 0.30 * along.clamp(0.0, 1.0) + 0.45 * _bell((along - 0.92) / 0.24))
    out = offset / width
    r = out.clamp(-1.0, 1.0)
    ends = _inside(along - 1.04, 0.16) * _smoothstep(0.0, 0.5, along)
    flank = r * (1.0 - r * r) * ends
    bump = _bell(r)
    face.lambert.add_(flank * (person.object_light[0] * 2.0))
    face.lambert.add_(bump * _bell((along - 0.84) / 0.24) * 0.22)
    _blend(face.albedo, person.dark_skin, flank.abs() * 0.42)
    under = bump * _bell((along - 1.10) / 0.13)
    _blend(face.albedo, person.dark_skin, under * 0.55)
    flat = person.nose_width
    wing = _band(out.abs() - 0.88, 0.10 * torch.ones_like(flat), pixel / width) * _bell((along - 0.93) / 0.14)
    _blend(face.albedo, person.dark_skin, wing * 0.55)
    nostril = _disc(offset.abs() - flat * 0.50, (along - 1.02) * length, flat * 0.26, flat * 0.15, pixel)
    _blend(face.albedo, person.dark_skin * 0.55, nostril * 0.75)


def _mouth(face: _Face, person: _Person) -> None:
    """Lips that bend with the smile and open over the upper teeth."""
    unit = person.mouth_width
    smile = person["smile"]
    zero = torch.zeros_like(unit)
    face = _part(face, person, zero, person.mouth_y - 0.35 * unit, unit * 1.1, unit * 1.25)
    t = face.surface.x / unit
    pixel = face.surface.pixel
    square = t * t
    taper = (1.0 - square).clamp(min=0.0)
    y = face.surface.y - person.mouth_y - smile * unit * 0.30 * (square - 0.45)
    full = 1.0 + 0.16 * person["lip_fullness"] + 0.15 * person.female - 0.25 * person.old
    opening = unit * (0.30 * person["mouth_open"] + 0.04 * smile.clamp(min=0.0)) * taper
    upper = opening + unit * 0.17 * full * taper * (1.0 - 0.22 * _bell(t * 3.5))
    lower = opening * 1.3 + unit * 0.24 * full * taper
    lips = _band(y - (upper - lower) * 0.5, (upper + lower) * 0.5, pixel)
    redness = 0.38 + 0.30 * person.female - 0.1 * person["skin_tone"]
    colour = torch.lerp(person.skin * _rgb(0.92, 0.70, 0.68), _rgb(*_LIP).expand_as(person.skin), redness)
    _blend(face.albedo, colour, lips)
    face.lambert.sub_(_inside(-y, unit * 0.1) * lips * 0.16)
    face.lambert.add_(_bell((y + opening * 1.3 + unit * 0.13) / (unit * 0.12)) * _bell(t * 1.4) * 0.14)
    face.lambert.sub_(_bell((y + lower + unit * 0.12) / (unit * 0.16)) * _bell(t * 1.5) * 0.22)
    gap = opening * 1.15
    middle = y + opening * 0.15
    _blend(face.albedo, _rgb(0.23, 0.06, 0.07), _band(middle, gap + unit * 0.028 * taper, pixel) * 0.88)
    teeth = _band(middle - gap * 0.30, gap * 0.55, pixel) * _inside(t.abs() - 0.80, pixel / unit)
    _blend(face.albedo, _rgb(0.97, 0.95, 0.92), teeth)


def _eyes(face: _Face, person: _Person) -> None:
    """Whites, irises that look half-way to the camera, pupils, lights, lashes and the crease of the lid."""
    unit = person.eye_width
    zero = torch.zeros_like(unit)
    face = _part(face, person, zero, person.eye_y, person.eye_x + unit * 1.2, unit * 1.0)
    side = face.surface.x.sign()
    pixel = face.surface.pixel
    x = face.surface.x.abs() - person.eye_x
    y = face.surface.y - person.eye_y - x * (0.06 + 0.05 * person["eye_tilt"])
    t = x / unit
    taper = (1.0 - t * t).clamp_(min=0.0)
    squint = 1.0 - 0.20 * person["smile"].clamp(min=0.0) - 0.10 * person.old
    open_up = unit * (0.50 + 0.03 * person["eye_size"] + 0.05 * person.female + 0.05 * person.youth) * squint
    upper, lower = open_up * taper, unit * -0.36 * taper
    inside = _band(y - (upper + lower) * 0.5, (upper - lower) * 0.5, pixel)
    _blend(face.albedo, _rgb(0.96, 0.95, 0.94), inside)
    look_x, look_y = -0.30 * unit * person.turn, unit * (0.07 - 0.22 * person.lift_y.clamp(-1.0, 1.0))
    iris_x, iris_y = x - side * look_x, y - look_y
    radius = unit * (0.45 + 0.04 * person.youth)
    for colour, scale, strength in (
        (person.iris * 0.45, 1.0, 1.0),
        (person.iris * 1.15, 0.80, 1.0),
        (_rgb(0.03, 0.03, 0.04), 0.45, 1.0),
    ):
        _blend(face.albedo, colour, _disc(iris_x, iris_y, radius * scale, radius * scale, pixel) * inside * strength)
    face.lambert.sub_(_inside(upper - unit * 0.14 - y, unit * 0.2) * inside * 0.35)
    spark_x = iris_x - side * radius * 0.38 * person.light[0]
    spark = _disc(spark_x, iris_y - radius * 0.38, radius * 0.24, radius * 0.24, pixel)
    _blend(face.albedo, _rgb(1.25, 1.25, 1.25), spark * inside)
    lash = _band(y - upper, unit * (0.07 + 0.05 * person.female) * (0.35 + taper), pixel)
    lash *= _inside(t.abs() - 1.1, pixel / unit)
    lash = torch.maximum(lash, _band(y - lower, unit * 0.035 * taper, pixel) * 0.5)
    _blend(face.albedo, person.dark_skin * 0.35, lash * 0.92)
    crease = _band(y - upper - unit * 0.24, unit * 0.05 * taper, pixel)
    _blend(face.albedo, person.dark_skin, crease * 0.55)


def _brows(face: _Face, person: _Person) -> None:
    """Arched stripes of hair, thick at the inner end."""
    unit = person.eye_width * 1.25
    zero = torch.zeros_like(unit)
    face = _part(face, person, zero, person.brow_y, person.eye_x + unit * 1.1, unit * 0.6)
    t = (face.surface.x.abs() - person.eye_x - 0.06 * unit) / unit
    arch = unit * (0.12 + 0.04 * person.female)
    y = face.surface.y - person.brow_y + arch * t * t - unit * 0.05 * t
    thick = unit * (0.085 + 0.018 * person["brow_thickness"] + 0.045 * person["male"] - 0.03 * person.youth)
    brow = _band(y, thick * (1.0 - t * t * t * t).clamp_(min=0.0) * (1.0 - 0.35 * t), face.surface.pixel)
    _blend(face.albedo, torch.lerp(person.hair * 0.72, person.skin * 0.5, 0.25), brow * 0.9)


def _hair(picture: Picture, person: _Person) -> None:
    """Hair on the head: hairline, fringe, parting, temples; a highlight and streaks from the crown."""
    long = _is_long(person)
    thick = person.hair_thickness
    axes = (person.width + thick * 0.85, person.height + thick * 1.2, person.depth + thick)
    zero = torch.zeros_like(thick)
    window = person.window(zero, zero, torch.maximum(axes[0], axes[2]) * 1.08, torch.maximum(axes[1], axes[2]) * 1.05)
    surface = _cast(person, axes, window)
    ux, uy, uz = surface.x / axes[0], surface.y / axes[1], surface.z / axes[2]
    curl = person["hair_curl"] * person["hair_length"].clamp(0.0, 0.4) * 2.5
    wobble = _wave(surface.x * 3.6 + 0.2) * _wave(surface.y * 3.6) * curl
    part = person["hair_part"]
    bare = 1.0 - _smoothstep(0.0, 0.10, person["hair_length"])
    recede = 0.22 * person["male"] * _smoothstep(30.0, 75.0, person["age"]) * (1.0 + 0.4 * person["hairline_height"])
    start = 0.60 + 0.025 * person["hairline_height"] + recede.clamp(min=0.0) * 0.55 + 0.30 * bare
    fringe = person["fringe"] * 0.20 * (1.0 - 0.35 * person.youth)
    middle = ux - part * 0.35
    parting = (1.0 - person["fringe"]) * (0.10 - 0.30 * middle * middle * (1.0 - bare))
    hairline = start - fringe * _bell(ux / 1.1) + parting
    sides = 0.32 + 0.75 * long
    behind = (0.30 - uz).clamp_(min=0.0) * 2.2
    over = uy - hairline + ux * ux * sides + behind + wobble * 0.05
    nape = uy + 0.30 + 0.08 * long
    field = torch.minimum(over, nape) * axes[1]
    cover = _inside(surface.outline + wobble * 0.022, person.pixel)
    soft = surface.pixel + 0.03 * (1.0 - long * 0.5)
    alpha = cover * (0.5 + field / soft).clamp_(0.0, 1.0) * (1.0 - 0.75 * bare)
    streaks = _strands(person, middle * 3.2 / (1.25 - uy.clamp(max=1.0)))
    gloss = _bell((uy - 0.66 + 0.03 * streaks) / 0.20) * surface.lambert.clamp(min=0.0)
    gloss *= 1.0 - 0.6 * person["hair_curl"]
    bright = person.brightness(surface.lambert.clone()) + streaks * 0.07 + wobble * 0.12 + gloss * 0.35
    bright = bright * (0.78 + 0.22 * (field * 9.0).clamp_(0.0, 1.0))
    _blend(picture[(..., *window)], person.hair + 0.04, alpha, bright)


def _locks(picture: Picture, person: _Person) -> None:
    """Long hair that falls on both sides of the face in front of the shoulders."""
    long = _is_long(person)
    if not bool((long > 0).any()):
        return
    lower, half_width = _hanging(person)
    zero = torch.zeros_like(lower)
    window = person.window(zero, (lower + 0.25) * 0.5, half_width * 1.45, (0.3 - lower) * 0.5 + 0.05)
    x, y = person.head_frame(window)
    root_x = person.project(zero, zero, 0.10 * person.depth)[0]
    below = (y * -1.0).clamp(min=0.0)
    offset = x - root_x + person["hair_curl"] * 0.05 * below.clamp(max=0.4) * _wave(y * 5.0 + x.sign() * 0.2)
    outer = half_width * (1.0 + 0.05 * (below * 1.6).clamp(max=1.0))
    inner = person.width * (0.98 - 0.10 * (below * 2.5).clamp(max=1.0)) - (y * 0.25).clamp_(min=0.0)
    reach = offset.abs()
    across = (reach - (outer + inner) * 0.5) / ((outer - inner) * 0.5)
    end = lower - y + 0.10 * across * across + 0.05 * across - 0.04
    alpha = _band(reach - (outer + inner) * 0.5, (outer - inner) * 0.5, person.pixel) * _inside(end, person.pixel)
    alpha = alpha * _inside(y - 0.12, 0.16) * long
    roundness = (1.0 - 0.35 * across * across).clamp_(min=0.3)
    side = x.sign()
    light = person.light[2] * 0.75 + side * person.light[0] * 0.45
    bright = person.brightness(roundness * light) + _strands(person, reach * 12.0 + y * 1.2) * 0.08
    _blend(picture[(..., *window)], person.hair, alpha, bright)


def _glasses(picture: Picture, person: _Person) -> None:
    """Two framed lenses before the eyes, a bridge and temples."""
    worn = person["glasses"]
    if not bool((worn > 0).any()):
        return
    zero = torch.zeros_like(worn)
    lean = (person.height + person.depth) * person.rotation[:, 1, 2, None, None].abs()
    window = person.window(zero, person.eye_y, person.width * 1.4, person.eye_width * 3.0 + lean)
    surface = _cast(person, (person.width + 0.012, person.height + 0.012, person.depth + 0.012), window)
    stand = 0.055
    pixel = surface.pixel
    front = _inside(surface.z * -1.0, 0.05)
    x = surface.x - person.lift_x * stand
    y = surface.y - person.lift_y * stand - person.eye_y + 0.012
    square = person["glasses_shape"]
    half_x, half_y = person.eye_x * 0.80, person.eye_x * (0.70 - 0.17 * square)
    corner = half_y * (1.0 - 0.65 * square)
    away_x = x.abs() - person.eye_x * 1.02
    out_x, out_y = away_x.abs() - (half_x - corner), y.abs() - (half_y - corner)
    corner_x, corner_y = out_x.clamp(min=0.0), out_y.clamp(min=0.0)
    squares = (corner_x * corner_x + corner_y * corner_y).clamp_(min=1e-8)
    distance = squares * squares.rsqrt() + torch.maximum(out_x, out_y).clamp_(max=0.0) - corner
    rim = _band(distance, 0.016 + 0.008 * square, pixel)
    bridge = _band(y - 0.035 - 0.02 * square, 0.012 + zero, pixel)
    bridge *= _inside(x.abs() - (person.eye_x * 1.02 - half_x), pixel)
    temple = _band(y - 0.03, 0.013 + zero, pixel) * _inside(person.eye_x * 1.02 + half_x - x.abs(), pixel)
    seen = _inside(surface.outline, person.pixel) * front * worn
    region = picture[(..., *window)]
    tint = person["glasses_tint"]
    lens = _inside(distance, pixel) * seen
    shine = _bell((x.abs() * x.sign() * 0.6 + y - 0.02) / 0.06) * 0.16
    _blend(region, _rgb(0.10, 0.10, 0.12) * torch.ones_like(person.skin), lens * tint * 0.88)
    _blend(region, _rgb(1.0, 1.0, 1.0), lens * (0.05 + shine))
    frame = torch.maximum(torch.maximum(rim, bridge), temple) * seen
    frame_colour = torch.lerp(_rgb(0.10, 0.09, 0.10), _rgb(0.36, 0.22, 0.12), (1.0 - square) * 0.8)
    _blend(region, frame_colour, frame * 0.95)


def _hat(picture: Picture, person: _Person) -> None:
    """A knitted cap with a folded edge, or a crown with ribbon and wide brim."""
    worn = person["hat"]
    if not bool((worn > 0).any()):
        return
    brim = person["hat_brim"]
    gap = person.hair_thickness + 0.025
    axes = (person.width + gap, person.height + gap + 0.02, person.depth + gap)
    zero = torch.zeros_like(worn)
    edge = 0.45 * torch.ones_like(worn)
    _brim(picture, person, axes, edge * axes[1], worn * brim)
    reach = torch.maximum(axes[0], axes[2]) * 1.1
    window = person.window(zero, zero, reach, torch.maximum(axes[1], axes[2]) * 1.05)
    surface = _cast(person, axes, window)
    height = surface.y / axes[1] - edge
    across = surface.x / axes[0]
    ribs = _strands(person, across * 4.0)
    alpha = _inside(surface.outline, person.pixel) * _inside(height * axes[1] * -1.0, surface.pixel) * worn
    fold = _inside(height - 0.22, surface.pixel / axes[1])
    bright = person.brightness(surface.lambert) + ribs * 0.06 * (1.0 - brim)
    bright = bright * (1.0 + fold * (0.14 - 0.36 * brim))
    bright = bright * (1.0 - fold * brim * 0.45)
    _blend(picture[(..., *window)], person.hat, alpha, bright)


def _brim(picture: Picture, person: _Person, axes: _Axes, height: Measure, worn: Measure) -> None:
    """A round disc at a height over the middle of the head, seen from a little above."""
    if not bool((worn > 0).any()):
        return
    zero = torch.zeros_like(height)
    x0, y0 = person.project(zero, height, zero)
    radius_x = axes[0] * 1.52
    tilt = 0.20 - person.rotation[:, 1, 2, None, None]
    radius_y = axes[2] * 1.45 * (tilt.abs() * 0.85 + 0.05)
    window = person.window(x0, y0, radius_x, radius_y + 0.04)
    x, y = person.head_frame(window)
    x, y = x - x0, y - y0
    droop = y + 0.10 * (x / radius_x).square_()
    disc = _disc(x, droop, radius_x, radius_y, person.pixel)
    light = (person.light[1] * 0.7 + 0.35 + 0.25 * person.light[0] * x / radius_x).expand_as(disc)
    bright = person.brightness(light.clone()) * (0.92 + 0.12 * (y / radius_y).clamp(-1.0, 0.0))
    _blend(picture[(..., *window)], person.hat, disc * worn, bright)


def _paint(factors: FaceFactors, resolution: int) -> Picture:
    person = _Person(factors, resolution)
    picture = _background(person)
    _back_hair(picture, person)
    _neck(picture, person)
    _shoulders(picture, person)
    for side in (-1.0, 1.0):
        _ear(picture, person, side, in_front=False)
    _head(picture, person)
    _hair(picture, person)
    for side in (-1.0, 1.0):
        _ear(picture, person, side, in_front=True)
    _locks(picture, person)
    _glasses(picture, person)
    _hat(picture, person)
    return picture


@torch.no_grad()
def render(factors: FaceFactors, resolution: int) -> Images:
    """Draws the faces; a row depends on its own factors and the resolution alone, bit for bit.

    Args:
        factors: of N faces.
        resolution: pixels per side, at least 4.

    Returns:
        (N, 3, resolution, resolution) float32 in [-1, 1].

    Raises:
        ValueError: if the resolution is below 4.
    """
    if resolution < 4:
        raise ValueError(f"resolution must be at least 4 pixels per side, not {resolution}")
    images = torch.empty(len(factors), 3, resolution, resolution, device=factors.identity.device)
    step = max(1, _PIXELS_PER_CHUNK // resolution**2)
    for start in range(0, len(factors), step):
        rows = slice(start, start + step)
        for channel, plane in enumerate(_paint(factors.select(rows), resolution)):
            images[rows, channel] = plane.clamp_(0.0, 1.0)
    return from_unit(images)
