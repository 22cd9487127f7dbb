"""What a person reads when something is wrong: one sentence for bad input, the whole traceback for our own mistakes."""

from __future__ import annotations

import difflib
import errno
import os
import sys
import sysconfig
import traceback
from collections.abc import Iterable
from pathlib import Path

BAD_INPUT = 2
"""Exit code after a mistake in what was asked for."""
OUR_MISTAKE = 1
"""Exit code after a mistake of the program."""
INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""
PIPE_CLOSED = 141
"""Exit code after nobody reads the output any more, as shells have it."""

_PACKAGE = Path(__file__).resolve().parents[1]
_STANDARD_LIBRARY = Path(sysconfig.get_paths()["stdlib"]).resolve()
_CANNOT_WRITE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS}
_FROM_THE_SYSTEM = (FileNotFoundError, PermissionError, NotADirectoryError, IsADirectoryError)


class InputError(ValueError):
    """Something in the command line or in a configuration is wrong; the message is one sentence that says what."""


def closest(word: str, known: Iterable[str]) -> str:
    """The end of a sentence about an unknown name: the names that look like it, or all there are."""
    names = sorted(set(known))
    likeness = {name: difflib.SequenceMatcher(None, word.lower(), name.lower()).ratio() for name in names}
    best = max(likeness.values(), default=0.0)
    if best >= 0.5:
        similar = [name for name in names if likeness[name] > best - 0.1]
        return f"did you mean {' or '.join(similar[:3])}?"
    shown = [*names[:12], "..."] if len(names) > 12 else names
    return f"there are {', '.join(shown)}" if names else "there are none"


def sentence_of(error: BaseException) -> str | None:
    """What to tell the person who typed the command; none if the mistake is not theirs."""
    if isinstance(error, OSError) and error.errno in _CANNOT_WRITE and error.strerror != os.strerror(error.errno):
        return error.strerror  # a sentence of this package around what the system said
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return f"the disk is full{f' ({error.filename})' if error.filename else ''}: free some space and start again"
    if isinstance(error, _FROM_THE_SYSTEM) and error.filename is not None:
        return f"{error.strerror}: {error.filename}"
    if type(error).__name__ == "MisconfigurationException":  # Lightning's, not to be imported here: impossible hardware
        return " ".join(str(error).split())
    if isinstance(error, ValueError | TypeError | FileNotFoundError) and _was_raised_by_this_package(error):
        return " ".join(str(error).split())
    return None


def report(error: BaseException) -> int:
    """Prints an error in the form it deserves and returns the exit code."""
    sentence = sentence_of(error)
    if os.environ.get("LATENT_LAB_TRACEBACK") == "1" or sentence is None:
        traceback.print_exception(error)
    if sentence is None:
        print("latent-lab: this is a mistake in latent-lab, not in your input", file=sys.stderr)
        return OUR_MISTAKE
    print(f"latent-lab: {sentence}", file=sys.stderr)
    return BAD_INPUT


def _was_raised_by_this_package(error: BaseException) -> bool:
    """Whether the innermost frame is ours; the standard library's frames count for whoever called it."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename)
        if path.is_relative_to(_PACKAGE):
            return True
        third_party = not path.resolve().is_relative_to(_STANDARD_LIBRARY) or "site-packages" in path.parts
        if path.exists() and third_party:
            return False
    return False
