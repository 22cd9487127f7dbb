from __future__ import annotations

import sys

import pytest
import torch
from PIL import Image

from latent_lab.video import can_write_mp4, save_gif, save_mp4


def fading(count: int = 5) -> torch.Tensor:
    return torch.linspace(-1, 1, count).view(-1, 1, 1, 1).expand(-1, 3, 9, 12)


def test_a_gif_has_every_frame_and_repeats(tmp_path):
    save_gif(tmp_path / "v.gif", fading(), frames_per_second=20)
    with Image.open(tmp_path / "v.gif") as video:
        assert (video.n_frames, video.size, video.info["loop"], video.info["duration"]) == (5, (12, 9), 0, 50)
        video.seek(4)
        assert video.convert("L").getpixel((0, 0)) == 255
    assert [path.name for path in tmp_path.iterdir()] == ["v.gif"]


def test_grey_frames_make_a_gif(tmp_path):
    save_gif(tmp_path / "v.gif", fading()[:, :1])
    with Image.open(tmp_path / "v.gif") as video:
        assert video.n_frames == 5


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
