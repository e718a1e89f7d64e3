"""The laws of the compiler as data: one rule a line, in the notation of the language.

A line is `name | left = right | kind | conditions | reason`. In patterns x, y and z are any value, c and d numbers,
and k is a value that the conditions pick: of a product `k * x` or a sum `k + x` it takes every part that fulfils them,
and x the rest (`k < 0` takes one part). `axis` is the axes of a reduction, one or both; without it a reduction is over
all axes of its argument. `size(axis)` is the number of positions along them.

The kind says what a rule keeps: `exact`, the value as it is computed; `real`, the real function, wherever the left
side is defined; `rank`, the order inside every comparison group. Rank rules apply at the root alone, and a minus on
the right turns the order round. A condition in brackets only keeps a rule to one direction: it is true without. Rules
marked `normal` are the laws by which the arithmetic normal form (`arithmetic.py`) works: sorted sums with collected
terms, products with joined powers. The normal form is computed in one pass; all others are applied by matching.

Every rule ends: with a term's weight made up from its parts (leaves and numbers weigh 2, a coefficient, an addend or
a bound nothing, sums and products the sum of their parts and one for each sign between, minima and maxima a quarter,
`exp` 3 more than its argument, magnitudes, powers, signs, logarithms, `tanh` and `sigmoid` twice (and a half more for
all but the first) and reductions five times as much as theirs, and the spellings `neg sub div sqr sqrt clamp norm
mean std median` more than what they stand for), no rule makes a term heavier; those that keep the weight lower the
sums that begin with a minus under an odd or even function or a reduction, then the maxima of minima, then the minima
and maxima around functions, then the depth of negative coefficients and exponents, then that of all
(`tests/test_rules.py`). Two rules alone make a term heavier, and each uses up what no rule makes: `product of ln` an
`ln`, `sum of sum` a sum inside of a reduction.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from pzc.grammar.parse import parse
from pzc.grammar.syntax import Expression, Let


@dataclass(frozen=True)
class Rule:
    """`left` becomes `right` wherever every one of `conditions` holds.

    `kind` says what is kept: `exact`, `real` (the real function) or `rank` (the order inside every group).
    `normal` marks a law of the arithmetic normal form, which is code.
    """

    name: str
    left: str
    right: str
    kind: str
    conditions: tuple[str, ...]
    reason: str
    normal: bool = False

    def __str__(self) -> str:
        where = f"  where {', '.join(self.conditions)}" if self.conditions else ""
        return f"{self.left} {'~' if self.kind == 'rank' else '='} {self.right}{where}"


TABLE = """
# Spellings: what the canonical graph does without

negation            | -x = -1 * x                                       | exact |  | a sign is a coefficient
difference          | x - y = x + -1 * y                                | exact |  | a difference is a sum
quotient            | x / y = x * y ^ -1                                | real |  | a quotient is a product
square              | sqr(x) = x ^ 2                                    | real  |                  | a square is a power
root                | sqrt(x) = x ^ 0.5                                 | real  |                  | a root is a power
clamp               | clamp(x, y, z) = min(max(x, y), z)                | exact |                  | by definition
norm                | norm(x, c, axis) = sum(abs(x) ^ c, axis) ^ (1 / c) | real |                | by definition
mean                | mean(x, axis) = sum(x, axis) * size(axis) ^ -1    | real  |                  | by definition
deviation           | std(x, axis) = var(x, axis) ^ 0.5                 | real  |                  | by definition
median              | median(x, axis) = quantile(x, 0.5, axis)          | real  |                  | by definition
lowest quantile     | quantile(x, 0, axis) = min(x, axis)               | exact |  | the first of the sorted values
highest quantile    | quantile(x, 1, axis) = max(x, axis)               | exact |  | the last of the sorted values

# Sums and products: the arithmetic normal form

numbers | 2 ^ 3 = 8 | exact normal |  | operations on numbers are worked out
collect terms       | c * x + d * x = (c + d) * x                       | real normal |            | like terms
drop zero           | x + 0 = x                                         | exact normal |           | zero adds nothing
common factor       | z * x + z * y = z * (x + y)                       | real normal |  | factors of all terms move out
common power | z ^ c * x + z ^ d * y = z ^ c * (x + z ^ (d - c) * y) | real normal | c <= d | so do powers
group terms | z * x + z * y + k = z * (x + y) + k | real normal |  | factors of some terms move out of these
spread terms | z * (x + y) + z * k = z * x + z * y + z * k | real normal |  | or into these, to meet another
number over sum     | c * (x + y) = c * x + c * y                       | real normal |  | a number goes to the terms
content | (c * x + c * y) ^ d = c ^ d * (x + y) ^ d | real normal | c > 0 | a sum begins with the coefficient 1
turned sum | (-1 * x + y) ^ c = (-1) ^ c * (x + -1 * y) ^ c | real normal | c whole | or with −1, which moves out
one                 | 1 * x = x                                         | exact normal |           | a factor of one
zero                | 0 * x = 0                                         | exact normal |  | wherever x is finite
join powers         | x ^ c * x ^ d = x ^ (c + d)                       | real normal |            | powers of one base
join exponentials   | exp(x) * exp(y) = exp(x + y)                      | real normal |  | products of powers of e
first power         | x ^ 1 = x                                         | exact normal |           | by definition
power of product | (x * y) ^ c = x ^ c * y ^ c | real normal | x >= 0, y >= 0 | of factors that are never negative
whole power of product | (x * y) ^ c = x ^ c * y ^ c | real normal | c whole | of factors of any sign
power of power      | (x ^ c) ^ d = x ^ (c * d)                         | real normal | x >= 0     | exponents multiply
whole power of power | (x ^ c) ^ d = x ^ (c * d)                        | real normal | d whole    | at any sign
root of power | (x ^ c) ^ d = x ^ (c * d) | real normal | c not even | what is defined at any sign is so inside
root of even power | (x ^ c) ^ d = abs(x) ^ (c * d) | real normal | c even | an even power forgets the sign
power of exponential | exp(x) ^ c = exp(c * x)                          | real normal |            | exponents multiply
even power | abs(x) ^ c = x ^ c | real normal | c even | an even power forgets the sign
odd power           | sign(x) * abs(x) ^ c = x ^ c                      | real normal | c odd | an odd power keeps it
signed power | x * abs(x) ^ c = sign(x) * abs(x) ^ (c + 1) | real normal |  | the sign apart from the magnitude
flat minimum        | min(x, min(y, z)) = min(x, y, z)                  | exact normal |           | of all at once
flat maximum        | max(x, max(y, z)) = max(x, y, z)                  | exact normal |           | of all at once
minimum of one      | min(x, x) = x                                     | exact normal |           | idempotent
maximum of one      | max(x, x) = x                                     | exact normal |           | idempotent
content of minimum  | min(c * x, c * y) = c * min(x, y) | real normal | c > 0 | the first begins with the coefficient 1
content of maximum  | max(c * x, c * y) = c * max(x, y) | real normal | c > 0 | the first begins with the coefficient 1
turned minimum      | min(-1 * x, y) = -1 * max(x, -1 * y)              | exact normal |           | the order turns
turned maximum      | max(-1 * x, y) = -1 * min(x, -1 * y)              | exact normal |           | the order turns
factor of minimum   | min(z * x, z * y) = z * min(x, y) | real normal | z >= 0 | factors of all values move out
factor of maximum   | max(z * x, z * y) = z * max(x, y) | real normal | z >= 0 | factors of all values move out

# Exponentials and logarithms

ln of exp           | ln(exp(x)) = x                                    | real  |                  | inverse functions
exp of ln           | exp(c * ln(x)) = x ^ c                            | real  |                  | inverse functions
exp of sum with ln  | exp(c * ln(x) + y) = x ^ c * exp(y)               | real |  | a sum of exponents is a product
ln of power         | ln(x ^ c) = c * ln(x)                             | real | c not even | the exponent moves out
ln of even power    | ln(x ^ c) = c * ln(abs(x))                        | real  | (c even)         | of the magnitude
ln of product       | ln(k * x) = ln(k) + ln(x)                 | real  | k >= 0, (x not a number) | positive there
power of number     | c ^ x = exp(ln(c) * x)                            | real  | c > 0            | by definition
power of exp        | exp(x) ^ y = exp(x * y)                           | real  |                  | exponents multiply

# Signs and magnitudes

abs of non-negative | abs(x) = x                                        | exact | x >= 0           | never negative
abs of non-positive | abs(x) = -1 * x                                   | exact | x <= 0           | never positive
abs of product      | abs(x * y) = abs(x) * abs(y)                      | exact |                  | magnitudes multiply
abs of power        | abs(x ^ c) = abs(x) ^ c                           | real  | (c whole)        | magnitudes multiply
abs of sign         | abs(sign(x)) = sign(abs(x))                       | exact |  | 0 where x is zero, else 1
abs of tanh         | abs(tanh(x)) = tanh(abs(x))                       | real  |                  | tanh is odd
sign of positive    | sign(x) = 1                                       | exact | x > 0            | always positive
sign of negative    | sign(x) = -1                                      | exact | x < 0            | always negative
sign of sign        | sign(sign(x)) = sign(x)                           | exact |                  | idempotent
sign of product     | sign(x * y) = sign(x) * sign(y)                   | exact |                  | signs multiply
sign of odd power   | sign(x ^ c) = sign(x)                             | real  | c odd, (x of both signs) | kept
sign of even power  | sign(x ^ c) = sign(abs(x))                        | real  | c even, (c > 0)  | forgotten
sign of power       | sign(x ^ c) = sign(x)                             | real  | x >= 0, c > 0    | zero where x is
sign of tanh        | sign(tanh(x)) = sign(x)                           | real |  | tanh is odd and increasing
abs of turned sum   | abs(x) = abs(-1 * x)                              | exact | (x a turned sum) | |a − b| = |b − a|
sign of turned sum  | sign(x) = -1 * sign(-1 * x)                       | exact | (x a turned sum) | odd
tanh of turned sum  | tanh(x) = -1 * tanh(-1 * x)                       | real  | (x a turned sum) | odd
tanh of negative    | tanh(c * x) = -1 * tanh(-1 * c * x)               | real  | (c < 0)          | odd

# Minima and maxima of two values

absorbed minimum    | max(x, min(x, y)) = x                             | exact | (x not a number) | absorption
absorbed maximum    | min(x, max(x, y)) = x                             | exact | (x not a number) | absorption
smaller one         | min(x, y) = x                                     | exact | x <= y | never above the other
larger one          | max(x, y) = y                                     | exact | x <= y | never below the other
clamp turned        | max(min(x, c), d) = min(max(x, d), c)             | exact | d <= c | bounds in either order
magnitude           | max(x, -1 * x) = abs(x)                           | exact |                  | by definition
negative magnitude  | min(x, -1 * x) = -1 * abs(x)                      | exact |                  | by definition
min of exponentials | min(exp(x), exp(y)) = exp(min(x, y))              | real  |                  | exp is increasing
max of exponentials | max(exp(x), exp(y)) = exp(max(x, y))              | real  |                  | exp is increasing
min of tanh         | min(tanh(x), tanh(y)) = tanh(min(x, y))           | real  |                  | tanh is increasing
max of tanh         | max(tanh(x), tanh(y)) = tanh(max(x, y))           | real  |                  | tanh is increasing
min of sigmoids     | min(sigmoid(x), sigmoid(y)) = sigmoid(min(x, y))  | real  |                  | increasing
max of sigmoids     | max(sigmoid(x), sigmoid(y)) = sigmoid(max(x, y))  | real  |                  | increasing
min of logarithms   | min(ln(x), ln(y)) = ln(min(x, y))                 | real  |                  | ln is increasing
max of logarithms   | max(ln(x), ln(y)) = ln(max(x, y))                 | real  |                  | ln is increasing
min of signs        | min(sign(x), sign(y)) = sign(min(x, y))           | exact |                  | never decreasing
max of signs        | max(sign(x), sign(y)) = sign(max(x, y))           | exact |                  | never decreasing
min of powers       | min(x ^ c, y ^ c) = min(x, y) ^ c | real | x >= 0, y >= 0, c > 0 | increasing
max of powers       | max(x ^ c, y ^ c) = max(x, y) ^ c | real | x >= 0, y >= 0, c > 0 | increasing
min of inverses     | min(x ^ c, y ^ c) = max(x, y) ^ c | real | x >= 0, y >= 0, c < 0 | decreasing
max of inverses     | max(x ^ c, y ^ c) = min(x, y) ^ c | real | x >= 0, y >= 0, c < 0 | decreasing

# Reductions

sum of constant | sum(k, axis) = size(axis) * k | real normal | k without the axis | n times one value
min of constant | min(k, axis) = k | exact normal | k without the axis | n times one value
max of constant | max(k, axis) = k | exact normal | k without the axis | n times one value
quantile of constant | quantile(k, c, axis) = k | real normal | k without the axis | n times one value
variance of constant | var(k, axis) = 0                                 | real normal | k without the axis | no spread
rank of constant | rank(k, axis) = 0 | exact normal | k without the axis | none is smaller
tail of constant | tail(k, axis) = size(axis) * k | real normal | k without the axis | n times one value
sum of scaled       | sum(k * x, axis) = k * sum(x, axis)               | real  | k without the axis | factors move out
sum of sum          | sum(x + y, axis) = sum(x, axis) + sum(y, axis)    | real  |                  | sums are linear
sum of sums         | sum(sum(x, axis)) = sum(x)                        | real |  | one axis after the other
variance of scaled  | var(k * x, axis) = k ^ 2 * var(x, axis)           | real  | k without the axis | squared
variance of shifted | var(k + x, axis) = var(x, axis)                   | real  | k without the axis | the spread stays
min of shifted      | min(k + x, axis) = k + min(x, axis)               | real  | k without the axis | addends move out
max of shifted      | max(k + x, axis) = k + max(x, axis)               | real  | k without the axis | addends move out
quantile of shifted | quantile(k + x, c, axis) = k + quantile(x, c, axis) | real | k without the axis | addends move out
min of scaled | min(k * x, axis) = k * min(x, axis) | real | k without the axis, k >= 0 | factors move out
max of scaled | max(k * x, axis) = k * max(x, axis) | real | k without the axis, k >= 0 | factors move out
quantile of scaled | quantile(k * x, c, axis) = k * quantile(x, c, axis) | real | k without the axis, k >= 0 | linear
min of turned | min(k * x, axis) = k * max(x, axis) | real | k without the axis, k < 0 | the order turns
max of turned | max(k * x, axis) = k * min(x, axis) | real | k without the axis, k < 0 | the order turns
quantile of turned | quantile(k * x, c, axis) = k * quantile(x, 1 - c, axis) | real | k without the axis, k < 0 | turns
min of content | min(c * x + c * y, axis) = c * min(x + y, axis) | real normal | c > 0 | sums begin with 1
max of content | max(c * x + c * y, axis) = c * max(x + y, axis) | real normal | c > 0 | sums begin with 1
variance of content | var(c * x + c * y, axis) = c ^ 2 * var(x + y, axis) | real normal |  | sums begin with 1
tail of content | tail(c * x + c * y, axis) = c * tail(x + y, axis) | real normal | c > 0 | sums begin with 1
quantile of content | quantile(d * x + d * y, c, axis) = d * quantile(x + y, c, axis) | real normal | d > 0 | linear
min of turned sum   | min(x, axis) = -1 * max(-1 * x, axis)             | exact | (x a turned sum) | the order turns
max of turned sum   | max(x, axis) = -1 * min(-1 * x, axis)             | exact | (x a turned sum) | the order turns
variance of turned sum | var(x, axis) = var(-1 * x, axis)               | exact | (x a turned sum) | the spread stays
quantile of turned sum | quantile(x, c, axis) = -1 * quantile(-1 * x, 1 - c, axis) | real | (x a turned sum) | turns
min of mins         | min(min(x, axis)) = min(x)                        | exact |  | one axis after the other
max of maxs         | max(max(x, axis)) = max(x)                        | exact |  | one axis after the other
min of smaller      | min(min(x, y), axis) = min(min(x, axis), min(y, axis)) | exact |             | minima in any order
max of larger       | max(max(x, y), axis) = max(max(x, axis), max(y, axis)) | exact |             | maxima in any order
min of exp          | min(exp(x), axis) = exp(min(x, axis))             | real  |                  | exp is increasing
max of exp          | max(exp(x), axis) = exp(max(x, axis))             | real  |                  | exp is increasing
min of ln           | min(ln(x), axis) = ln(min(x, axis))               | real  |                  | ln is increasing
max of ln           | max(ln(x), axis) = ln(max(x, axis))               | real  |                  | ln is increasing
min of tanh over axis | min(tanh(x), axis) = tanh(min(x, axis))         | real  |                  | tanh is increasing
max of tanh over axis | max(tanh(x), axis) = tanh(max(x, axis))         | real  |                  | tanh is increasing
min of sign         | min(sign(x), axis) = sign(min(x, axis))           | exact |                  | never decreasing
max of sign         | max(sign(x), axis) = sign(max(x, axis))           | exact |                  | never decreasing
min of sigmoid      | min(sigmoid(x), axis) = sigmoid(min(x, axis))     | real  |                  | increasing
max of sigmoid      | max(sigmoid(x), axis) = sigmoid(max(x, axis))     | real  |                  | increasing
min of power        | min(x ^ c, axis) = min(x, axis) ^ c               | real  | x >= 0, c > 0    | increasing
max of power        | max(x ^ c, axis) = max(x, axis) ^ c               | real  | x >= 0, c > 0    | increasing
min of odd power    | min(x ^ c, axis) = min(x, axis) ^ c               | real  | c odd, c > 0     | increasing
max of odd power    | max(x ^ c, axis) = max(x, axis) ^ c               | real  | c odd, c > 0     | increasing
min of inverse | min(x ^ c, axis) = max(x, axis) ^ c | real | x >= 0, c < 0 | decreasing where it is defined
max of inverse | max(x ^ c, axis) = min(x, axis) ^ c | real | x >= 0, c < 0 | decreasing where it is defined
rank of scaled | rank(k * x, axis) = rank(x, axis) | exact | k without the axis, k > 0 | the order stays
rank of shifted     | rank(k + x, axis) = rank(x, axis)                 | real  | k without the axis | the order stays
rank of exp         | rank(exp(x), axis) = rank(x, axis)                | real  |                  | exp is increasing
rank of ln          | rank(ln(x), axis) = rank(x, axis)                 | real  |                  | ln is increasing
rank of tanh        | rank(tanh(x), axis) = rank(x, axis)               | real  |                  | tanh is increasing
rank of sigmoid     | rank(sigmoid(x), axis) = rank(x, axis)            | real  |                  | increasing
rank of power       | rank(x ^ c, axis) = rank(x, axis)                 | real  | x >= 0, c > 0    | increasing
rank of odd power   | rank(x ^ c, axis) = rank(x, axis)                 | real  | c odd, c > 0     | increasing
rank of even power  | rank(x ^ c, axis) = rank(abs(x), axis)            | real  | c even, c > 0    | of the magnitude
tail of scaled | tail(k * x, axis) = k * tail(x, axis) | real | k without the axis, k >= 0 | factors move out
rank of rank        | rank(rank(x, axis), axis) = rank(x, axis)         | exact |                  | idempotent

# Ranking: what changes no order inside a group

strip exp           | exp(x) = x                                        | rank  |                  | increasing
strip ln            | ln(x) = x                                         | rank  |                  | increasing
strip tanh          | tanh(x) = x                                       | rank  |                  | increasing
strip sigmoid       | sigmoid(x) = x                                    | rank  |                  | increasing
strip power         | x ^ c = x                                         | rank  | x >= 0, c > 0    | increasing
strip inverse power | x ^ c = -x | rank | x >= 0, c < 0 | decreasing where it is defined
strip even power | x ^ c = abs(x) | rank | c even, c > 0 | increasing with the magnitude
strip inverse even power | x ^ c = -abs(x)                              | rank  | c even, c < 0    | decreasing with it
strip odd power     | x ^ c = x                                         | rank  | c odd, c > 0     | increasing
strip signed power  | sign(x) * abs(x) ^ c = x                          | rank  | c > 0            | increasing
strip signed even power | sign(x) * x ^ c = x | rank | c even, c > 0 | increasing
strip addend | k + x = x | rank | k constant in the group | the same for the whole group
strip inside | k * (x + y) + z = k * x + z | rank normal | k constant in the group, y constant in the group | so is k y
strip factor | k * x = x | rank | k constant in the group, k > 0 | the same for the whole group
strip divisor | k * x = x | rank normal | k constant in the group, k >= 0, k a divisor | so it is not zero
strip negative factor | k * x = -x | rank | k constant in the group, k < 0 | turns the order
strip rank | rank(x, axis) = x | rank | the axis covers the group | its order is that of x
strip tail | tail(x, axis) = -x | rank | the axis covers the group, x > 0 | each smaller value adds itself
strip negative tail | tail(x, axis) = x | rank | the axis covers the group, x <= 0 | each smaller value lowers it
product of ln | c * ln(x) + y = x ^ c * exp(y) | rank | (x varies by term), (y varies by term) | exp is increasing
scale terms         | c * x + d * y = x + d / c * y                     | rank normal | c > 0      | a positive factor
scale exponents | x ^ c * y ^ d = x * y ^ (d / c) | rank normal | x >= 0, y >= 0, c > 0 | a positive power
second moment | x * (X.var + X.mean ^ 2) ^ c = x * X.l2 ^ (2 * c) | rank normal |  | ‖x‖² is n times that of n tokens
second moment of outputs | x * (Y.var + Y.mean ^ 2) ^ c = x * Y.l2 ^ (2 * c) | rank normal |  | the same of outputs
monotone sum | x + exp(x) = x | rank normal |  | terms that go up with one of them
monotone product | x * exp(x) = x | rank normal | x >= 0 | factors that go up with one of them, never negative
share with a constant | x * (k + x) ^ -1 = x | rank normal | x >= 0, k constant in the group, k > 0 | 1 − k / (k + x)
monotone minimum    | min(x, tanh(x)) = x                               | rank normal |  | values that rank alike
monotone maximum    | max(x, exp(x)) = x                                | rank normal |  | values that rank alike
"""


def _parse(table: str) -> tuple[Rule, ...]:
    rules = []
    for line in table.splitlines():
        if line and not line.startswith("#"):
            name, law, kind, conditions, reason = (part.strip() for part in line.split(" | ", 4))
            left, right = law.split(" = ")
            what, _, normal = kind.partition(" ")
            rules.append(
                Rule(
                    name,
                    left,
                    right,
                    what,
                    tuple(c for c in (c.strip() for c in conditions.split(",")) if c),
                    reason,
                    normal == "normal",
                )
            )
    return tuple(rules)


RULES: tuple[Rule, ...] = _parse(TABLE)

BY_NAME: dict[str, Rule] = {rule.name: rule for rule in RULES}

MATCHED: tuple[Rule, ...] = tuple(rule for rule in RULES if rule.kind != "rank" and not rule.normal)
"""The rules of canonical forms that are applied by matching."""


@cache
def sides(rule: Rule) -> tuple[Expression, Expression]:
    """Both sides of a rule as syntax trees."""
    file, problems = parse(f"let left = {rule.left}\nlet right = {rule.right}")
    left, right = file.statements
    assert not problems  # noqa: S101
    assert isinstance(left, Let)  # noqa: S101
    assert isinstance(right, Let)  # noqa: S101
    return left.value, right.value
