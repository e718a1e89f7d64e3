// Scores of a layer's weights: a pzm-ir/1 document evaluated in float64.
//
// Every value is a matrix { rows, columns, data } whose length is 1 along an axis that it lacks, so that values combine
// by the names of their axes. `data` goes row after row.

import { LEAVES } from "./ir.js";

/**
 * The scores of one layer, as a matrix of `rows` (out) and `columns` (in).
 *
 * `document` is what ir.js parses, `layer` the layer's dotted name in the model ("" where it doesn't matter), `leaves`
 * maps full names such as "X.l2" to nested arrays or numbers. Throws where a leaf is missing or has the wrong size.
 */
export function evaluate(document, layer, leaves, { rows, columns }) {
  const { score } = armOf(document, layer);
  const needed = new Set([score]);
  for (let place = score; place >= 0; place--) {
    if (needed.has(place)) for (const argument of document.nodes[place].args ?? []) needed.add(argument);
  }
  const values = [];
  document.nodes.forEach((node, place) => {
    if (!needed.has(place)) return;
    if (node.op === "number") values[place] = { rows: 1, columns: 1, data: Float64Array.of(node.value) };
    else if (node.op === "leaf") values[place] = leafOf(node.name, leaves, rows, columns);
    else values[place] = apply(node, node.args.map((argument) => values[argument]));
  });
  return elementwise((x) => x, [values[score]], rows, columns);
}

/** The arm of a document that scores a layer: the first of whose patterns one matches. */
export function armOf(document, layer) {
  const parts = layer.split(".");
  const tails = parts.map((_, i) => Array.from(parts.slice(i).join(".")));
  const matches = (pattern) => tails.some((tail) => matchesGlob(tail, Array.from(pattern)));
  return document.arms.find(({ layers }) => layers.length === 0 || layers.some(matches));
}

/** Whether a pattern with `*` and `?` takes the whole of a text; both are arrays of characters. */
function matchesGlob(text, pattern) {
  let t = 0;
  let p = 0;
  let star = -1; // the last star, and how far the text is taken by it
  let taken = 0;
  while (t < text.length) {
    if (pattern[p] === "*") {
      star = p++;
      taken = t;
    } else if (p < pattern.length && (pattern[p] === "?" || pattern[p] === text[t])) {
      p++;
      t++;
    } else if (star >= 0) {
      p = star + 1;
      t = ++taken;
    } else {
      return false;
    }
  }
  while (pattern[p] === "*") p++;
  return p === pattern.length;
}

// Values

/** Whether numbers are nested in lists of these lengths. */
function hasSizes(value, sizes) {
  if (sizes.length === 0) return typeof value === "number";
  const [size, ...rest] = sizes;
  const list = Array.isArray(value) || value instanceof Float64Array;
  return list && value.length === size && value.every((item) => hasSizes(item, rest));
}

function leafOf(name, leaves, layerRows, layerColumns) {
  const rows = LEAVES[name].includes("out") ? layerRows : 1;
  const columns = LEAVES[name].includes("in") ? layerColumns : 1;
  const given = leaves[name];
  if (given === undefined) throw new Error(`the metric reads ${name}, which is not given`);
  const sizes = LEAVES[name].map((axis) => (axis === "out" ? rows : columns));
  if (!hasSizes(given, sizes)) throw new Error(`${name} does not fit a layer of ${layerRows} × ${layerColumns}`);
  const data = Float64Array.from([given].flat(2));
  return { rows, columns, data };
}

/** A function of each position, where values of one row or column are repeated. */
function elementwise(f, args, rows, columns) {
  const data = new Float64Array(rows * columns);
  for (let i = 0; i < rows; i++) {
    for (let j = 0; j < columns; j++) {
      data[i * columns + j] = f(...args.map((x) => x.data[(x.rows > 1 ? i : 0) * x.columns + (x.columns > 1 ? j : 0)]));
    }
  }
  return { rows, columns, data };
}

/** The places of `data` that belong together along an axis, in order; all of them without an axis. */
function lines({ rows, columns }, axis) {
  const range = (n) => Array.from({ length: n }, (_, i) => i);
  if (axis === "in") return range(rows).map((i) => range(columns).map((j) => i * columns + j));
  if (axis === "out") return range(columns).map((j) => range(rows).map((i) => i * columns + j));
  return [range(rows * columns)];
}

function apply(node, args) {
  if (node.op in ELEMENTWISE) {
    const rows = Math.max(...args.map((x) => x.rows));
    const columns = Math.max(...args.map((x) => x.columns));
    return elementwise(ELEMENTWISE[node.op], args, rows, columns);
  }
  const [x, parameter] = args;
  if (node.op in KEEPING) {
    const data = new Float64Array(x.data.length);
    for (const line of lines(x, node.axis)) {
      const values = KEEPING[node.op](line.map((place) => x.data[place]));
      line.forEach((place, k) => { data[place] = values[k]; });
    }
    return { ...x, data };
  }
  const reduce = (line) => REDUCTIONS[node.op](line.map((place) => x.data[place]), parameter?.data[0]);
  const data = Float64Array.from(lines(x, node.axis), reduce);
  return { rows: node.axis === "in" ? x.rows : 1, columns: node.axis === "out" ? x.columns : 1, data };
}

// Operations

const ELEMENTWISE = {
  neg: (x) => -x,
  add: (x, y) => x + y,
  sub: (x, y) => x - y,
  mul: (x, y) => x * y,
  div: (x, y) => x / y,
  pow: power,
  abs: Math.abs,
  sqr: (x) => x * x,
  sqrt: Math.sqrt,
  exp: Math.exp,
  ln: Math.log,
  tanh: Math.tanh,
  sigmoid: (x) => (x < 0 ? Math.exp(x) / (1 + Math.exp(x)) : 1 / (1 + Math.exp(-x))),
  sign: Math.sign,
  min: (x, y) => Math.min(x, y),
  max: (x, y) => Math.max(x, y),
  clamp: (x, low, high) => Math.min(Math.max(x, low), high),
};

/** x to the y as in IEEE 754; ECMAScript differs for a base of 1 or −1. */
function power(x, y) {
  if (x === 1 || (x === -1 && Math.abs(y) === Infinity)) return 1;
  return x ** y;
}

const REDUCTIONS = {
  sum,
  mean,
  var: variance,
  std: (line) => Math.sqrt(variance(line)),
  amin: (line) => line.reduce((x, y) => Math.min(x, y)),
  amax: (line) => line.reduce((x, y) => Math.max(x, y)),
  norm: (line, p) => sum(line.map((x) => power(Math.abs(x), p))) ** (1 / p),
  median: (line) => quantile(line, 0.5),
  quantile,
};

/** A value for each value of a line. */
const KEEPING = { rank, tail };

function sum(line) {
  return line.reduce((total, x) => total + x, 0);
}

function mean(line) {
  return sum(line) / line.length;
}

function variance(line) {
  const centre = mean(line);
  return sum(line.map((x) => (x - centre) ** 2)) / (line.length - 1);
}

function quantile(line, q) {
  if (line.some(Number.isNaN)) return NaN;
  const sorted = Float64Array.from(line).sort();
  const at = q * (line.length - 1);
  const below = Math.floor(at);
  const part = at - below;
  if (part === 0 || sorted[below] === sorted[below + 1]) return sorted[below];
  return (1 - part) * sorted[below] + part * sorted[below + 1];
}

/** For each value, how many are smaller. */
function rank(line) {
  if (line.some(Number.isNaN)) return line.map(() => NaN);
  const sorted = Float64Array.from(line).sort();
  const smaller = new Map(); // a Map takes both zeros as one key
  sorted.forEach((x, i) => { if (!smaller.has(x)) smaller.set(x, i); });
  return line.map((x) => smaller.get(x));
}

/** For each value, the sum of those that are not smaller, from the largest on. */
function tail(line) {
  if (line.some(Number.isNaN)) return line.map(() => NaN);
  const sums = new Map(); // of equal values the last sum stays, which has all of them
  let total = 0;
  for (const x of Float64Array.from(line).sort().reverse()) sums.set(x, (total += x));
  return line.map((x) => sums.get(x));
}
