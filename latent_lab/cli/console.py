"""What of the libraries' own messages reaches the console."""

from __future__ import annotations

import logging
import os
import warnings

_BESIDE_THE_POINT = (
    ".*does not have many workers.*",  # images are memory-mapped, see the data modules
    ".*exists and is not empty.*",  # a resumed run writes where it wrote before
    ".*LeafSpec.*",  # torch and lightning among themselves
    ".*find_unused_parameters=True.*",  # needed: growing networks leave layers out
    ".*no logger configured.*",
)


def quieten() -> None:
    """Leaves of Lightning's and torch's messages what is about a person's run; nothing is hidden while tracing errors."""
    if os.environ.get("LATENT_LAB_TRACEBACK") == "1":
        return
    for name in ("lightning", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for pattern in _BESIDE_THE_POINT:
        warnings.filterwarnings("ignore", pattern)
