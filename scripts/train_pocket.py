"""Train `pocket`, the language model that comes with pzc, and write it to `runtime/pocket/`.

A byte-level BPE tokenizer and a LLaMA of about 480,000 parameters are trained on the English text that Python
itself ships (`pzc.runtime.data.pydoc.training_text`). One paragraph in 25 is held out of it to watch the loss; the
evaluation text of `pzc.runtime.data.pydoc` is never read. The same interpreter, torch and number of threads give
the same weights.

    python scripts/train_pocket.py
"""

import json
import math
import time
from pathlib import Path

import click
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from pzc.runtime.data import pydoc

FOLDER = Path(__file__).parent.parent / "runtime" / "pocket"
VOCABULARY = 1024
WINDOW = 128  # tokens
HELD_OUT = 25  # one paragraph in so many
END = "<|end|>"  # between two documents; no text of ours holds it

SHAPE = {
    "hidden_size": 96,
    "intermediate_size": 240,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 24,
    "max_position_embeddings": WINDOW,  # it has never seen a longer text, and is far worse at one
}


def train_tokenizer(text: str) -> PreTrainedTokenizerFast:
    """Return a byte-level BPE of `VOCABULARY` tokens, learnt from `text`."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([text], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=END,
        eos_token=END,
        pad_token=END,
        model_max_length=WINDOW,
        clean_up_tokenization_spaces=False,
    )


def encode(tokenizer: PreTrainedTokenizerFast, paragraphs: list[str]) -> torch.Tensor:
    """Return the token ids of the paragraphs, a blank line between two, as one vector."""
    ids = tokenizer("\n\n".join(paragraphs), verbose=False)["input_ids"]
    return torch.tensor(ids)


def build_model(spread: float = 1.0) -> LlamaForCausalLM:
    """Return an untrained model in float32, the gains of its norms drawn from a log-normal law.

    In large models a few features of the residual stream are far larger than the rest (Dettmers et al.,
    2022), which is why magnitude is a poor metric there and Wanda a good one. A model this small grows no
    such features by itself in minutes. Gains that start apart by `spread`, the standard deviation of their
    logarithm, give it some: its inputs differ in scale while Adam moves all weights at one speed.
    """
    config = LlamaConfig(
        **SHAPE,
        vocab_size=VOCABULARY,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=None,
        dtype="float32",
        initializer_range=0.04,
        attention_bias=False,
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for name, gain in model.named_parameters():
            if "layernorm" in name:
                # E[gain²] = 1, as before, since E[exp(2·spread·z)] = exp(2·spread²) for a standard normal z.
                gain.mul_(torch.exp(spread * torch.randn_like(gain) - spread**2))
    return model


def schedule(step: int, steps: int, warmup: int) -> float:
    """Return the factor of the learning rate: up in a line over `warmup` steps, then down a cosine to 2 %."""
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress))


def perplexity(model: LlamaForCausalLM, ids: torch.Tensor, limit: int = 200) -> float:
    """Return the perplexity of at most `limit` windows that follow each other in `ids`."""
    count = min(limit, len(ids) // WINDOW)
    windows = ids[: count * WINDOW].view(count, WINDOW)
    model.eval()
    with torch.no_grad():
        losses = [model(input_ids=part, labels=part).loss.item() * len(part) for part in windows.split(32)]
    model.train()
    return math.exp(sum(losses) / count)


def train(
    model: LlamaForCausalLM,
    ids: torch.Tensor,
    held_out: torch.Tensor,
    *,
    steps: int,
    batch: int = 16,
    rate: float = 3e-3,
    decay: float = 0.01,
    seed: int = 0,
) -> None:
    """Train `model` in place with AdamW, on windows at random places of `ids`."""
    generator = torch.Generator().manual_seed(seed)
    matrices = [weight for weight in model.parameters() if weight.ndim == 2]
    gains = [weight for weight in model.parameters() if weight.ndim == 1]
    groups = [{"params": matrices, "weight_decay": decay}, {"params": gains, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98), foreach=True)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: schedule(step, steps, steps // 50))
    reach = torch.arange(WINDOW)
    started = time.monotonic()
    running = 0.0
    for step in range(1, steps + 1):
        starts = torch.randint(len(ids) - WINDOW, (batch, 1), generator=generator)
        windows = ids[starts + reach]
        loss = model(input_ids=windows, labels=windows, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        scheduler.step()
        running += (loss.item() - running) / min(step, 200)
        if step % 250 == 0 or step == steps:
            seconds = time.monotonic() - started
            click.echo(
                f"step {step:6d}  {seconds:5.0f} s  training {math.exp(running):6.2f}"
                f"  held out {perplexity(model, held_out):6.2f}"
            )


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write the model and its tokenizer to `folder`, without the paths of the machine."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    for name in ("config.json", "tokenizer_config.json"):
        path = folder / name
        content = json.loads(path.read_text())
        content.pop("_name_or_path", None)
        if "tokenizer_class" in content:
            content["tokenizer_class"] = "PreTrainedTokenizerFast"  # which transformers 4 knows, too
        path.write_text(json.dumps(content, indent=2) + "\n")


@click.command()
@click.option("--folder", type=click.Path(path_type=Path), default=FOLDER, help="Where to write the model.")
@click.option("--steps", default=4000, show_default=True, help="Steps of training.")
@click.option("--threads", default=1, show_default=True, help="Threads of torch.")
@click.option("--seed", default=0, show_default=True, help="Seed of the weights and of the windows.")
def main(folder: Path, steps: int, threads: int, seed: int) -> None:
    """Train the model `pocket` and write it to a folder."""
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    text = pydoc.training_text()
    tokenizer = train_tokenizer(text)
    paragraphs = text.split("\n\n")
    ids = encode(tokenizer, [p for place, p in enumerate(paragraphs) if place % HELD_OUT])
    held_out = encode(tokenizer, paragraphs[::HELD_OUT])
    model = build_model()
    click.echo(f"{model.num_parameters():,} parameters, {len(ids):,} tokens, {len(held_out):,} held out")
    train(model, ids, held_out, steps=steps, seed=seed)
    save(model, tokenizer, folder)


if __name__ == "__main__":
    main()
