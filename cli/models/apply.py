"""`pzc apply`."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pzc.cli import options
from pzc.cli.console import output, print_json, say

if TYPE_CHECKING:
    from pzc.runtime.models.loading import Loaded
    from pzc.runtime.pruning.mask_files import MaskFile
    from pzc.runtime.streaming.model import Shell


@click.command("apply")
@click.argument("masks", type=click.Path(path_type=Path, dir_okay=False))
@options.loading
@click.option("--output", "-o", "folder", required=True, type=click.Path(path_type=Path), help="Folder to write.")
@options.overwrite
@click.option("--force", is_flag=True, help="Put the masks on another model than the one that they were made for.")
@options.streams
@options.as_json
def command(
    masks: Path, model: str, device: str, dtype: str | None, trust_remote_code: bool, folder: Path, overwrite: bool,
    force: bool, streams: bool, as_json: bool,
) -> None:  # fmt: skip
    """Put the masks of a file on a model and save it as a Hugging Face folder.

    MASKS is what `pzc prune --mask-only` wrote. The model must be the one that they were made for, by the hash of its
    weights.

    \b
    pzc apply wanda50.safetensors --model pocket --output out/wanda50
    pzc apply wanda50.safetensors -m pocket --dtype bfloat16 -o out/half
    pzc apply wanda50.safetensors -m out/tuned --force -o out/tuned50
    """
    if streams and trust_remote_code:
        raise click.UsageError("--stream runs no code that comes with a model")
    from pzc.runtime.models.layers import Layers, check_finite, zeros
    from pzc.runtime.models.loading import load_model
    from pzc.runtime.planning.commands import options_of
    from pzc.runtime.pruning.mask_files import apply_masks, check_model, masked_layers, read_about, read_masks
    from pzc.runtime.saving.checkpoint import RECORD, check_output, save
    from pzc.runtime.streaming.apply import stream_masks

    check_output(folder, overwrite=overwrite)
    shapes, file = read_about(masks)
    if streams:
        shell = _opened(model, shapes, device=device, dtype=dtype)
        loaded = shell.loaded
    else:
        shell = None
        loaded = load_model(model, device=device, dtype=dtype, trust_remote_code=trust_remote_code)
    if not force:
        check_model(file, loaded.sha256)
    if shell:
        with stream_masks(shell, masks, folder, overwrite=overwrite) as applied:
            content = _record(loaded, file, masks, dtype, applied.before, applied.after, applied.sizes)
            applied.save(content)
    else:
        whole = read_masks(masks)
        layers = Layers((), masked_layers(loaded.model, whole.masks))
        check_finite(layers.layers)
        before = zeros(layers)
        apply_masks(loaded.model, whole.masks)
        sizes = {layer.name: layer.size for layer in layers.layers}
        content = _record(loaded, file, masks, dtype, before, zeros(layers), sizes)
        save(loaded.model, loaded.tokenizer, content, folder, overwrite=overwrite)
    if as_json:
        print_json({"output": str(folder), **content})
        return
    zero = content["sparsity"]
    output.print(f"sparsity  {zero['after']:.2%}   {len(zero['layers'])} layers", soft_wrap=True)
    following = options_of({"model": folder, "trust_remote_code": trust_remote_code}, "model", "trust_remote_code")
    say(f"wrote {folder} with its {RECORD}   next: pzc eval{following}")


def _opened(model: str, names: Collection[str], **how: Any) -> Shell:
    """The model with the layers of these names, routers among them, or with its own should one be in no block."""
    from pzc.runtime.errors import PruningError
    from pzc.runtime.streaming.model import check_inside, open_shell

    with suppress(PruningError):
        shell = open_shell(model, include=sorted(names), **how)
        check_inside(shell.layers)
        return shell
    return open_shell(model, **how)


def _record(
    loaded: Loaded, file: MaskFile, masks: Path, dtype: str | None, before: Mapping[str, int],
    after: Mapping[str, int], sizes: Mapping[str, int],
) -> dict[str, Any]:  # fmt: skip
    """What becomes of the record in the file of masks when they are put on a model."""
    from pzc.runtime.models.loading import hash_files
    from pzc.runtime.saving.checkpoint import FORMAT, described_model, versions

    run = file.about if file.about.get("format") == FORMAT else {}
    model, weights = described_model(loaded), sum(sizes.values())
    known = loaded.sha256 == file.sha256
    return {
        **run,
        "format": FORMAT,
        "run": None,
        "model": model,
        "mask": {"name": masks.name, "sha256": hash_files((masks,)), "of_this_model": known, "dtype": dtype}
        | ({} if run else {"about": dict(file.about)}),
        "sparsity": {
            "before": sum(before.values()) / weights,
            "after": sum(after.values()) / weights,
            "weights": weights,
            "layers": {name: after[name] / size for name, size in sizes.items()},
        },
        "perplexity": run["perplexity"] if known and run and run["model"]["dtype"] == model["dtype"] else None,
        "versions": versions(),
    }
