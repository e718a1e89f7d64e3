// Masks: which weights are kept. Scores are matrices { rows, columns, data } of finite numbers; a mask is a Uint8Array
// in the order of `data`, 1 where a weight is kept.

/** ⌊sparsity · size + 1e-9⌋ with the sparsity as it is written: 0.29 of 100 are 29, not 28.999… */
export function prunedCount(size, sparsity) {
  const [mantissa, exponent = "0"] = String(sparsity).split("e");
  const [whole, fraction = ""] = mantissa.split(".");
  const decimals = BigInt(fraction.length - Number(exponent));
  const unit = 10n ** (decimals > 9n ? decimals : 9n);
  const share = BigInt(whole + fraction) * (unit / 10n ** decimals);
  return Number((share * BigInt(size) + unit / 10n ** 9n) / unit);
}

/** The mask of one layer: `per` is "row", "col" or, for all of it, "layer". */
export function keepMask(scores, per, sparsity) {
  const { rows, columns, data } = scores;
  const mask = new Uint8Array(data.length).fill(1);
  if (per === "row") {
    for (let i = 0; i < rows; i++) prune(mask, data, span(i * columns, columns, 1), prunedCount(columns, sparsity));
  } else if (per === "col") {
    for (let j = 0; j < columns; j++) prune(mask, data, span(j, rows, columns), prunedCount(rows, sparsity));
  } else {
    prune(mask, data, span(0, data.length, 1), prunedCount(data.length, sparsity));
  }
  return mask;
}

/** The masks of layers that are one group, as those of a block or a model. */
export function keepAcross(layers, sparsity) {
  const data = Float64Array.from(layers.flatMap((scores) => Array.from(scores.data)));
  const mask = keepMask({ rows: 1, columns: data.length, data }, "layer", sparsity);
  let start = 0;
  return layers.map((scores) => mask.slice(start, (start += scores.data.length)));
}

/** The mask of a pattern N:M: of every m consecutive inputs the n highest scores; `columns` is a multiple of m. */
export function keepPattern(scores, n, m) {
  const { columns, data } = scores;
  if (columns % m !== 0) throw new Error(`the pattern ${n}:${m} needs a multiple of ${m} inputs, not ${columns}`);
  const mask = new Uint8Array(data.length).fill(1);
  for (let start = 0; start < data.length; start += m) prune(mask, data, span(start, m, 1), m - n);
  return mask;
}

function span(start, length, step) {
  return Array.from({ length }, (_, k) => start + k * step);
}

/** Clear the mask at the `count` places of the lowest scores; of equal scores the earlier place goes first. */
function prune(mask, data, places, count) {
  const order = places.sort((a, b) => (data[a] < data[b] ? -1 : data[a] > data[b] ? 1 : a - b));
  for (const place of order.slice(0, count)) mask[place] = 0;
}
