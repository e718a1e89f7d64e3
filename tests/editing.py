"""Texts that the tests of the language server edit."""

from __future__ import annotations

from pathlib import Path

PROGRAM = """pzm 1
use paper (mms)
use paper
## How much of all.
fn part(x, axis) = x / sum(x, axis)
## The exponent.
param a = 0.5 in [0, 1]
let b = part(abs(W), in) * mms(G) + paper.log(X.l1) ^ a
## By role.
metric m { gate_proj, mlp.b: b per col  else: abs(W) * X }
space s { leaves: W, X  ops: *, mms  per: row }
metric n = b + a per model
"""


def write_folder(folder: Path) -> Path:
    """Files that may be used by others, one sound, one broken, one no text."""
    (folder / "norms.pzm").write_text("pzm 1\n## Of all.\nfn share(x, axis) = x / sum(x, axis)\nlet w = abs(W)\n")
    (folder / "broken.pzm").write_text("pzm 1\nlet a = W +\nfn f(x) = x\n")
    (folder / "bytes.pzm").write_bytes(b"\xff\xfe\x00")
    return folder
