"""The web page of `latent-lab explore`: tabs around `Explorer` and `Bridge`, made with Gradio.

Import it after `exploring.prepare_gradio`, which keeps Gradio off the network.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from latent_lab.cli.explorer import ALL_LAYERS, MAX_BYTES, Bridge, Explorer, Picture
from latent_lab.types import Latents

HOST = "127.0.0.1"
"""The page is for this machine alone."""
_SAMPLES_SHOWN = 12
_STRONGEST = 4.0
_COLUMN = 220
"""Least width in pixels, so that three stand side by side."""
_OF_CODES = " The picture on the left is encoded, and its code goes through the map."
_STYLE = ".picture img { image-rendering: pixelated; }"
_FONTS = ("system-ui", "sans-serif")
_FIXED_FONTS = ("ui-monospace", "monospace")


def build_page(explorers: Sequence[Explorer], bridges: Sequence[Bridge], notes: Sequence[str] = ()) -> gr.Blocks:
    """The page: a tab for each model, with a tab for each thing that it can do, and one for each pair.

    Args:
        explorers: models.
        bridges: pairs of them that a map joins.
        notes: sentences about pairs that are not joined.
    """
    with gr.Blocks(title="latent-lab explore", analytics_enabled=False, delete_cache=(600, 600)) as page:
        gr.Markdown("# latent-lab explore")
        with gr.Tabs():
            for explorer in explorers:
                with gr.Tab(explorer.name):
                    _model(explorer)
            if bridges or notes:
                with gr.Tab("Side by side"):
                    _pairs(bridges, notes)
    return page


def serve(page: gr.Blocks, port: int | None) -> str:
    """Starts the page in a thread of its own and returns its address.

    Args:
        page: from `build_page`; `page.close()` ends it.
        port: of the address; none: the first free one from 7860 on.

    Raises:
        OSError: if the port is taken.
    """
    page.queue()
    _, address, _ = page.launch(
        server_name=HOST,
        server_port=port,
        prevent_thread_lock=True,
        quiet=True,
        share=False,
        inbrowser=False,
        ssr_mode=False,
        enable_monitoring=False,
        max_file_size=MAX_BYTES,
        footer_links=[],
        theme=gr.themes.Default(font=list(_FONTS), font_mono=list(_FIXED_FONTS)),
        css=_STYLE,
    )
    return str(address)


# ---------------------------------------------------------------------------------------------------------- tabs


def _model(explorer: Explorer) -> None:
    resolution, dim = explorer.model.resolution, explorer.model.latent_space.dim
    gr.Markdown(" ".join([f"{resolution} px, {dim} coordinates.", *explorer.lacks]))
    with gr.Tabs():
        with gr.Tab("Sample"):
            _sample(explorer)
        if explorer.encodes:
            with gr.Tab("Reconstruct"):
                _reconstruct(explorer)
        if explorer.scales:
            with gr.Tab("Mix"):
                _mix(explorer)
        if explorer.axes:
            with gr.Tab("Move"):
                _move(explorer)
        with gr.Tab("Interpolate"):
            _interpolate(explorer)


def _sample(explorer: Explorer) -> None:
    gr.Markdown(f"Samples of seed {explorer.seed}, by number. The other tabs take these numbers.")
    with gr.Row():
        first = gr.Number(value=0, label="First number", precision=0, minimum=0)
        following = gr.Button("Next samples")
    shown = gr.Gallery(
        value=explorer.samples(0, _SAMPLES_SHOWN),
        label="Samples",
        format="png",
        columns=6,
        height="auto",
        interactive=False,
        elem_classes="picture",
    )

    def draw(number: float | None) -> list[tuple[Picture, str]]:
        return explorer.samples(_whole(number), _SAMPLES_SHOWN)

    first.change(_in_a_sentence(draw), first, shown, trigger_mode="always_last")
    following.click(lambda number: _whole(number) + _SAMPLES_SHOWN, first, first)


def _reconstruct(explorer: Explorer) -> None:
    gr.Markdown("The largest centred square of a photograph, resized. It should be framed as the training images are.")
    upload = gr.UploadButton("Choose a photograph")
    with gr.Row():
        with gr.Column(min_width=_COLUMN):
            seen = _picture("As the model sees it")
        with gr.Column(min_width=_COLUMN):
            decoded = _picture("Reconstruction")
    error = gr.Markdown()

    def reconstruct(file: str) -> tuple[Picture, Picture, str]:
        original, reconstruction, squared = explorer.reconstruct(file)
        return original, reconstruction, f"Mean squared error {squared:.4f}, of values in [-1, 1]."

    upload.upload(_in_a_sentence(reconstruct), upload, [seen, decoded, error])


def _mix(explorer: Explorer) -> None:
    with gr.Row():
        base, source = _chooser(explorer, "Base", 0), _chooser(explorer, "Source", 1)
        with gr.Column(min_width=_COLUMN):
            start = list(explorer.scales[:1])
            mixed = _picture("Mixture", explorer.mix(base.start, source.start, start))
            taken = gr.CheckboxGroup(list(explorer.scales), value=start, label="Scales taken from the source")
    inputs = [base.latents, source.latents, taken]
    base.whenever_chosen(explorer.mix, inputs, mixed)
    source.whenever_chosen(explorer.mix, inputs, mixed)
    _redraw(taken.change, explorer.mix, inputs, mixed)


def _move(explorer: Explorer) -> None:
    with gr.Row():
        chosen = _chooser(explorer, "Image", 0)
        with gr.Column(min_width=_COLUMN):
            moved = _picture("Moved", explorer.picture(chosen.start))
            layers = gr.Dropdown(
                [ALL_LAYERS, *explorer.scales], value=ALL_LAYERS, label="Layers", visible=bool(explorer.scales)
            )
        with gr.Column(min_width=_COLUMN):
            sliders = [
                gr.Slider(-_STRONGEST, _STRONGEST, value=0.0, step=0.1, label=axis.name, buttons=[])
                for axis in explorer.axes
            ]
            reset = gr.Button("All to 0")
    if explorer.num_axes:
        gr.Markdown(
            f"Axes are {explorer.meaning_of_axes}, in deviations of samples; they have no names, and what they change "
            "is to be seen."
        )

    def move(latents: Latents, layers: str, *strengths: float) -> Picture:
        return explorer.move(latents, strengths, layers)

    inputs = [chosen.latents, layers, *sliders]
    chosen.whenever_chosen(move, inputs, moved)
    for change in (layers.change, *(slider.change for slider in sliders)):
        _redraw(change, move, inputs, moved)
    reset.click(lambda: [0.0] * len(sliders), None, sliders)


def _interpolate(explorer: Explorer) -> None:
    with gr.Row():
        start, end = _chooser(explorer, "Start", 0), _chooser(explorer, "End", 1)
        with gr.Column(min_width=_COLUMN):
            between = _picture("Between", explorer.interpolate(start.start, end.start, 0.5))
            share = gr.Slider(0.0, 1.0, value=0.5, step=0.01, label="Share of the way", buttons=[])
    inputs = [start.latents, end.latents, share]
    for one in (start, end):
        one.whenever_chosen(explorer.interpolate, inputs, between)
    _redraw(share.change, explorer.interpolate, inputs, between)


def _pairs(bridges: Sequence[Bridge], notes: Sequence[str]) -> None:
    for note in notes:
        gr.Markdown(note)
    with gr.Tabs():
        for bridge in bridges:
            with gr.Tab(f"{bridge.source.name} to {bridge.target.name}"):
                gr.Markdown(bridge.origin + (_OF_CODES if bridge.of_codes else ""))
                with gr.Row():
                    chosen = _chooser(bridge.source, bridge.source.name, 0)
                    with gr.Column(min_width=_COLUMN):
                        through = _picture(f"{bridge.target.name}, through the map", bridge.picture(chosen.start))
                chosen.whenever_chosen(bridge.picture, [chosen.latents], through)


# -------------------------------------------------------------------------------------------------------- pieces


@dataclass(frozen=True)
class _Chooser:
    """An image of a model that is a sample or, of a model that encodes, a photograph."""

    start: Latents
    """Of the sample that is shown first."""
    latents: gr.State
    choices: tuple[Any, ...]
    """What to hear: each changes the latents."""

    def whenever_chosen(self, draw: Callable[..., Any], inputs: Sequence[Any], output: Any) -> None:
        """Calls `draw` with the values of the inputs after every choice."""
        for choice in self.choices:
            choice.success(_in_a_sentence(draw), list(inputs), output)


def _chooser(explorer: Explorer, label: str, number: int) -> _Chooser:
    start = explorer.sample(number)
    with gr.Column(min_width=_COLUMN):
        picture = _picture(label, explorer.picture(start))
        latents = gr.State(start)
        which = gr.Number(value=number, label="Number of a sample", precision=0, minimum=0)

        def by_number(number: float | None) -> tuple[Latents, Picture]:
            found = explorer.sample(_whole(number))
            return found, explorer.picture(found)

        by = [which.change(_in_a_sentence(by_number), which, [latents, picture], trigger_mode="always_last")]
        if explorer.encodes:
            upload = gr.UploadButton("or a photograph", size="sm")

            def by_file(file: str) -> tuple[Latents, Picture]:
                found = explorer.encode(explorer.photograph(file))
                return found, explorer.picture(found)

            by.append(upload.upload(_in_a_sentence(by_file), upload, [latents, picture]))
    return _Chooser(start, latents, tuple(by))


def _picture(label: str, value: Picture | None = None) -> gr.Image:
    """A picture under its label, which would hide a corner of small ones."""
    gr.Markdown(f"**{label}**")
    return gr.Image(
        value=value,
        label=label,
        show_label=False,
        alt_text=label,
        format="png",
        image_mode=None,
        interactive=False,
        buttons=["download"],
        elem_classes="picture",
    )


def _redraw(event: Callable[..., Any], draw: Callable[..., Any], inputs: Sequence[Any], output: Any) -> None:
    """Calls `draw` when a control changes; while a slider is dragged, pictures between are left out."""
    event(_in_a_sentence(draw), list(inputs), output, trigger_mode="always_last", show_progress="hidden")


def _whole(number: float | None) -> int:
    """The number in a field.

    Raises:
        ValueError: if the field is empty.
    """
    if number is None:
        raise ValueError("the number of a sample is missing: write one, such as 0")
    return int(number)


def _in_a_sentence(draw: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, whose complaints about input the page shows; what is on the page then stays."""

    @functools.wraps(draw)
    def shown(*values: Any) -> Any:
        try:
            return draw(*values)
        except ValueError as error:
            gr.Warning(str(error), duration=None)
            return gr.skip()

    return shown
