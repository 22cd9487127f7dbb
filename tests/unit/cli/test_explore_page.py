"""The page in a real browser; where there is none, everything but the clicks is still tested."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import tempfile
import threading
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import latent_lab
from latent_lab.cli import exploring, main
from latent_lab.cli.explorer import Explorer, fit_bridge
from latent_lab.cli.exploring import prepare_gradio
from latent_lab.latent.views import WSpaceView

if importlib.util.find_spec("gradio") is None:
    pytest.skip("Gradio is not installed: pip install latent-lab[explore]", allow_module_level=True)

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next((found for name in BROWSERS if (found := shutil.which(name))), None)
SET_BY_PREPARATION = (
    "GRADIO_TEMP_DIR",
    "GRADIO_ANALYTICS_ENABLED",
    "HF_HUB_DISABLE_TELEMETRY",
    "HF_HUB_OFFLINE",
    "NO_PROXY",
    "no_proxy",
)
PATIENCE = 30_000  # milliseconds, for machines that do something else

needs_browser = pytest.mark.skipif(
    CHROMIUM is None or importlib.util.find_spec("playwright") is None,
    reason=f"the page needs Playwright and a browser to be clicked on: none of {', '.join(BROWSERS)} is installed",
)


@pytest.fixture(scope="module")
def explorers():
    return [
        Explorer("automodulator", latent_lab.load("automodulator_faces32"), num_axes=2),
        Explorer("stylegan", WSpaceView(latent_lab.load("stylegan_faces32")), num_axes=2),
    ]


@pytest.fixture(scope="module")
def address(explorers, tmp_path_factory):
    folder = tmp_path_factory.mktemp("gradio")
    with pytest.MonkeyPatch.context() as patch:
        for name in SET_BY_PREPARATION:  # and restored in the end
            patch.setenv(name, os.environ.get(name, ""))
        prepare_gradio(str(folder))
        from latent_lab.cli.explore_page import build_page, serve

        page = build_page(explorers, [fit_bridge(*explorers, 96)], ["a and b are not joined."])
        yield serve(page, None)
        page.close(verbose=False)


def status(address: str, place: str) -> int:
    try:
        with urllib.request.urlopen(address + place, timeout=30) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def test_the_page_is_for_this_machine_alone_and_gives_no_files_away(address, tmp_path):
    secret = tmp_path / "secret.txt"
    secret.write_text("x", encoding="utf-8")
    assert address.startswith("http://127.0.0.1:")
    assert status(address, "") == 200
    assert status(address, f"gradio_api/file={secret}") in (403, 404)
    assert status(address, f"gradio_api/file={Path(latent_lab.__file__)}") in (403, 404)


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, 143)])
def test_the_page_ends_with_a_signal_and_leaves_no_photographs_behind(tmp_path, monkeypatch, capsys, sent, code):
    served = []

    class Page:
        def close(self, verbose):
            served.append("closed")

    def serve(page, port):
        (Path(os.environ["GRADIO_TEMP_DIR"]) / "photo.png").write_text("x", encoding="utf-8")
        served.append(port)
        threading.Timer(0.3, os.kill, (os.getpid(), sent)).start()
        return "http://127.0.0.1:7911/"

    from latent_lab.cli import explore_page

    monkeypatch.setattr(explore_page, "build_page", lambda *parts: Page())
    monkeypatch.setattr(explore_page, "serve", serve)
    monkeypatch.setattr(exploring, "prepare_gradio", lambda folder: monkeypatch.setenv("GRADIO_TEMP_DIR", folder))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    signal.signal(sent, signal.default_int_handler)  # a shell may have it ignored
    try:
        assert main(["explore", "balanced_pioneer_faces32", "--axes", "0", "--port", "7911"]) == code
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert served == [7911, "closed"]
    assert "open http://127.0.0.1:7911/ in a browser" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_a_taken_port_gets_a_sentence(address, capsys, monkeypatch):
    monkeypatch.setattr(exploring, "prepare_gradio", lambda folder: None)
    port = address.rstrip("/").rsplit(":", 1)[1]
    assert main(["explore", "balanced_pioneer_faces32", "--axes", "0", "--port", port]) == 2
    assert f"port {port} is taken: name another one with --port" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------------ in a browser


@pytest.fixture(scope="module")
def page(address):
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1200, "height": 1000})
        page.set_default_timeout(PATIENCE)
        page.asked_for = []
        page.on("request", lambda request: page.asked_for.append(request.url))
        page.goto(address)
        yield page
        browser.close()


def tabs(page, *names):
    for name in names:
        page.locator('[role="tab"]:visible').get_by_text(name, exact=True).click()


def picture(page, label):
    return page.locator(f'.picture img[alt="{label}"]:visible')


class Changed:
    """Waits until a picture is another one than before, however long the machine takes."""

    def __init__(self, page, label):
        from playwright.sync_api import expect

        self.expect, self.image = expect, picture(page, label)

    def __enter__(self):
        self.before = self.image.get_attribute("src")

    def __exit__(self, *of_error):
        if of_error[0] is None:
            self.expect(self.image).not_to_have_attribute("src", self.before, timeout=PATIENCE)


def choose_file(page, button, path):
    with page.expect_file_chooser() as chooser:
        page.locator(f'button:visible:has-text("{button}")').first.click()
    chooser.value.set_files(path)


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    path = tmp_path_factory.mktemp("photos") / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(path)
    return path


@needs_browser
def test_other_samples_are_shown_when_they_are_asked_for(page):
    tabs(page, "automodulator", "Sample")
    first = page.locator(".picture:visible img").first
    first.wait_for()
    before = first.get_attribute("src")
    page.get_by_role("button", name="Next samples").locator("visible=true").click()
    page.wait_for_function(
        "before => [...document.querySelectorAll('.picture img')].find(e => e.offsetParent).src.split('file=')[1] !="
        " before.split('file=')[1]",
        arg=before,
    )
    assert page.get_by_label("First number").locator("visible=true").input_value() == "12"


@needs_browser
def test_a_photograph_is_reconstructed_and_what_is_none_is_refused_in_a_sentence(page, photo, tmp_path):
    tabs(page, "automodulator", "Reconstruct")
    page.get_by_text("It should be framed as the training images are").locator("visible=true").wait_for()
    choose_file(page, "Choose a photograph", photo)
    picture(page, "Reconstruction").wait_for()
    page.get_by_text("Mean squared error").wait_for()
    disguised = tmp_path / "disguised.png"
    disguised.write_text("not an image", encoding="utf-8")
    choose_file(page, "Choose a photograph", disguised)
    page.get_by_text("disguised.png is not an image that can be read").first.wait_for()
    huge = tmp_path / "huge.png"
    Image.new("1", (8000, 8000)).save(huge)
    choose_file(page, "Choose a photograph", huge)
    page.get_by_text("50 megapixels is the most").first.wait_for()
    heavy = tmp_path / "heavy.png"
    heavy.write_bytes(photo.read_bytes() + b"0" * (21 * 2**20))
    choose_file(page, "Choose a photograph", heavy)
    page.get_by_text("exceed the maximum allowed size").first.wait_for()
    assert picture(page, "Reconstruction").count() == 1
    with Changed(page, "As the model sees it"):  # the page goes on
        Image.new("RGB", (32, 32), "red").save(disguised)
        choose_file(page, "Choose a photograph", disguised)


@needs_browser
@pytest.mark.parametrize("model", ["automodulator", "stylegan"])
def test_scales_bases_and_sources_change_the_mixture(page, model):
    tabs(page, model, "Mix")
    with Changed(page, "Mixture"):
        page.get_by_label("fine", exact=True).locator("visible=true").check()
    for place, label in enumerate(("Base", "Source")):
        with Changed(page, label), Changed(page, "Mixture"):
            page.get_by_label("Number of a sample").locator("visible=true").nth(place).fill("5" + str(place))


@needs_browser
def test_sliders_layers_and_images_change_what_is_moved_and_a_button_takes_it_back(page, photo):
    tabs(page, "automodulator", "Move")
    before = picture(page, "Moved").get_attribute("src")
    with Changed(page, "Moved"):
        page.get_by_label("range slider for axis 1").locator("visible=true").press("End")
    with Changed(page, "Moved"):
        page.get_by_label("range slider for axis 2").locator("visible=true").press("Home")
    with Changed(page, "Moved"):
        page.get_by_label("Layers").locator("visible=true").click()
        page.get_by_role("option", name="coarse").click()
    with Changed(page, "Moved"):
        page.get_by_role("button", name="All to 0").locator("visible=true").click()
    Changed(page, "Moved").expect(picture(page, "Moved")).to_have_attribute("src", before)
    with Changed(page, "Image"), Changed(page, "Moved"):
        choose_file(page, "or a photograph", photo)


@needs_browser
def test_the_slider_walks_between_two_images(page):
    tabs(page, "stylegan", "Interpolate")
    with Changed(page, "Between"):
        page.get_by_label("range slider for Share of the way").locator("visible=true").press("End")
    with Changed(page, "End"), Changed(page, "Between"):
        page.get_by_label("Number of a sample").locator("visible=true").nth(1).fill("7")


@needs_browser
def test_a_model_without_an_encoder_takes_no_photographs_and_says_so(page):
    tabs(page, "stylegan")
    page.get_by_text("StyleGAN has no encoder").locator("visible=true").wait_for()
    assert page.locator('[role="tab"]:visible').get_by_text("Reconstruct", exact=True).count() == 0
    assert page.locator('button:visible:has-text("photograph")').count() == 0


@needs_browser
def test_an_image_changes_the_picture_of_the_other_model_beside_it(page, photo):
    tabs(page, "Side by side")
    page.get_by_text("a and b are not joined.").wait_for()
    with Changed(page, "stylegan, through the map"):
        page.get_by_label("Number of a sample").locator("visible=true").fill("3")
    with Changed(page, "stylegan, through the map"):
        choose_file(page, "or a photograph", photo)


@needs_browser
def test_the_browser_was_sent_nowhere_else(page, address):
    assert page.asked_for
    assert all(url.startswith((address, "data:", "blob:")) for url in page.asked_for)
