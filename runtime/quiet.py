"""Silence from the libraries below: what matters is raised, and progress is shown by the caller."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr

from huggingface_hub.utils import logging as hub_logging
from transformers.utils import logging


@contextmanager
def hub_quiet() -> Iterator[None]:
    """Keep the hub's client from telling of every retry."""
    level = hub_logging.get_verbosity()
    hub_logging.set_verbosity_error()
    try:
        yield
    finally:
        hub_logging.set_verbosity(level)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers from logging and from drawing bars; GGUF's bar heeds no setting."""
    level = logging.get_verbosity()
    bars = logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with hub_quiet(), redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
