// The reference as a histogram: where the training rows were, and where a value stands among them.

import {s} from "./dom.js";

/**
 * The bins of a feature as they are drawn: [{low, high, count}], and how many training rows there were.
 *
 * The outer bins of the manifest are open; they are drawn up to 2.5 standard deviations, within the plausible range.
 */
export function binsOf(card, index) {
  const feature = card.features[index];
  const {edges, counts, nulls} = card.reference.features[index];
  const rows = counts.reduce((sum, n) => sum + n, 0);
  if (feature.dtype === "category") {
    return {rows, nulls, bins: counts.map((n, i) => ({low: i, high: i + 1, count: n}))};
  }
  if (edges.length === 0) return {rows, nulls, bins: [{low: feature.plausible[0], high: feature.plausible[1], count: rows}]};
  const [low, high] = spread(card, index);
  const first = edges[0], last = edges[edges.length - 1];
  const width = (last - first) / Math.max(1, edges.length) || 1;
  const all = [Math.min(low, first - width / 2), ...edges, Math.max(high, last + width / 2)];
  return {rows, nulls, bins: counts.map((n, i) => ({low: all[i], high: all[i + 1], count: n}))};
}

/** Mean ± 2.5 standard deviations over all classes, within the plausible range. */
function spread(card, index) {
  const {columns, class_means: means, class_prior: prior, covariance} = card.reference;
  const column = columns.indexOf(index);
  const mean = means.reduce((sum, row, k) => sum + prior[k] * row[column], 0);
  const between = means.reduce((sum, row, k) => sum + prior[k] * (row[column] - mean) ** 2, 0);
  const deviation = Math.sqrt(covariance[column][column] + between);
  const [low, high] = card.features[index].plausible;
  return [Math.max(low, mean - 2.5 * deviation), Math.min(high, mean + 2.5 * deviation)];
}

/** The share of training rows below a value, 0..1, straight within a bin. */
export function shareBelow({bins, rows}, value) {
  if (!rows) return 0;
  let below = 0;
  for (const bin of bins) {
    const inside = (value - bin.low) / (bin.high - bin.low);
    below += bin.count * Math.min(1, Math.max(0, inside));
  }
  return below / rows;
}

/** Draw bins over an axis from `low` to `high`; returns {node, mark(value)}, which lights the bin of a value. */
export function histogram({bins}, low, high) {
  const heights = bins.map((bin) => bin.count / Math.max(bin.high - bin.low, 1e-12));
  const tallest = Math.max(...heights, 1e-12);
  const x = (value) => (1000 * (value - low)) / (high - low);
  const bars = bins.map((bin, i) => {
    const height = Math.max(2, (96 * heights[i]) / tallest);
    const left = x(bin.low), width = Math.max(1, x(bin.high) - left - 3);
    return s("rect", {x: left, y: 100 - height, width, height, class: "bin"});
  });
  const node = s("svg", {viewBox: "0 0 1000 100", preserveAspectRatio: "none", class: "histogram", "aria-hidden": "true"}, bars);
  const mark = (value) => {
    const last = bins.length - 1;
    bins.forEach((bin, i) => {
      const isIn = value !== null && (value >= bin.low || i === 0) && (value < bin.high || i === last);
      bars[i].classList.toggle("here", isIn);
    });
  };
  return {node, mark};
}
