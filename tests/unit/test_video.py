from __future__ import annotations

import sys

import pytest
import torch
from PIL import Image

from latent_lab.video import (
    LARGEST_SIDE,
    can_write_mp4,
    check_video,
    film_frame,
    save_gif,
    save_mp4,
    save_webp,
    there_and_back,
    video_files,
)


def fading(count: int = 5) -> torch.Tensor:
    return film_frame(torch.linspace(-1, 1, count).view(-1, 1, 1, 1).expand(-1, 3, 9, 12))


def test_a_gif_has_every_frame_and_repeats(tmp_path):
    save_gif(tmp_path / "v.gif", fading(), frames_per_second=20)
    with Image.open(tmp_path / "v.gif") as video:
        assert (video.n_frames, video.size, video.info["loop"], video.info["duration"]) == (5, (12, 9), 0, 50)
        video.seek(4)
        assert video.convert("L").getpixel((0, 0)) == 255
    assert [path.name for path in tmp_path.iterdir()] == ["v.gif"]


def test_a_webp_has_every_frame_in_all_colours_and_repeats(tmp_path):
    frames = torch.stack([torch.full((9, 12), -0.37), torch.full((9, 12), 0.11), torch.full((9, 12), 0.83)])
    save_webp(tmp_path / "v.webp", film_frame(torch.stack([frames, frames.flip(0)])), frames_per_second=20)
    with Image.open(tmp_path / "v.webp") as video:
        assert (video.n_frames, video.size, video.info["loop"]) == (2, (12, 9), 0)
        video.seek(1)
        video.load()
        assert video.info["duration"] == 50
        red, green, blue = video.convert("RGB").getpixel((5, 5))
        assert (red, green, blue) == pytest.approx((233, 142, 80), abs=6)
    assert [path.name for path in tmp_path.iterdir()] == ["v.webp"]


def test_a_video_comes_in_all_formats_that_can_be_written(tmp_path, monkeypatch):
    for name, write in video_files("walk", fading(), frames_per_second=10).items():
        write(tmp_path / name)
    written = {path.name for path in tmp_path.iterdir()}
    assert written == {"walk.gif", "walk.webp"} | ({"walk.mp4"} if can_write_mp4() else set())
    monkeypatch.setattr("latent_lab.video.importlib.util.find_spec", lambda name: None)
    assert set(video_files("walk", fading(), frames_per_second=10)) == {"walk.gif", "walk.webp"}


def test_there_and_back_closes_without_a_jump_or_a_frame_twice():
    assert there_and_back(4) == [0.0, 0.5, 1.0, 0.5]
    assert there_and_back(2) == [0.0, 1.0]
    assert there_and_back(3) == [0.0, 1.0, 0.5]
    assert there_and_back(5) == pytest.approx([0.0, 0.5, 1.0, 2 / 3, 1 / 3])


def test_grey_frames_make_every_format(tmp_path):
    for name, write in video_files("grey", fading()[:, :1], frames_per_second=10).items():
        write(tmp_path / name)
        assert (tmp_path / name).stat().st_size > 0


def test_large_sheets_are_reduced_to_frames_that_every_format_holds(tmp_path):
    frame = film_frame(torch.zeros(1, 3, 40, 17_000))
    assert (frame.dtype, frame.shape) == (torch.uint8, (1, 3, 2, LARGEST_SIDE))
    for name, write in video_files("long", frame.expand(2, -1, -1, -1), frames_per_second=10).items():
        write(tmp_path / name)


@pytest.mark.parametrize(("frames", "speed"), [(-1, 12.0), (1, 12.0), (10, 0.0), (10, float("nan")), (10, 80.0)])
def test_what_makes_no_video_is_refused(frames, speed):
    with pytest.raises(ValueError, match=r"edit needs (video_frames|frames_per_second)"):
        check_video("edit", frames, speed)


def test_mp4_without_its_package_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr("latent_lab.video.importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="pip install"):
        save_mp4(tmp_path / "v.mp4", fading())
    assert "av" not in sys.modules or can_write_mp4() is False


@pytest.mark.skipif(not can_write_mp4(), reason="av is not installed")
def test_an_mp4_has_every_frame(tmp_path):
    import av

    save_mp4(tmp_path / "v.mp4", fading())
    with av.open(str(tmp_path / "v.mp4")) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == 5
    assert frames[0].shape == (10, 12, 3)
    assert frames[0].mean() < 60 < 200 < frames[-1].mean()
