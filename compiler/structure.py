"""What a graph says, as a text and as a hash, up to the order of the arguments of commutative operations: the same in
every process."""

from __future__ import annotations

from hashlib import blake2b
from weakref import WeakKeyDictionary

from pzc.compiler.core import Node, topological

_UNORDERED = frozenset({"add", "mul", "min", "max"})

KEY_BYTES = 32
"""Of a hash: 256 bits."""

_LONGEST = 1000
"""Characters of a text before its hash stands for it: a part that is shared at every level doubles at every level."""
_text: WeakKeyDictionary[Node, str] = WeakKeyDictionary()


def key(root: Node) -> bytes:
    """A hash of a graph, made from those of its arguments. Every node keeps its own."""
    found = root.key
    if found is not None:
        return found
    waiting = [root]
    while waiting:
        node = waiting[-1]
        missing = [a for a in node.args if a.key is None]
        if missing:
            waiting += missing
            continue
        waiting.pop()
        inner = [a.key or b"" for a in node.args]
        if node.op in _UNORDERED:
            inner.sort()
        said = f"{node.op} {node.value!r} ".encode()
        node.key = found = blake2b(said + b"".join(inner), digest_size=KEY_BYTES).digest()
    return found or b""


def text(node: Node) -> str:
    """A text that tells the whole graph."""
    for n in topological(node):
        if n not in _text:
            inner = [_text[a] for a in n.args]
            parts = sorted(inner) if n.op in _UNORDERED else inner
            value = "" if n.value is None else f":{n.value!r}"
            written = f"({n.op}{value}{''.join(' ' + p for p in parts)})"
            if len(written) > _LONGEST:
                written = f"(# {blake2b(written.encode(), digest_size=32).hexdigest()})"
            _text[n] = written
    return _text[node]
