"""AGE's pickled modules: outputs as in torch's own layers, nothing run, everything accounted for."""

from __future__ import annotations

import copyreg
import io
import os
import pickle
import struct
import sys
import types
import warnings
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

import latent_lab
from latent_lab.importers import AGEModules

LATENTS, WIDTH = 6, 4


@pytest.fixture(autouse=True)
def published_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The modules whose classes the published files name, for writing; reading needs none of them."""
    base = types.ModuleType("models.base")
    base._netE_Base, base._netG_Base = Encoder, Generator  # type: ignore[attr-defined]
    thnn = types.ModuleType("torch.nn.backends.thnn")
    thnn._get_thnn_function_backend = backend  # type: ignore[attr-defined]
    for module in (types.ModuleType("models"), base, thnn):
        monkeypatch.setitem(sys.modules, module.__name__, module)


class Encoder(nn.Module):
    def __init__(self, *layers: nn.Module, noise: str = "sphere") -> None:
        super().__init__()
        self.noise = noise
        self.ngpu = 1
        self.main = nn.Sequential(*layers)


class Generator(nn.Module):
    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.ngpu = 1
        self.main = nn.Sequential(*layers)


def _get_thnn_function_backend() -> None:
    """What torch 0.1 kept in every layer was pickled as a call of a function of this name."""


backend = _get_thnn_function_backend
backend.__module__ = "torch.nn.backends.thnn"
for name, stand_in in (("_netE_Base", Encoder), ("_netG_Base", Generator)):
    stand_in.__module__, stand_in.__name__, stand_in.__qualname__ = "models.base", name, name


def published(resolution: int, noise: str = "sphere") -> tuple[Encoder, Generator]:
    """The published layers with random weights and moments."""
    torch.manual_seed(0)
    w, d = WIDTH, LATENTS

    def down(a: int, b: int) -> list[nn.Module]:
        return [nn.Conv2d(a, b, 4, 2, 1, bias=False), nn.BatchNorm2d(b), nn.LeakyReLU(0.2, inplace=True)]

    def up(a: int, b: int) -> list[nn.Module]:
        return [nn.ConvTranspose2d(a, b, 4, 2, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU(True)]

    first = [nn.Conv2d(3, w, 4, 2, 1, bias=False), nn.LeakyReLU(0.2, inplace=True)]
    start = [nn.ConvTranspose2d(d, 8 * w, 4, 1, 0, bias=False), nn.BatchNorm2d(8 * w), nn.ReLU(True)]
    middle = [*start, *up(8 * w, 4 * w), *up(4 * w, 2 * w)]
    if resolution == 32:
        last = [nn.Conv2d(4 * w, d, 4, 2, 1), nn.AvgPool2d(2)]
        encoder = Encoder(*first, *down(w, 2 * w), *down(2 * w, 4 * w), *last, noise=noise)
        generator = Generator(*middle, *up(2 * w, 2 * w), nn.Conv2d(2 * w, 3, 1), nn.Tanh())
    else:
        deeper = [*down(w, 2 * w), *down(2 * w, 4 * w), *down(4 * w, 8 * w)]
        encoder = Encoder(*first, *deeper, nn.Conv2d(8 * w, d, 4), noise=noise)
        generator = Generator(*middle, *up(2 * w, w), nn.ConvTranspose2d(w, 3, 4, 2, 1, bias=False), nn.Tanh())
    for network in (encoder, generator):
        for layer in network.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.running_mean.uniform_(-0.2, 0.2)  # type: ignore[operator,union-attr]
                layer.running_var.uniform_(0.5, 2.0)  # type: ignore[operator,union-attr]
    return encoder.eval(), generator.eval()


def save(network: Any, path: Path) -> Path:
    """As torch writes its old format today."""
    with warnings.catch_warnings():
        # It finds no source text of the stand-ins to put beside them.
        warnings.simplefilter("ignore")
        torch.save(network, path, _use_new_zipfile_serialization=False)
    return path


class _Storage:
    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


class OldPickler(pickle._Pickler):  # type: ignore[misc,name-defined]
    """The reductions of torch 0.1 and the text of Python 2."""

    dispatch: ClassVar[Any] = dict(pickle._Pickler.dispatch)  # type: ignore[attr-defined]

    def __init__(self, file: Any) -> None:
        super().__init__(file, protocol=2)
        self.storages: dict[str, Tensor] = {}
        self.classes: list[type] = []

    def save_text(self, text: str) -> None:
        content = text.encode("ascii")
        self.write(pickle.SHORT_BINSTRING + bytes([len(content)]) + content)
        self.memoize(text)

    dispatch[str] = save_text

    def persistent_id(self, item: Any) -> Any:
        if isinstance(item, type) and issubclass(item, nn.Module) and item not in self.classes:
            self.classes.append(item)
            return ("module", item, "models/dcgan.py", "class Net: pass")
        if isinstance(item, _Storage):
            key = str(94_000_000 + len(self.storages))
            self.storages[key] = item.tensor
            return ("storage", torch.cuda.FloatStorage, key, "cuda:0", item.tensor.numel(), None)
        return None

    def reducer_override(self, item: Any) -> Any:
        if isinstance(item, nn.Parameter):
            return nn.Parameter, (item.data,), (True, False, OrderedDict())
        if isinstance(item, Tensor):
            return torch._utils._rebuild_tensor, (_Storage(item), 0, tuple(item.shape), item.stride())
        if isinstance(item, nn.Module):
            kept = ("_parameters", "_buffers", "_modules", "training", "noise", "ngpu", "kernel_size")
            state = {name: value for name, value in vars(item).items() if name in kept}
            state["_buffers"] = {k: v for k, v in state["_buffers"].items() if k != "num_batches_tracked"}
            return copyreg.__newobj__, (type(item),), state | {"_backend": _Backend(), "_forward_hooks": OrderedDict()}  # type: ignore[attr-defined]
        return NotImplemented


class _Backend:
    def __reduce__(self) -> Any:
        return backend, ()


def save_as_in_2017(network: nn.Module, path: Path) -> Path:
    content = io.BytesIO()
    for header in (0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001, "little_endian": True}):
        pickle.dump(header, content, protocol=2)
    pickler = OldPickler(content)
    pickler.dump(network)
    keys = sorted(pickler.storages)
    pickle.dump(keys, content, protocol=2)
    for key in keys:
        values = pickler.storages[key].detach().contiguous()
        content.write(struct.pack("<q", values.numel()) + values.numpy().tobytes())
    path.write_bytes(content.getvalue())
    return path


def assert_same(model: Any, encoder: Encoder, generator: Generator, resolution: int) -> None:
    images = torch.rand(3, 3, resolution, resolution, generator=torch.Generator().manual_seed(1)) * 2 - 1
    with torch.no_grad():
        codes = encoder.main(images).flatten(1)
        if encoder.noise == "sphere":
            codes = codes / codes.norm(dim=1, keepdim=True)
        # The same layers with the same numbers: only the order of sums differs.
        torch.testing.assert_close(model.encode(images), codes, rtol=1e-5, atol=1e-6)
        expected = generator.main(codes[:, :, None, None])
        torch.testing.assert_close(model.decode(codes), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("write", [save, save_as_in_2017], ids=["today", "2017"])
@pytest.mark.parametrize("resolution", [32, 64])
def test_an_imported_model_encodes_and_decodes_as_the_published_layers(
    write: Callable[[nn.Module, Path], Path], resolution: int, tmp_path: Path
):
    encoder, generator = published(resolution)
    write(encoder, tmp_path / "faces_e.pth")
    write(generator, tmp_path / "faces_g.pth")
    AGEModules()(tmp_path / "faces_e.pth", tmp_path / "age.ckpt")
    model = latent_lab.load(tmp_path / "age.ckpt")
    assert_same(model, *published(resolution), resolution)
    arguments = model.recipe["init_args"]
    assert (arguments["latent_dim"], arguments["encoder_width"], arguments["generator_width"]) == (
        LATENTS,
        WIDTH,
        WIDTH,
    )
    assert arguments["kl_form"] == "age"


def test_the_prior_is_read_off_the_encoder(tmp_path: Path):
    encoder, generator = published(32, noise="gaussian")
    save(encoder, tmp_path / "faces_e.pth")
    save(generator, tmp_path / "faces_g.pth")
    model = AGEModules().read(tmp_path / "faces_e.pth").eval()
    assert model.recipe["init_args"]["prior"] == "gaussian"
    assert_same(model, encoder, generator, 32)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """The encoder's file, with the generator's beside it."""
    encoder, generator = published(32)
    save(generator, tmp_path / "x_g.pth")
    return save(encoder, tmp_path / "x_e.pth")


def test_files_are_paired_as_the_training_program_names_them_or_by_the_option(files: Path):
    other = files.rename(files.with_name("netE_epoch_4.pth"))
    generator = files.with_name("x_g.pth").rename(files.with_name("netG_epoch_4.pth"))
    assert AGEModules().read(other).resolution == 32
    generator = generator.rename(files.with_name("somewhere.pth"))
    with pytest.raises(FileNotFoundError, match=r"there is no file .*netG_epoch_4\.pth .*: name it by --generator"):
        AGEModules().read(other)
    assert AGEModules(generator=str(generator)).read(other).resolution == 32
    unnamed = other.rename(files.with_name("encoder.pth"))
    with pytest.raises(ValueError, match="does not tell where the generator is: name its file by --generator"):
        AGEModules().read(unnamed)


class Bomb:
    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)

    def __reduce__(self) -> Any:
        return os.mkdir, (self.folder,)


def test_a_foreign_name_is_refused_and_not_run(files: Path, tmp_path: Path):
    encoder, _ = published(32)
    encoder.extra = Bomb(tmp_path / "exploded")  # type: ignore[assignment]
    save(encoder, files)
    with pytest.raises(ValueError, match=r"x_e\.pth was not opened: it names (posix|nt)\.mkdir, which no network"):
        AGEModules().read(files)
    assert not (tmp_path / "exploded").exists()


def test_a_foreign_layer_is_refused_by_name(files: Path):
    encoder, _ = published(32)
    encoder.main.append(nn.Linear(2, 2))
    save(encoder, files)
    with pytest.raises(ValueError, match=r"it names torch\.nn\.modules\.linear\.Linear, which no network"):
        AGEModules().read(files)


def drop(encoder: Encoder) -> None:
    encoder.main[3].register_parameter("bias", None)  # type: ignore[operator]


def add(encoder: Encoder) -> None:
    encoder.main[0].bias = nn.Parameter(torch.zeros(WIDTH))  # type: ignore[assignment]


def reshape(encoder: Encoder) -> None:
    encoder.main[5].weight = nn.Parameter(torch.zeros(4 * WIDTH, 2 * WIDTH, 3, 3))  # type: ignore[assignment]


def flatten(encoder: Encoder) -> None:
    encoder.main[0].weight = nn.Parameter(torch.zeros(WIDTH))  # type: ignore[assignment]


def spoil(encoder: Encoder) -> None:
    encoder.main[2].weight.data.view(-1)[0] = torch.nan  # type: ignore[union-attr,operator]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop, r"the encoder of .*x_e\.pth lacks main\.3\.bias, which the network of 32 px has"),
        (add, r"the encoder of .*x_e\.pth has main\.0\.bias, which the network of 32 px has not"),
        (reshape, r"main\.5\.weight has shape \(16, 8, 3, 3\) where \(16, 8, 4, 4\) belongs"),
        (flatten, r"the first layers of .* are no convolutions"),
        (spoil, r"main\.2\.weight has values that are not finite"),
    ],
)
def test_another_network_is_refused_in_one_sentence(files: Path, change: Callable[[Encoder], None], message: str):
    encoder, _ = published(32)
    change(encoder)
    save(encoder, files)
    with pytest.raises(ValueError, match=message) as caught:
        AGEModules().read(files)
    assert "\n" not in str(caught.value)


def test_networks_of_two_resolutions_are_refused(files: Path):
    save(published(64)[1], files.with_name("x_g.pth"))
    with pytest.raises(ValueError, match="are of different resolutions: name the generator by --generator"):
        AGEModules().read(files)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not a network that torch.save"),
        (b"PK\x03\x04", "is a zip archive, as torch writes from 1.6 on"),
        (b"\x89PNG\r\n\x1a\n\0\0", "is not a network that torch.save"),
        (pickle.dumps({"a": 1}, protocol=2), "it does not begin with torch's magic number"),
    ],
)
def test_another_file_is_refused_in_one_sentence(files: Path, content: bytes, message: str):
    files.write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        AGEModules().read(files)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_cut_off_is_refused(files: Path):
    files.write_bytes(files.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"is not a network that .* pickled \(it should hold \d+ numbers where it"):
        AGEModules().read(files)


def test_a_dictionary_of_tensors_is_no_network(files: Path):
    save(published(32)[0].state_dict(), files)
    with pytest.raises(ValueError, match=r"is not a network that torch\.save"):
        AGEModules().read(files)


def test_tensors_reach_no_further_than_their_storage(files: Path):
    # A repeated number would otherwise let a small file ask for any amount of memory.
    encoder, _ = published(32)
    encoder.main[0].weight.data = torch.zeros(1, 1, 1, 1).expand(WIDTH, 3, 4, 4)  # type: ignore[union-attr]
    save(encoder, files)
    with pytest.raises(ValueError, match=r"a tensor of shape \(4, 3, 4, 4\) lies in 1 numbers"):
        AGEModules().read(files)
