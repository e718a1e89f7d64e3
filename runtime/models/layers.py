"""The linear layers of a decoder, found by the model's structure and not by the names of its classes."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pzc.compiler.arm import matches
from pzc.grammar.diagnostics import did_you_mean
from pzc.runtime.errors import NonFiniteWeight, PruningError
from pzc.runtime.models.matrices import LINEARS, Matrix, has_linear, matrices_of, outside_of, packed_module
from pzc.runtime.models.offload import kept_on_cpu
from pzc.runtime.scoring.values import count_true, count_zeros, is_finite


@dataclass(frozen=True, eq=False)
class Layer:
    """One linear layer: a matrix in a parameter of the model.

    `name` is its dotted name in the model, `block` the position of its decoder block; one outside of the blocks, as the
    head, counts as behind the last. `module` stores it as its parameter `key`: as `[out, in]`, or `[in, out]` where it
    is `transposed`, as GPT-2's `Conv1D` does. `index` is its place in a parameter that stacks the matrices of many
    experts, `[experts, out, in]`; their module is not called with what an expert reads. `expert` says that only the
    tokens that are routed to it pass through the layer. `others` are modules that have the same weight elsewhere.
    """

    name: str
    module: nn.Module
    block: int
    transposed: bool = False
    key: str = "weight"
    index: int | None = None
    expert: bool = False
    others: tuple[nn.Module, ...] = ()

    @property
    def modules(self) -> tuple[nn.Module, ...]:
        """All modules that multiply by the weight, each once."""
        return tuple(dict.fromkeys((self.module, *self.others)))

    @property
    def parameter(self) -> nn.Parameter:
        """The parameter that holds the weight, as the module stores it: for an expert, with those of all experts. Of
        one that accelerate has offloaded, what it keeps in the CPU's memory."""
        parameter = getattr(self.module, self.key)
        if not isinstance(parameter, nn.Parameter):
            raise PruningError(f"the weight of {self.name} is no plain parameter", layer=self.name)
        kept = kept_on_cpu(self.module, self.key) if parameter.is_meta else None
        return parameter if kept is None else nn.Parameter(kept, requires_grad=False)

    @property
    def is_offloaded(self) -> bool:
        """Whether accelerate keeps the weight elsewhere than where it is used."""
        return bool(getattr(self.module, self.key).is_meta)

    @property
    def weight(self) -> Tensor:
        """The weight as `[out, in]`: a view, so that writing to it changes the model."""
        return self.oriented(self.parameter.detach())

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns: `(out, in)`."""
        rows, columns = self.weight.shape
        return rows, columns

    @property
    def size(self) -> int:
        """The number of its weights."""
        rows, columns = self.shape
        return rows * columns

    def oriented(self, stored: Tensor) -> Tensor:
        """This layer's part of a tensor laid out as its parameter, seen as `[out, in]`."""
        own = stored if self.index is None else stored[self.index]
        return own.T if self.transposed else own


@dataclass(frozen=True, eq=False)
class Layers:
    """A model's decoder blocks in their order, and the linear layers that are pruned. `others` are lists of blocks
    elsewhere in the model, which are left out."""

    blocks: tuple[nn.Module, ...]
    layers: tuple[Layer, ...]
    others: tuple[str, ...] = ()

    def of_block(self, block: int) -> tuple[Layer, ...]:
        """The layers of one block, in the model's order."""
        return tuple(layer for layer in self.layers if layer.block == block)

    @property
    def outside(self) -> tuple[Layer, ...]:
        """The layers that are in none of the blocks."""
        return self.of_block(len(self.blocks))

    @property
    def size(self) -> int:
        """Number of weights in all layers."""
        return sum(layer.size for layer in self.layers)


def find_layers(model: nn.Module, include: Sequence[str] = (), exclude: Sequence[str] = ()) -> Layers:
    """Find the decoder blocks and the linear layers that are to be pruned: all in the blocks but routers.

    The blocks are the longest list of modules that hold linear layers, of those that read text where the model has
    others for images or sound. A list inside another such list (the experts of a block) is part of a block, however
    long. A weight that two layers share is listed once.

    Patterns match names as those of roles do: the whole, or from a dot on; `*` stands for any characters, `?` for one.
    With `include` only layers that match one of its patterns are taken; a pattern without `*` and `?` takes routers and
    what is outside of the blocks, such as the head, too. Layers that match `exclude` are left out.

    Raises PruningError when there is no such list, when a weight is quantised or not in memory, when a matrix in the
    blocks is no linear layer that is known, when a pattern matches nothing or nothing is left.
    """
    blocks, matrices = _matrices(model)
    _check_patterns(model, [m.name for _, m in matrices], include, exclude)
    layers: list[Layer] = []
    unknown: list[Matrix] = []
    sharing: dict[tuple[int, int | None], list[nn.Module]] = {}
    for _, matrix in matrices:
        sharing.setdefault(_place(matrix), []).append(matrix.module)
    seen: set[tuple[int, int | None]] = set()
    for block, matrix in matrices:
        by_default = matrix.kind != "router" and block < len(blocks)
        if _any(exclude, matrix.name) or not _included(matrix.name, include, by_default=by_default):
            continue
        if matrix.kind == "unknown":
            unknown.append(matrix)
        place = _place(matrix)
        if place not in seen:
            seen.add(place)
            sharing[place].remove(matrix.module)
            layers.append(_layer(matrix, block, sharing[place]))
    if unknown:
        raise _unknown(unknown, [matrix.name for _, matrix in matrices])
    if not layers:
        raise PruningError("include and exclude leave no layer to prune")
    for layer in layers:
        _check(layer)
        if layer.block == len(blocks):
            _check_not_tied(model, layer)
    return Layers(blocks, tuple(layers), _others(model, blocks))


def named_layers(model: nn.Module, names: Collection[str]) -> Layers:
    """The layers that have these names, wherever they are in the model; names that none has are passed over.

    Raises PruningError when the model has no list of decoder blocks, or a quantised module in one.
    """
    blocks, matrices = _matrices(model)
    return Layers(blocks, tuple(_layer(m, block) for block, m in matrices if m.name in names))


def _matrices(model: nn.Module) -> tuple[tuple[nn.Module, ...], list[tuple[int, Matrix]]]:
    """The decoder blocks, and all matrices in them and behind them, each with its block."""
    path, blocks = _blocks(model)
    inside = [(i, m) for i, block in enumerate(blocks) for m in matrices_of(block, _joined(path, str(i)))]
    return tuple(blocks), inside + [(len(blocks), m) for m in outside_of(model, path)]


def _layer(m: Matrix, block: int, others: Sequence[nn.Module] = ()) -> Layer:
    return Layer(m.name, m.module, block, m.transposed, m.key, m.index, m.expert, tuple(others))


def _place(matrix: Matrix) -> tuple[int, int | None]:
    """What tells a matrix from all that have other weights."""
    return id(getattr(matrix.module, matrix.key)), matrix.index


def _blocks(model: nn.Module) -> tuple[str, nn.ModuleList]:
    lists = _lists(model)
    if not lists:
        packed = packed_module(model)
        raise PruningError(
            f"{type(model).__name__} has no list of decoder blocks with linear layers"
            + (f"; {packed} is quantised" if packed else ""),
            hint="use the model without quantisation" if packed else None,
        )
    return max(lists, key=lambda found: (*_reads_text(model, *found), len(found[1])))


def _lists(model: nn.Module) -> list[tuple[str, nn.ModuleList]]:
    """All lists of modules with linear layers, but for those inside another."""
    found: list[tuple[str, nn.ModuleList]] = []
    for name, module in model.named_modules():  # an outer module comes before those inside it
        if not isinstance(module, nn.ModuleList) or len(module) == 0 or not all(map(has_linear, module)):
            continue
        if not any(name.startswith(outer + ".") for outer, _ in found):
            found.append((name, module))
    return found


def _reads_text(model: Any, name: str, blocks: nn.ModuleList) -> tuple[bool, bool, bool]:
    """What tells blocks that read text from those for images or sound, the surest first: they are in the decoder, they
    have the configuration of the text, there are as many as it says."""
    if not hasattr(model, "get_decoder") or not hasattr(model, "config"):
        return False, False, False
    text, parts = getattr(model.config, "get_text_config", lambda: model.config)(), name.split(".")
    owners = (model.get_submodule(".".join(parts[:depth])) for depth in range(len(parts), 0, -1))
    config = next((module.config for module in owners if hasattr(module, "config")), model.config)
    return (
        any(module is blocks for module in model.get_decoder().modules()),
        type(config) in (type(text), type(model.config)),
        len(blocks) == getattr(text, "num_hidden_layers", None),
    )


def _others(model: nn.Module, blocks: Sequence[nn.Module]) -> tuple[str, ...]:
    """The lists of blocks beside the one that is pruned: of modules of the same kind, or of more than one that are not
    bare linear layers."""
    kind = type(blocks[0])
    lists = ((name, each) for name, each in model.named_modules() if isinstance(each, nn.ModuleList) and len(each))
    alike = [name for name, each in lists if all(type(x) is kind and x not in blocks for x in each)]
    outer = [
        name
        for name, each in _lists(model)
        if len(each) > 1 and not any(isinstance(x, LINEARS) or x in blocks for x in each)
    ]
    return tuple(dict.fromkeys((*alike, *outer)))


def excluding(some: Collection[str], names: Collection[str]) -> str:
    """The options that leave out some of the layers with these names, and no other: `--exclude 'indexer.*'`."""
    patterns: list[str] = []
    for name in some:
        if _any(patterns, name):
            continue
        path, _, last = name.rpartition(".")
        outer = next((part for part in reversed(path.split(".")) if not part.isdigit()), "")
        wider = [f"{outer}.*", last, f"{outer}.{last}", f"{path}.*"]
        patterns.append(next((x for x in wider if all(n in some for n in names if matches(x, n))), name))
    return " ".join([f"--exclude '{pattern}'" for pattern in patterns[:4]] + ["…"] * (len(patterns) > 4))


def _joined(*parts: str) -> str:
    return ".".join(part for part in parts if part)


def _any(patterns: Sequence[str], name: str) -> bool:
    return any(matches(pattern, name) for pattern in patterns)


def _included(name: str, include: Sequence[str], *, by_default: bool) -> bool:
    if by_default:
        return not include or _any(include, name)
    return _any([pattern for pattern in include if not set(pattern) & set("*?")], name)


def _check_patterns(model: nn.Module, names: Sequence[str], include: Sequence[str], exclude: Sequence[str]) -> None:
    for pattern in (*include, *exclude):
        if any(matches(pattern, name) for name in names):
            continue
        other = next((module for name, module in model.named_modules() if matches(pattern, name)), None)
        if other is not None:
            raise PruningError(
                f"`{pattern}` is of the type {type(other).__name__}, which is no linear layer", pattern=pattern
            )
        known = sorted({name.rsplit(".", 1)[-1] for name in names})
        hint = did_you_mean(pattern, known) or f"layers end in {', '.join(known)}"
        if "[" in pattern:
            hint = "only * and ? stand for others; give a pattern for each, as in --include 'layers.0.*'"
        raise PruningError(f"no layer matches `{pattern}`", hint=hint, pattern=pattern)


def _unknown(some: Sequence[Matrix], names: Collection[str]) -> PruningError:
    matrix = some[0]
    parameter = getattr(matrix.module, matrix.key)
    return PruningError(
        f"{matrix.name} {list(parameter.shape)} of {type(matrix.module).__name__} is no linear layer that pzc knows",
        hint=f"leave it dense with {excluding([each.name for each in some], names)}",
        layer=matrix.name,
    )


def _check_not_tied(model: nn.Module, layer: Layer) -> None:
    for name, module in model.named_modules():
        if isinstance(module, nn.Embedding) and module.weight is layer.parameter:
            raise PruningError(
                f"{layer.name} shares its weight with the embedding {name}, which is not pruned", layer=layer.name
            )


def _check(layer: Layer) -> None:
    weight = layer.parameter
    if weight.device.type == "meta":
        raise PruningError(
            f"the weight of {layer.name} is not in memory",
            hint="`pzc prune --stream` holds one block at a time; or load the model without offloading to the disk",
            layer=layer.name,
        )
    if weight.dtype not in (torch.float32, torch.float16, torch.bfloat16, torch.float64) or layer.weight.ndim != 2:
        raise PruningError(
            f"the weight of {layer.name} is stored as {weight.dtype}, which cannot be pruned",
            hint="use the model without quantisation",
            layer=layer.name,
        )


def check_finite(layers: Sequence[Layer], updated: Sequence[Tensor] | None = None) -> None:
    """Raise NonFiniteWeight where a weight is infinite or NaN, and name its layer: of the model's weights, or of those
    that they are to be `updated` to, `[out, in]` each."""
    for layer, weight in zip(layers, updated or [layer.weight for layer in layers], strict=True):
        if not is_finite(weight):
            bad = count_true(~torch.isfinite(weight))
            raise NonFiniteWeight(
                f"{bad} of the {layer.size} {'updated ' if updated else ''}weights of {layer.name} are infinite or NaN",
                hint="load the model as float32" if updated else "the model's files may be damaged",
                layer=layer.name,
                share=bad / layer.size,
            )


def zeros(layers: Layers) -> dict[str, int]:
    """The number of weights that are exactly zero, by layer."""
    return {layer.name: count_zeros(layer.weight) for layer in layers.layers}
