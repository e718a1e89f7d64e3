"""`pzc apply`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pzc.cli import options
from pzc.cli.console import output, print_json, say


@click.command("apply")
@click.argument("masks", type=click.Path(path_type=Path, dir_okay=False))
@options.loading
@click.option("--output", "-o", "folder", required=True, type=click.Path(path_type=Path), help="Folder to write.")
@click.option("--overwrite", is_flag=True, help="Replace the folder if it exists.")
@click.option("--force", is_flag=True, help="Put the masks on another model than the one that they were made for.")
@options.as_json
def command(
    masks: Path, model: str, device: str, dtype: str | None, trust_remote_code: bool, folder: Path, overwrite: bool,
    force: bool, as_json: bool,
) -> None:  # fmt: skip
    """Put the masks of a file on a model and save it as a Hugging Face folder.

    MASKS is what `pzc prune --mask-only` wrote. The model must be the one that they were made for, by the hash of its
    weights.

    \b
    pzc apply wanda50.safetensors --model pocket --output out/wanda50
    pzc apply wanda50.safetensors -m pocket --dtype bfloat16 -o out/half
    pzc apply wanda50.safetensors -m out/tuned --force -o out/tuned50
    """
    from pzc.runtime.card import known_license
    from pzc.runtime.checkpoint import FORMAT, RECORD, check_output, save, versions
    from pzc.runtime.layers import Layers, zeros
    from pzc.runtime.mask_files import apply_masks, check_model, masked_layers, read_masks
    from pzc.runtime.models import hash_files, load_model

    check_output(folder, overwrite=overwrite)
    file = read_masks(masks)
    loaded = load_model(model, device=device, dtype=dtype, trust_remote_code=trust_remote_code)
    known = loaded.sha256 == file.sha256
    if not force:
        check_model(file, loaded.sha256)
    layers = Layers((), masked_layers(loaded.model, file.masks))
    before = zeros(layers)
    apply_masks(loaded.model, file.masks)
    after = zeros(layers)
    sizes = {layer.name: layer.size for layer in layers.layers}
    run = file.about if file.about.get("format") == FORMAT else {}
    content: dict[str, Any] = {
        **run,
        "format": FORMAT,
        "model": {
            "name": loaded.name,
            "sha256": loaded.sha256,
            "dtype": str(loaded.dtype).removeprefix("torch."),
            "license": known_license(loaded.name, loaded.files),
        },
        "mask": {"name": masks.name, "sha256": hash_files((masks,)), "of_this_model": known}
        | ({} if run else {"about": dict(file.about)}),
        "sparsity": {
            "before": sum(before.values()) / layers.size,
            "after": sum(after.values()) / layers.size,
            "weights": layers.size,
            "layers": {name: after[name] / size for name, size in sizes.items()},
        },
        "perplexity": run.get("perplexity") if known else None,
        "versions": versions(),
    }
    save(loaded.model, loaded.tokenizer, content, folder, overwrite=overwrite)
    if as_json:
        print_json({"output": str(folder), **content})
        return
    output.print(f"sparsity  {content['sparsity']['after']:.2%}   {len(file.masks)} layers", soft_wrap=True)
    say(f"wrote {folder} with its {RECORD}   next: pzc eval --model {folder}")
