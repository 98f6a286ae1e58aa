// "The model": what it is for, how good it is, and where it comes from.

import {h, refill, s, table} from "./dom.js";
import {count, interval, level, number, percent, words} from "./numbers.js";

const MEASURES = [
  ["accuracy", "Accuracy", percent, "more is better"],
  ["macro_f1", "Macro F1", percent, "more is better"],
  ["log_loss", "Log loss", number, "less is better"],
  ["calibration_error", "Calibration error", percent, "less is better"],
];

/** Build the part. */
export function buildCard(panel, card) {
  refill(panel,
    h("div", {class: "card"}, h("h2", {}, "What it is for"), h("p", {}, card.intended_use),
      h("h3", {}, "Known limits"), h("ul", {class: "prose"}, card.limits.map((limit) => h("li", {}, limit)))),
    h("div", {class: "card"}, h("h2", {}, "How good it is"), h("p", {class: "small"}, `${card.quality.method}. ${count(card.quality.rows)} rows, ${count(card.quality.dropped_rows)} left out.`),
      quality(card), h("div", {class: "pair"}, h("div", {class: "stack"}, confusion(card), coverage(card)), calibration(card))),
    h("div", {class: "card"}, h("h2", {}, "What it takes"), features(card)),
    h("div", {class: "card"}, h("h2", {}, "Where it comes from"), origin(card)));
}

function quality(card) {
  const {model, linear} = card.quality;
  const rows = MEASURES.map(([key, name, write, better]) => [
    h("span", {}, name, h("span", {class: "small"}, ` ${better}`)),
    interval(model[key], write), interval(linear[key], write), whisker(model[key], linear[key]),
  ]);
  return table("Quality with 95 % intervals", ["measure", "this model", "a linear model", "side by side"], rows);
}

/** Both estimates with their intervals on one axis; the numbers stand beside it. */
function whisker(ours, linear) {
  const low = Math.min(ours.low, linear.low), span = Math.max(ours.high, linear.high) - low || 1;
  const x = (value) => 6 + (108 * (value - low)) / span;
  const one = (estimate, y, kind) => [
    s("line", {x1: x(estimate.low), x2: x(estimate.high), y1: y, y2: y, class: kind}),
    s("circle", {cx: x(estimate.value), cy: y, r: 4, class: kind}),
  ];
  return s("svg", {viewBox: "0 0 120 28", class: "whisker", "aria-hidden": "true"}, one(ours, 8, "ours"), one(linear, 20, "theirs"));
}

function confusion(card) {
  const {confusion: counts} = card.quality;
  const rows = counts.map((row, i) => {
    const sum = row.reduce((all, n) => all + n, 0) || 1;
    const cells = row.map((n, j) => h("span", {class: i === j ? "cell right" : n ? "cell wrong" : "cell", style: {"--share": `${Math.round((100 * n) / sum)}%`}}, count(n)));
    return [card.classes[i], ...cells];
  });
  return table("Confusion: rows are the truth, columns the answer", ["truth", ...card.classes], rows, {class: "confusion"});
}

/** Confidence against how often it was right. */
function calibration(card) {
  const bins = card.quality.calibration.filter((bin) => bin.count > 0);
  const x = (value) => 34 + 200 * value, y = (value) => 214 - 200 * value;
  const most = Math.max(...bins.map((bin) => bin.count), 1);
  const ticks = [0, 0.5, 1].flatMap((tick) => [
    s("text", {x: x(tick), y: 230, "text-anchor": "middle"}, `${tick * 100} %`),
    s("text", {x: 29, y: y(tick) + 4, "text-anchor": "end"}, `${tick * 100}`),
  ]);
  const points = bins.map((bin) => s("circle", {
    cx: x(bin.confidence), cy: y(bin.accuracy), r: 3 + 6 * Math.sqrt(bin.count / most), class: "ours",
  }));
  const path = bins.map((bin, i) => `${i ? "L" : "M"}${x(bin.confidence).toFixed(1)} ${y(bin.accuracy).toFixed(1)}`).join(" ");
  const spoken = bins.map((bin) => `confidence ${percent(bin.confidence)}: right in ${percent(bin.accuracy)} of ${bin.count}`).join("; ");
  return h("figure", {}, h("figcaption", {}, "Calibration: how sure it was, and how often it was right"),
    s("svg", {viewBox: "0 0 262 238", class: "calibration", role: "img", "aria-label": spoken},
      s("rect", {x: 34, y: 14, width: 200, height: 200, class: "frame"}),
      s("line", {x1: x(0), y1: y(0), x2: x(1), y2: y(1), class: "diagonal"}),
      s("path", {d: path, class: "curve"}), points, ticks));
}

function coverage(card) {
  const rows = card.quality.coverage.map((one) => [
    level(one.level), interval(one.measured, percent), number(one.mean_size),
    one.level === card.coverage ? "here" : "",
  ]);
  return table("Prediction sets", ["promised", "measured", "classes in a set", "used"], rows);
}

function features(card) {
  const range = ([low, high]) => `${number(low)} to ${number(high)}`;
  const rows = card.features.map((feature) => [
    h("span", {}, h("code", {}, feature.name), h("span", {class: "small"}, ` ${words(feature)}`)),
    feature.dtype === "category" ? "text" : feature.unit || "–",
    feature.dtype === "category" ? feature.values.join(", ") : range(feature.plausible),
    feature.dtype === "category" ? "–" : range(feature.hard),
    feature.nullable ? "yes" : "no",
    (feature.confused_units ?? []).map((unit) => unit.symbol).join(", ") || "–",
  ]);
  return table("Features", ["feature", "unit", "plausible", "taken", "may be unknown", "units told apart"], rows);
}

function origin(card) {
  const facts = [
    ["Name and version", `${card.name} ${card.version}, serial ${card.serial}`],
    ["Digest", card.digest],
    ["Made", card.created],
    ["Expires", card.expires ?? "never"],
    ["Learned by", `${card.algorithm.name}, served by ${card.engine}`],
    ["Data", `${card.data_source} (${card.data_licence})`],
    ["Source", card.source_commit],
    ["Proven equal", card.parity ? `${count(card.parity.rows)} rows, ${count(card.parity.class_differences)} classes differ` : "served by its own library"],
    ["Known answers", `${count(card.golden.count)} golden rows must be right before the service says it is ready`],
  ];
  return h("dl", {class: "facts"}, facts.flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));
}
