"""What reaches the console: our lines, from the first process only, and little of what the libraries say."""

from __future__ import annotations

import logging
import os
import sys
import warnings

_BESIDE_THE_POINT = (
    ".*does not have many workers.*",  # images are memory-mapped, see the data modules
    ".*exists and is not empty.*",  # a resumed run writes where it wrote before
    ".*LeafSpec.*",  # torch and lightning among themselves
    ".*find_unused_parameters=True.*",  # needed: growing networks leave layers out
    ".*module.s. in eval mode at the start of training.*",  # the averaged generator always is
    ".*passed in a `val_dataloader` but have no `validation_step`.*",  # analyses are run by callbacks
)


def quieten() -> None:
    """Leaves of the libraries' messages what is about a person's run; hides nothing while errors are traced."""
    if os.environ.get("LATENT_LAB_TRACEBACK") == "1":
        return
    for name in ("lightning", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for pattern in _BESIDE_THE_POINT:
        warnings.filterwarnings("ignore", pattern)


def say(text: str) -> None:
    """One line beside the results, on the error stream."""
    if is_first_process():
        print(f"latent-lab: {text}", file=sys.stderr)


def is_first_process() -> bool:
    """Whether no launcher (torchrun, SLURM, Lightning's own) has started this process as a further one."""
    ranks = (os.environ.get(name) for name in ("RANK", "SLURM_PROCID", "LOCAL_RANK"))
    return next((rank for rank in ranks if rank is not None), "0") == "0"
