"""What an author may have meant by a name that is not known: help as tables, and the closest name there is."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from pzc.compiler.functions import ELSEWHERE, FUNCTION_NAMES
from pzc.compiler.leaves import ALIASES, LEAVES
from pzc.compiler.names import is_leaf
from pzc.grammar.diagnostics import did_you_mean

NAMES = {
    **dict.fromkeys(("weight", "weights", "w_abs"), "W"),
    **dict.fromkeys(("input", "inputs", "act", "acts", "activation", "activations", "x_norm"), "X"),
    **dict.fromkeys(("output", "outputs", "y_norm"), "Y"),
    **dict.fromkeys(("grad", "grads", "gradient", "gradients"), "G"),
    **dict.fromkeys(("hessian", "fisher"), "H.diag"),
    **dict.fromkeys(("rand", "random", "uniform"), "noise"),
    **dict.fromkeys(("d_in", "n_in", "cols", "columns"), "in_features"),
    **dict.fromkeys(("d_out", "n_out", "rows"), "out_features"),
    **dict.fromkeys(("layer_index", "block_index"), "depth"),
    **dict.fromkeys(("eps", "epsilon"), "1e-8"),
    "pi": "3.14159265",
    "e": "exp(1)",
    "true": "1",
    "false": "0",
}
"""What to write for values that have another name here, by their name in small letters."""


def for_name(name: str, known: Collection[str]) -> str | None:
    """The help for a value that is not known; `known` are the names of the file."""
    family, _, member = name.partition(".")
    base = family.split("_")[0]
    if name.lower() in NAMES:
        return f"write `{NAMES[name.lower()]}`"
    here = NAMES.get(member.lower(), member)
    if is_leaf(here):
        return f"`{here}` is this layer's, and a metric reads no other"
    if member.lower() in NAMES:
        return f"write `{here}`"
    as_argument = name.replace("_", ".", 1)  # Python writes the dot of a leaf so
    if is_leaf(as_argument):
        return f"did you mean `{as_argument}`?"
    if not member and base != name and is_leaf(base):
        return f"did you mean `{base}`?"
    return did_you_mean(name, [*LEAVES, *ALIASES, *known])


def for_member(name: str) -> str:
    """The help for what a family of leaves does not have, as `X.entropy`."""
    family = name.partition(".")[0]
    own = "`pzc.register_leaf` adds others, in Python"
    return did_you_mean(name, LEAVES) or f"there are {members(family)}; {own}"


def members(family: str) -> str:
    """The leaves of a family as a list: `X.l2`, `X.l1`, …"""
    return ", ".join(f"`{n}`" for n in LEAVES if n.startswith(f"{family}."))


def for_function(
    name: str, own: Collection[str], libraries: Mapping[str, Collection[str]], hidden: str | None
) -> str | None:
    """The help for a function that is not known.

    `own` are the functions of the file, `libraries` what it uses, `hidden` is what the name before the dot is here.
    """
    family, _, member = name.partition(".")
    if name in ELSEWHERE:
        return f"write `{ELSEWHERE[name]}`"
    having = next((library for library, names in libraries.items() if name in names), None)
    if having is not None:
        return f"write `{having}.{name}(…)`"
    if name in IN_ORDER or member in IN_ORDER:
        return "nothing goes on from one weight to the next; `rank(x)` counts the smaller, `tail(x)` adds up the others"
    if name in PAPER:
        return f"write `use paper ({name})` before"
    if family == "paper" and member and hidden:
        return f"`paper` is a {hidden} here: give it another name, and write `use paper` before"
    if family == "paper" and member:
        return "write `use paper` before"
    if member in FUNCTION_NAMES:
        return f"write `{member}({family})`" if is_leaf(family) else f"write `{member}(…)`, without `{family}.`"
    if member in ELSEWHERE:
        return f"write `{ELSEWHERE[member]}`"
    return did_you_mean(name, [*FUNCTION_NAMES, *own])


PAPER = ("mms", "zsn", "skp")
"""Functions of the library `paper` by which people know it, and which are none of the core."""

IN_ORDER = ("cumsum", "cumprod", "cummax", "cummin")
"""Functions whose values follow from those of the weights before, of which the language has none."""
