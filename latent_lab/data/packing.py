"""Packs a data set once, and finds it again: either all of a pack is there or nothing of it.

A pack is written to a folder with a temporary name and then renamed, so a killed process leaves no half-made pack, and
of several processes that pack the same data at once the first one to finish wins.
"""

from __future__ import annotations

import os
import secrets
import shutil
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from latent_lab.data.framing import Framing
from latent_lab.data.plans import PackedRow, PackingPlan, folder_plan
from latent_lab.data.pyramid import Pack, PyramidWriter, is_pack, open_pack
from latent_lab.data.readers import OddFile
from latent_lab.growth import phase_of

_CHUNK = 32
"""Images that a thread reads in one go."""


def default_cache() -> Path:
    """Folder of packs: the environment variable LATENT_LAB_CACHE or ~/.cache/latent_lab."""
    return Path(os.environ.get("LATENT_LAB_CACHE") or Path.home() / ".cache" / "latent_lab")


def cached_pack(plan: PackingPlan, cache: Path, *, max_bad_share: float) -> Pack:
    """The plan's pack in the cache; packed now if it is not there.

    Raises:
        ValueError: if more images are unreadable than `max_bad_share` allows.
    """
    folder = cache / "packs" / plan.key
    if not is_pack(folder):
        return pack(plan, folder, max_bad_share=max_bad_share)
    made = open_pack(folder)
    # It may have been packed by a more tolerant run.
    _check_bad_share(made.odd_files, len(plan.names), max_bad_share)
    return made


def pack(plan: PackingPlan, folder: Path, *, max_bad_share: float) -> Pack:
    """Packs into a folder that does not exist yet.

    Unreadable images are skipped and named in the pack's report as long as they are at most `max_bad_share` of all;
    one is always tolerated, except with a share of 0.

    Raises:
        ValueError: if there are more, or no image is readable, or the folder cannot be written.
    """
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        temporary.mkdir(parents=True)
    except OSError as error:
        raise ValueError(
            f"folder {str(folder.parent)!r} for packed images cannot be written ({error.strerror}): name another one "
            "by cache_dir or the environment variable LATENT_LAB_CACHE"
        ) from None
    _remove_abandoned(folder)
    try:
        with PyramidWriter(temporary, plan) as writer, _progress(plan, folder) as advance:
            for place, row in enumerate(_read_in_order(plan)):
                writer.append(place, row)
                advance()
            _check_bad_share(writer.odd_files, len(plan.names), max_bad_share)
            writer.finish()
        _publish(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return open_pack(folder)


def _publish(temporary: Path, folder: Path) -> None:
    try:
        temporary.rename(folder)
    except OSError:
        # Another process was faster; its pack has the same content.
        if not is_pack(folder):
            raise


def _remove_abandoned(folder: Path) -> None:
    """Removes what killed processes of this machine left of the same pack."""
    for path in folder.parent.glob(f".{folder.name}.*.*"):
        owner = path.name.split(".")[-2]
        if owner.isdigit() and not _is_running(int(owner)):
            shutil.rmtree(path, ignore_errors=True)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _read_in_order(plan: PackingPlan) -> Iterator[PackedRow | OddFile]:
    """Rows in the plan's order, read by a thread on each processor (Pillow decodes without holding Python's lock)."""
    total = len(plan.names)
    chunks = (range(start, min(start + _CHUNK, total)) for start in range(0, total, _CHUNK))
    workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    pending: deque[Future[Sequence[PackedRow | OddFile]]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for chunk in chunks:
                pending.append(pool.submit(plan.read, chunk))
                if len(pending) > 2 * workers:
                    yield from pending.popleft().result()
            while pending:
                yield from pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


@contextmanager
def _progress(plan: PackingPlan, folder: Path) -> Iterator[Callable[[], None]]:
    """A bar on a terminal; elsewhere one line."""
    total = len(plan.names)
    title = f"Packing {total} images at {plan.resolutions[0]} ... {plan.resolutions[-1]} px"
    console = Console(stderr=True)
    if not console.is_terminal:
        print(f"{title} into {folder}", file=sys.stderr)
        yield lambda: None
        return
    columns = (TextColumn(title), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(title, total=total)
        yield lambda: progress.advance(task)


def _check_bad_share(odd_files: Sequence[OddFile], total: int, max_bad_share: float) -> None:
    allowed = max(1, int(max_bad_share * total)) if max_bad_share > 0 else 0
    if len(odd_files) == total:
        raise ValueError(
            f"none of the {total} images is readable, the first is {odd_files[0]}: check the folder and the crop"
        )
    if len(odd_files) > allowed:
        named = ", ".join(str(odd) for odd in odd_files[:3]) + (", ..." if len(odd_files) > 3 else "")
        raise ValueError(
            f"{len(odd_files)} of {total} images are unreadable and max_bad_share {max_bad_share:g} allows {allowed}: "
            f"{named}; repair or delete them, or raise max_bad_share"
        )


@dataclass(frozen=True)
class PackingSummary:
    """What `prepare` did."""

    folder: Path
    num_images: int
    split_sizes: dict[str, int]
    resolutions: tuple[int, ...]
    num_bytes: int
    hash: str
    """Digest of pixels, labels and poses."""
    odd_files: tuple[OddFile, ...]
    notes: tuple[str, ...]

    def __str__(self) -> str:
        sizes = ", ".join(f"{name} {size}" for name, size in self.split_sizes.items())
        return (
            f"{self.num_images} images ({sizes}) at {self.resolutions[0]} ... {self.resolutions[-1]} px, "
            f"{self.num_bytes / 1e6:.1f} MB in {self.folder}, hash {self.hash}, {len(self.odd_files)} files skipped"
        )


def prepare(
    source: str | Path,
    out: str | Path,
    *,
    resolution: int = 64,
    crop: str | Sequence[int] = "center",
    shorter_side: int | None = None,
    downscale: str = "bilinear",
    labels: str | Path | None = None,
    split: str = "auto",
    holdout: int | float = 1000,
    max_bad_share: float = 0.01,
) -> PackingSummary:
    """Checks a folder of images and packs it into a folder that needs nothing else; any data module takes that as
    `root`.

    The pack also holds `report.txt`, which names every file that was skipped. The arguments are those of
    `ImageFolder`. If `out` holds the same pack already, nothing is done.

    Raises:
        ValueError: if the images, the labels or the settings do not fit, or `out` holds anything else.
    """
    phase_of(resolution)
    folder = Path(out).expanduser()
    plan = folder_plan(
        Path(source).expanduser(),
        resolution,
        Framing(crop=crop, shorter_side=shorter_side, downscale=downscale),
        labels=None if labels is None else Path(labels).expanduser(),
        split=split,
        holdout=holdout,
    )
    return prepare_plan(plan, folder, max_bad_share=max_bad_share)


def prepare_plan(plan: PackingPlan, folder: Path, *, max_bad_share: float) -> PackingSummary:
    """Packs any plan into a folder of its own, with a report."""
    if is_pack(folder) and open_pack(folder).key == plan.key:
        return _summary(open_pack(folder))
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"output folder {str(folder)!r} is not empty: name a new folder or delete what is there")
    if folder.exists():
        folder.rmdir()
    made = pack(plan, folder, max_bad_share=max_bad_share)
    lines = [str(_summary(made)), *made.report(), *(f"skipped: {odd}" for odd in made.odd_files)]
    (folder / "report.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return _summary(made)


def _summary(made: Pack) -> PackingSummary:
    return PackingSummary(
        folder=made.folder,
        num_images=len(made.names),
        split_sizes={name: len(rows) for name, rows in made.splits.items()},
        resolutions=made.resolutions,
        num_bytes=made.num_bytes,
        hash=str(made.recipe["hash"]),
        odd_files=made.odd_files,
        notes=made.notes,
    )


__all__ = ["PackingSummary", "cached_pack", "default_cache", "pack", "prepare", "prepare_plan"]
