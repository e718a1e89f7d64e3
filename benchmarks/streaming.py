"""Peak memory and time of `pzc prune --stream` on a checkpoint larger than the memory it may take.

    python benchmarks/streaming.py               4.3 GB of random weights, and as much again for what is written
    python benchmarks/streaming.py --folder DIR --metrics wanda --skip-memory

Writes a random LLaMA in bfloat16 shard by shard, then prunes it in child processes, from shard to shard and in memory,
and prints each one's peak resident memory as the system saw it (`ru_maxrss`: the whole process with Python and torch).
Where other work shares the machine, compare processor times.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BLOCKS_A_SHARD = 4
METRICS = {
    "magnitude": [],
    "wanda": [],
    "wanda, sequential": ["--sequential"],
    "wanda, owl": ["--allocation", "owl"],
    "wanda, obs": ["--update", "obs"],
    "wanda, three sparsities": ["--sparsity", "0.3,0.5,0.7"],
    "pruner_zero": [],
}


def make(folder: Path, hidden: int, inner: int, blocks: int, vocabulary: int) -> None:
    """Write a random LLaMA, a few blocks a shard, with the tokenizer of the embedded model."""
    import torch
    from safetensors.torch import save_file
    from transformers import AutoTokenizer, LlamaConfig

    from pzc.runtime.models.loading import POCKET

    config = LlamaConfig(
        vocab_size=vocabulary, hidden_size=hidden, intermediate_size=inner, num_hidden_layers=blocks,
        num_attention_heads=hidden // 64, max_position_embeddings=2048, dtype="bfloat16",
        architectures=["LlamaForCausalLM"],
    )  # fmt: skip
    config.save_pretrained(folder)
    AutoTokenizer.from_pretrained(POCKET).save_pretrained(folder)
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> torch.Tensor:
        return torch.empty(shape, dtype=torch.bfloat16).normal_(std=shape[-1] ** -0.5, generator=generator)

    def block(index: int) -> dict[str, torch.Tensor]:
        name = f"model.layers.{index}"
        ones = torch.ones(hidden, dtype=torch.bfloat16)
        return {
            **{f"{name}.self_attn.{x}_proj.weight": random(hidden, hidden) for x in "qkvo"},
            **{f"{name}.mlp.{x}_proj.weight": random(inner, hidden) for x in ("gate", "up")},
            f"{name}.mlp.down_proj.weight": random(hidden, inner),
            f"{name}.input_layernorm.weight": ones,
            f"{name}.post_attention_layernorm.weight": ones.clone(),
        }

    places: dict[str, str] = {}
    starts = range(0, blocks, BLOCKS_A_SHARD)
    for number, start in enumerate(starts, start=1):
        tensors: dict[str, torch.Tensor] = {}
        for index in range(start, min(blocks, start + BLOCKS_A_SHARD)):
            tensors |= block(index)
        if start == 0:
            tensors["model.embed_tokens.weight"] = random(vocabulary, hidden)
        if start == starts[-1]:
            tensors["model.norm.weight"] = torch.ones(hidden, dtype=torch.bfloat16)
            tensors["lm_head.weight"] = random(vocabulary, hidden)
        file = f"model-{number:05d}-of-{len(starts):05d}.safetensors"
        save_file(tensors, folder / file, metadata={"format": "pt"})
        places |= dict.fromkeys(tensors, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))


def measured(command: list[str]) -> tuple[float, float, float]:
    """Seconds, seconds of processor time and peak resident GB of a child process. Its peak counts from the fork, so
    this process stays small."""
    start = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(command)} ended with {process.returncode}")
    return time.monotonic() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024 / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="where to make the checkpoint; kept")
    parser.add_argument("--hidden", type=int, default=2048)
    parser.add_argument("--inner", type=int, default=8192)
    parser.add_argument("--blocks", type=int, default=30)
    parser.add_argument("--vocabulary", type=int, default=32000)
    parser.add_argument("--windows", type=int, default=4)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--metrics", nargs="+", default=list(METRICS), choices=list(METRICS))
    parser.add_argument("--skip-memory", action="store_true", help="don't prune in memory for comparison")
    parser.add_argument("--make-only", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.make_only:
        make(given.folder, given.hidden, given.inner, given.blocks, given.vocabulary)
        return
    with tempfile.TemporaryDirectory(prefix="pzc-streaming-") as temporary:
        source = given.folder or Path(temporary) / "model"
        source.mkdir(parents=True, exist_ok=True)
        if not (source / "config.json").is_file():
            sizes = [f"--{n}={getattr(given, n)}" for n in ("hidden", "inner", "blocks", "vocabulary")]
            subprocess.run([sys.executable, __file__, "--make-only", f"--folder={source}", *sizes], check=True)
        size = sum(file.stat().st_size for file in source.glob("*.safetensors")) / 1e9
        print(f"{size:.2f} GB of weights, {given.windows} × {given.length} tokens to calibrate and to evaluate on\n")
        print(
            "| metric | peak, streaming | in memory | time, streaming | in memory | processor, streaming | in memory |"
        )
        print("| --- | --- | --- | --- | --- | --- | --- |", flush=True)
        for label in given.metrics:
            row(source, Path(temporary) / "out", label, given)


def row(source: Path, output: Path, label: str, given: argparse.Namespace) -> None:
    """Prune with one metric in both ways, and print a row of the table."""
    common = [
        str(Path(sys.executable).with_name("pzc")), "prune", "--model", str(source), "--output", str(output), "--quiet",
        "--metric", label.split(",")[0], *METRICS[label], f"--windows={given.windows}", f"--length={given.length}",
        f"--eval-windows={given.windows}", "--device=cpu", "--json",
    ]  # fmt: skip
    found = []
    for way in (["--stream"], *([] if given.skip_memory else [[]])):
        found.append(measured([*common, *way]))
        shutil.rmtree(output)
    missing = ["–"] * (2 - len(found))
    cells = [f"{peak:.2f} GB" for _, _, peak in found] + missing
    cells += [f"{seconds:.0f} s" for seconds, _, _ in found] + missing
    cells += [f"{seconds:.0f} s" for _, seconds, _ in found] + missing
    print("| " + " | ".join([label, *cells]) + " |", flush=True)


if __name__ == "__main__":
    main()
