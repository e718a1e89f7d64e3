// Hold this implementation against the conformance suite. Reads a JSON list of cases from standard input, as
// `pzc conformance --export` prints them: those of conformance/*.json, each metric's pzm-ir/1 document as `ir`.
//
//   pzc conformance --export | node conformance.js
//
// Prints what failed and how many passed; with --json a list with null, what failed, or what is skipped for each case.

import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { armOf, evaluate } from "./evaluate.js";
import { InvalidDocument, parse, stringify } from "./ir.js";
import { keepAcross, keepMask, keepPattern } from "./masks.js";

const RELATIVE = 1e-12;
const ABSOLUTE = 1e-12;

/** What is wrong with one case: null where nothing is. */
function failure(test) {
  if (test.document !== undefined) return failureOfDocument(test.document, test.expect);
  const document = parse(test.ir);
  if (stringify(document) !== test.ir) return "the document is written in another way than it was read";
  if (hashOf(document) !== test.expect.ir_sha256) return "the hash of the document differs";
  const layers = test.layers ?? (test.inputs ? [{ name: test.layer ?? "", inputs: test.inputs }] : []);
  const scores = layers.map(({ name, inputs }) => evaluate(document, name, numbers(inputs), shapeOf(inputs)));
  const wanted = test.layers ? test.expect.scores : [test.expect.scores];
  for (let i = 0; i < scores.length; i++) {
    if (wanted[i] && !close(scores[i], numbers(wanted[i]))) return `scores ${show(scores[i])}, not ${JSON.stringify(wanted[i])}`;
  }
  const arms = layers.map(({ name }) => armOf(document, name));
  for (const mask of test.expect.masks ?? []) {
    const found = JSON.stringify(masksOf(scores, arms, mask).map((kept) => Array.from(kept)));
    const kept = (test.layers ? mask.kept : [mask.kept]).map((rows) => rows.flat());
    if (found !== JSON.stringify(kept)) return `mask ${found}, not ${JSON.stringify(kept)}`;
  }
  return null;
}

function failureOfDocument(text, expect) {
  let document;
  try {
    document = parse(text);
  } catch (error) {
    if (!(error instanceof InvalidDocument)) throw error;
    return expect.valid ? `the document is refused: ${error.message}` : null;
  }
  if (!expect.valid) return "the document is taken, but should not be";
  return hashOf(document) === expect.ir_sha256 ? null : "the hash of the document differs";
}

function hashOf(document) {
  return createHash("sha256").update(stringify(document)).digest("hex");
}

/** The masks of layers: only those that one arm scores are compared, by its own group where the case names none. */
function masksOf(scores, arms, { pattern, per, sparsity }) {
  const masks = [];
  for (const arm of new Set(arms)) {
    const places = arms.flatMap((other, i) => (other === arm ? [i] : []));
    const found = select(places.map((i) => scores[i]), pattern, per ?? arm.per, sparsity);
    places.forEach((i, k) => { masks[i] = found[k]; });
  }
  return masks;
}

function select(scores, pattern, per, sparsity) {
  if (pattern) {
    const [n, m] = pattern.split(":").map(Number);
    return scores.map((layer) => keepPattern(layer, n, m));
  }
  if (per === "block" || per === "model") return keepAcross(scores, sparsity);
  return scores.map((layer) => keepMask(layer, per, sparsity));
}

/** Nested lists with "nan", "inf" and "-inf" as numbers. */
function numbers(value) {
  if (Array.isArray(value)) return value.map(numbers);
  if (typeof value === "string") return { nan: NaN, inf: Infinity, "-inf": -Infinity }[value];
  if (typeof value === "object") return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, numbers(v)]));
  return value;
}

/** Rows and columns of the layer: every case gives a matrix. */
function shapeOf(inputs) {
  const matrix = Object.values(inputs).find((value) => Array.isArray(value) && Array.isArray(value[0]));
  return { rows: matrix.length, columns: matrix[0].length };
}

function close({ rows, data }, wanted) {
  const flat = wanted.flat();
  const near = (x, y) => Object.is(x, y) || x === y || Math.abs(x - y) <= ABSOLUTE + RELATIVE * Math.abs(y);
  return wanted.length === rows && flat.length === data.length && flat.every((y, i) => near(data[i], y));
}

function show({ data }) {
  return `[${Array.from(data).join(", ")}]`;
}

const cases = JSON.parse(readFileSync(0, "utf8"));
const results = cases.map((test) => {
  if (test.ir === undefined && test.document === undefined) return { skipped: "about source texts" };
  try {
    return failure(test);
  } catch (error) {
    return String(error);
  }
});
if (process.argv.includes("--json")) {
  console.log(JSON.stringify(results));
} else {
  results.forEach((result, i) => { if (typeof result === "string") console.log(`${cases[i].description}: ${result}`); });
  const failed = results.filter((result) => typeof result === "string").length;
  const passed = results.filter((result) => result === null).length;
  console.log(`${passed} passed, ${failed} failed, ${results.length - passed - failed} skipped`);
  process.exitCode = failed > 0 ? 1 : 0;
}
