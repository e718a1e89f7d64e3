// Documents of the format pzm-ir/1: read them, check them, write them. The format is described in docs/pzm-ir.md.

/** A text or value that is no pzm-ir/1 document. */
export class InvalidDocument extends Error {}

const BOTH = ["out", "in"];

/** The axes of every leaf. */
export const LEAVES = {
  W: BOTH, noise: BOTH, "G.l2": BOTH, "G.l1": BOTH, "G.mean": BOTH,
  "X.l2": ["in"], "X.l1": ["in"], "X.mean": ["in"], "X.var": ["in"], "X.max": ["in"],
  "Y.l2": ["out"], "Y.l1": ["out"], "Y.mean": ["out"], "Y.var": ["out"], "Y.max": ["out"],
  "H.diag": ["in"], "H.inv_diag": ["in"], "H.chol_diag": ["in"],
  out_features: [], in_features: [], depth: [], windows: [],
};

/** Names that no metric has: words of the language, leaves and their families, functions. */
const TAKEN = new Set([
  ..."pzm use let fn param metric space per else in out".split(" "),
  ...Object.keys(LEAVES), ..."X Y G H".split(" "),
  ..."abs clamp exp ln max mean median min norm quantile rank sigmoid sign sqr sqrt std sum tail tanh var".split(" "),
]);

export const GROUPS = ["row", "col", "layer", "block", "model"];

const LARGEST = 3.4028234663852886e38; // of float32
const SMALLEST = 1.401298464324817e-45;

/** How many arguments an operation takes, what becomes of the axes, and the range of a last argument that must be a number. */
const OPERATIONS = new Map([
  ...["neg", "abs", "sqr", "sqrt", "exp", "ln", "tanh", "sigmoid", "sign"].map((op) => [op, { arity: 1, axes: "all" }]),
  ...["add", "sub", "mul", "div", "pow", "min", "max"].map((op) => [op, { arity: 2, axes: "all" }]),
  ["clamp", { arity: 3, axes: "all" }],
  ...["sum", "mean", "std", "var", "amin", "amax", "median"].map((op) => [op, { arity: 1, axes: "reduced" }]),
  ["norm", { arity: 2, axes: "reduced", range: [Number.MIN_VALUE, LARGEST] }],
  ["quantile", { arity: 2, axes: "reduced", range: [0, 1] }],
  ...["rank", "tail"].map((op) => [op, { arity: 1, axes: "kept" }]),
]);

const MOST_CHARACTERS = 10_000_000;
const MOST_PARTS = 2000;
const MOST_LEVELS = 200;

/** Characters of a text: code points, of which UTF-16 writes some with two units. */
function characters(text) {
  let count = 0;
  for (const _ of text) count += 1;
  return count;
}

/** The document of a text. Throws InvalidDocument where it is none. */
export function parse(text) {
  demand(text.length <= MOST_CHARACTERS || characters(text) <= MOST_CHARACTERS, "the document is too long");
  let document;
  try {
    document = JSON.parse(text);
  } catch (error) {
    throw new InvalidDocument(`this is not JSON: ${error.message}`);
  }
  check(document);
  demand(keysWritten(text) === keysRead(document), "a key is there twice");
  return document;
}

/** The one text of a document: canonical JSON (RFC 8785) and a line feed. */
export function stringify(document) {
  return canonical(document) + "\n";
}

function canonical(value) {
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  if (value === null || typeof value !== "object") return JSON.stringify(value);
  const entries = Object.keys(value).sort().map((key) => `${JSON.stringify(key)}:${canonical(value[key])}`);
  return `{${entries.join(",")}}`;
}

/** Throw InvalidDocument unless the value is a document. */
export function check(document) {
  demandKeys(document, ["arms", "format", "leaves", "name", "nodes"], "the document");
  demand(document.format === "pzm-ir/1", "the format is not pzm-ir/1");
  demand(typeof document.name === "string" && /^[A-Za-z_][A-Za-z0-9_]*$/.test(document.name), "the name is none");
  demand(!TAKEN.has(document.name), "the name is one that no source can say");
  demandList(document.nodes, "nodes");
  demandList(document.arms, "arms");
  checkNodes(document.nodes);
  document.arms.forEach((arm, i) => checkArm(arm, i === document.arms.length - 1, document.nodes.length));
  checkOrder(document);
  const read = document.nodes.filter((node) => node.op === "leaf").map((node) => node.name).sort();
  demand(Array.isArray(document.leaves) && sameList(document.leaves, read), "the leaves are not those that are read");
}

function checkNodes(nodes) {
  const sizes = []; // parts and levels of each node when it is written out
  nodes.forEach((node, i) => {
    demand(node !== null && typeof node === "object", `node ${i} is no object`);
    const args = node.op === "number" || node.op === "leaf" ? [] : checkArguments(node, i, nodes);
    demand(Array.isArray(node.axes) && sameList(node.axes, axesOf(node, i, nodes)), `node ${i} has other axes`);
    const parts = args.reduce((sum, place) => sum + sizes[place].parts, 1);
    const levels = 1 + Math.max(0, ...args.map((place) => sizes[place].levels));
    demand(parts <= MOST_PARTS && levels <= MOST_LEVELS, `node ${i} is too large when it is written out`);
    sizes.push({ parts, levels });
  });
}

function checkArguments(node, i, nodes) {
  const operation = OPERATIONS.get(node.op);
  demand(operation, `node ${i} has no operation that is known`);
  const along = operation.axes !== "all";
  demandKeys(node, along && "axis" in node ? ["args", "axes", "axis", "op"] : ["args", "axes", "op"], `node ${i}`);
  demand(Array.isArray(node.args) && node.args.length === operation.arity, `node ${i} takes ${operation.arity}`);
  for (const place of node.args) demandPlace(place, i, `an argument of node ${i}`);
  const first = nodes[node.args[0]];
  demand(!along || first.axes.length > 0, `node ${i} works along an axis of a value that has none`);
  const named = first.axes.length === 2 ? first.axes : [];
  demand(!("axis" in node) || named.includes(node.axis), `node ${i} names an axis, but its argument has not both`);
  if (operation.range) {
    const last = nodes[node.args[1]];
    const [low, high] = operation.range;
    demand(last.op === "number" && last.value >= low && last.value <= high, `node ${i} needs another number`);
  }
  return node.args;
}

function axesOf(node, i, nodes) {
  if (node.op === "number") {
    demandKeys(node, ["axes", "op", "value"], `node ${i}`);
    const size = Math.abs(node.value);
    const held = typeof node.value === "number" && size <= LARGEST && (size === 0 || size > SMALLEST / 2);
    demand(held, `node ${i} is not a number that float32 holds`);
    return [];
  }
  if (node.op === "leaf") {
    demandKeys(node, ["axes", "name", "op"], `node ${i}`);
    demand(typeof node.name === "string" && Object.hasOwn(LEAVES, node.name), `node ${i} is no leaf that is known`);
    return LEAVES[node.name];
  }
  const first = nodes[node.args[0]].axes;
  switch (OPERATIONS.get(node.op).axes) {
    case "all":
      return BOTH.filter((axis) => node.args.some((place) => nodes[place].axes.includes(axis)));
    case "reduced":
      return node.axis === undefined ? [] : first.filter((axis) => axis !== node.axis);
    default:
      return first;
  }
}

function checkArm(arm, last, length) {
  demandKeys(arm, ["layers", "per", "score"], "an arm");
  const layers = arm.layers;
  const patterns = Array.isArray(layers) && layers.every((p) => typeof p === "string" && p && !/\p{Cs}/u.test(p));
  demand(patterns, "the layers of an arm are no list of patterns");
  const said = layers.every((p) => !/["#\r\n]/.test(p) && !/^[ \t\f]*$/.test(p));
  demand(said, "an arm has a pattern that no source can say");
  demand((layers.length === 0) === last, "every arm but the last names layers");
  demand(GROUPS.includes(arm.per), "an arm has no comparison group that is known");
  demandPlace(arm.score, length, "the score of an arm");
}

/** Every node is there once, is used, and stands where a depth-first walk from the scores meets it. */
function checkOrder({ nodes, arms }) {
  const order = "the nodes are not each there once, used, and in the order of a depth-first walk";
  const alike = new Set(nodes.map(({ op, args, axis, name, value }) => JSON.stringify([op, args, axis, name, value])));
  demand(alike.size === nodes.length, order);
  const seen = new Array(nodes.length).fill(false);
  let next = 0;
  for (const { score } of arms) {
    const stack = seen[score] ? [] : [{ place: score, argument: 0 }];
    seen[score] = true;
    while (stack.length > 0) {
      const top = stack[stack.length - 1];
      const args = nodes[top.place].args ?? [];
      if (top.argument < args.length) {
        const place = args[top.argument++];
        if (!seen[place]) stack.push({ place, argument: 0 });
        seen[place] = true;
      } else {
        demand(top.place === next++, order);
        stack.pop();
      }
    }
  }
  demand(next === nodes.length, order);
}

// JSON.parse keeps the last of two equal keys; the text tells how many there were.

function keysWritten(text) {
  let keys = 0;
  for (const match of text.matchAll(/"[^"\\]*(?:\\.[^"\\]*)*"(\s*:)?/gs)) keys += match[1] === undefined ? 0 : 1;
  return keys;
}

function keysRead(document) {
  const objects = [document, ...document.nodes, ...document.arms];
  return objects.reduce((sum, object) => sum + Object.keys(object).length, 0);
}

function demand(condition, message) {
  if (!condition) throw new InvalidDocument(message);
}

function demandKeys(value, keys, what) {
  const object = value !== null && typeof value === "object" && !Array.isArray(value);
  demand(object && sameList(Object.keys(value).sort(), keys), `${what} does not have the keys ${keys.join(", ")}`);
}

function demandList(value, what) {
  demand(Array.isArray(value) && value.length > 0, `${what} is not a list with an entry`);
}

function demandPlace(place, below, what) {
  demand(Number.isInteger(place) && place >= 0 && place < below, `${what} is not the place of an earlier node`);
}

function sameList(a, b) {
  return a.length === b.length && a.every((entry, i) => entry === b[i]);
}
