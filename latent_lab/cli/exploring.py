"""`latent-lab explore`: a page on this machine on which models are tried by hand."""

from __future__ import annotations

import importlib.util
import os
import signal
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latent_lab.cli.arguments import Arguments
from latent_lab.cli.console import quieten, say
from latent_lab.cli.errors import InputError, closest
from latent_lab.cli.explorer import Bridge, Explorer, fit_bridge
from latent_lab.cli.progress import progress_on_console
from latent_lab.cli.schema import arguments_from
from latent_lab.cli.spaces import checkpoint_names, labels_of
from latent_lab.cli.trained import Trained, on_devices, read_trained
from latent_lab.latent.directions import Direction, read_direction
from latent_lab.latent.interfaces import AbstractMappedDecoder
from latent_lab.latent.maps import load_map
from latent_lab.latent.views import Truncated, WSpaceView
from latent_lab.networks.pretrained import sha256_of

SPACES = ("z", "w")
_LARGEST_PORT = 65535
_ENDING = (signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else []))


@dataclass(frozen=True)
class Exploring:
    """What the page shows."""

    seed: int = 0
    """Of the samples, which are those of `latent-lab sample`."""
    axes: int = 6
    """Principal directions with a slider."""
    pairs: int = 1024
    """Generated images to which each map between two models is fitted."""
    port: int | None = None
    """Of the address; null: the first free one from 7860 on."""

    def __post_init__(self) -> None:
        if self.axes < 0 or self.pairs < 1:
            raise ValueError(f"explore needs axes from 0 on and at least 1 pair, got {self.axes} and {self.pairs}")
        if self.port is not None and not 1 <= self.port <= _LARGEST_PORT:
            raise ValueError(f"explore needs a port from 1 to {_LARGEST_PORT}, got {self.port}")


def explore_options(words: Sequence[str]) -> type[Exploring]:
    """Whose fields are options of the command."""
    del words
    return Exploring


def explore(arguments: Arguments) -> int:
    """Loads the models, joins them by maps, and serves the page until Ctrl-C.

    Returns:
        The exit code: 0 after Ctrl-C, 128 + signal after another signal.

    Raises:
        InputError: if Gradio is not installed, an option is impossible or the port is taken.
    """
    quieten()
    settings = Exploring(**arguments_from(arguments.options, Exploring))
    if importlib.util.find_spec("gradio") is None:
        raise InputError("explore needs Gradio, which is not installed: pip install 'latent-lab[explore]'")
    names = checkpoint_names(arguments, "explore")
    trained = on_devices([read_trained(name, ()) for name in names], arguments)
    explorers = explorers_of(trained, arguments, settings)
    with progress_on_console():
        bridges, notes = bridges_of(explorers, trained, arguments.text("map"), settings.pairs)
    with tempfile.TemporaryDirectory(prefix="latent-lab-explore-") as folder:
        prepare_gradio(folder)
        from latent_lab.cli.explore_page import build_page, serve

        page = build_page(explorers, bridges, notes)
        try:
            address = serve(page, settings.port)
        except OSError as error:
            raise InputError(f"port {settings.port} is taken: name another one with --port") from error
        try:
            print(f"open {address} in a browser; Ctrl-C ends the page", flush=True)
            return _wait_for_a_signal()
        finally:
            page.close(verbose=False)
            say("the page is closed")


def _wait_for_a_signal() -> int:
    """Blocks until somebody ends the program; photographs in the page's folder are to be removed then, too."""
    received: list[int] = []
    ended = threading.Event()

    def end(number: int, frame: object) -> None:
        del frame
        received.append(number)
        ended.set()

    for number in _ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup wants it
            signal.signal(number, end)
    ended.wait()
    return 0 if received[0] == signal.SIGINT else 128 + received[0]


def prepare_gradio(folder: str) -> None:
    """Keeps Gradio off the network and its files in one folder; to be called before it is imported.

    Args:
        folder: for photographs that are chosen and pictures that are shown; to be removed with the page.
    """
    os.environ["GRADIO_TEMP_DIR"] = folder
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ["HF_HUB_OFFLINE"] = "1"
    # Gradio asks its own page whether it is there, which a proxy could not answer.
    for name in ("NO_PROXY", "no_proxy"):
        os.environ[name] = ",".join(filter(None, [os.environ.get(name), "127.0.0.1"]))


def explorers_of(trained: Sequence[Trained], arguments: Arguments, settings: Exploring) -> list[Explorer]:
    """The models as --space and --truncation want to see them, with the directions that were named.

    Raises:
        InputError: if an option is impossible, or asks for what no model has.
    """
    space, psi = arguments.text("space"), arguments.text("truncation")
    if space is not None and space not in SPACES:
        raise InputError(f"--space must be {' or '.join(SPACES)}, got {space}")
    if (psi or space == "w") and not any(isinstance(one.model, AbstractMappedDecoder) for one in trained):
        raise InputError("--space w and --truncation are for models that map their latents (StyleGAN), and none does")
    # Maps of `latent-lab map` are between the spaces that are sampled.
    space = space or ("w" if arguments.text("map") is None else "z")
    labels = labels_of([one.path for one in trained])
    views = {label: _seen(one.model, space, psi) for label, one in zip(labels, trained, strict=True)}
    attributes = _attributes(arguments.options.get("direction", []), views)
    found = []
    for one, (label, view) in zip(trained, views.items(), strict=True):
        dim = view.latent_space.dim
        if settings.axes > dim:
            raise InputError(f"--axes must be at most {dim}, the coordinates of {label}, got {settings.axes}")
        found.append(
            Explorer(
                label,
                view,
                seed=settings.seed,
                channels=one.model.channels,
                attributes=attributes[label],
                num_axes=settings.axes,
            )
        )
    return found


def bridges_of(
    explorers: Sequence[Explorer], trained: Sequence[Trained], file: str | None, pairs: int
) -> tuple[list[Bridge], list[str]]:
    """The first model joined to each other one, and a sentence for each that cannot be.

    Args:
        explorers: models.
        trained: their checkpoints.
        file: of `latent-lab map`, from the first model to the second; none: that map is fitted, too.
        pairs: generated images to which maps are fitted.

    Raises:
        InputError: if the file holds no map of these models.
    """
    source, *targets = explorers
    bridges, notes = [], []
    if file is not None:
        if not targets:
            raise InputError("--map is from the first checkpoint to the second: name two")
        fitted, facts = load_map(file)
        name = Path(file).name
        for role, one in zip(("source", "target"), trained, strict=False):
            if facts.get(f"{role}_sha256") not in (None, sha256_of(one.path)):
                say(f"note: the {role} of {name} was another checkpoint than {one.path.name}")
        try:
            bridges.append(Bridge(source, fitted, targets[0], f"The map in {name}.", of_codes=source.encodes))
        except ValueError as error:
            raise InputError(f"{name}: {error}") from error
        targets = targets[1:]
    for target in targets:
        try:
            bridges.append(fit_bridge(source, target, pairs))
        except ValueError as error:
            notes.append(f"{source.name} and {target.name} are not joined: {error}.")
    return bridges, notes


def _seen(model: Any, space: str, psi: str | None) -> Any:
    """The model, or the view of a model that maps its latents."""
    if not isinstance(model, AbstractMappedDecoder):
        return model
    try:
        seen: Any = model if psi is None else Truncated(model, float(psi), None)
    except ValueError as error:
        raise InputError(f"--truncation must be a number, got {psi}") from error
    return WSpaceView(seen) if space == "w" else seen


def _attributes(words: Sequence[str], views: Mapping[str, Any]) -> dict[str, dict[str, Direction]]:
    """Directions of each model by the names of their files: FILE of the first model, or MODEL=FILE."""
    found: dict[str, dict[str, Direction]] = {label: {} for label in views}
    for word in words:
        label, equals, file = word.rpartition("=")
        label = label if equals else next(iter(views))
        if label not in views:
            raise InputError(f"--direction names the model {label}, which is not here: {closest(label, views)}")
        space = views[label].latent_space
        name = Path(file).stem.removeprefix(f"{label}_")
        found[label][name] = read_direction(file, space.dim)
    return found
