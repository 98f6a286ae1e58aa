// "Its traffic": what this instance of the service has seen, against the reference.

import {call, sentence} from "./api.js";
import {h, refill} from "./dom.js";
import {count, number, percent, words} from "./numbers.js";

const EVERY_MS = 5000;
const KINDS = {label: "Answers", confidence: "Confidence", novelty: "Novelty"};

/** Build the part; returns {open(), close()}: it asks only while it is looked at. */
export function buildDrift(panel, card) {
  const body = h("div", {});
  const features = new Map(card.features.map((feature) => [feature.name, feature]));
  refill(panel, h("div", {class: "card"}, h("h2", {}, "Traffic against the training data"),
    h("p", {class: "small"}, "Counted by this one instance since it started; the alerts add up over all instances. With enough rows, a PSI below 0.1 is ordinary and one above 0.2 worth a look."),
    h("p", {class: "legend small"}, h("span", {class: "swatch was"}), "training data", h("span", {class: "swatch now"}), "what came"), body));
  let timer = 0;

  async function ask() {
    const answer = await call("model/drift");
    refill(body, answer.status === 200 ? report(answer.body, features) : absent(answer));
  }

  return {
    open: () => { ask(); clearInterval(timer); timer = setInterval(ask, EVERY_MS); },
    close: () => clearInterval(timer),
  };
}

function absent(answer) {
  const text = answer.status === 404
    ? "This service shows no drift here: it is not measured, or moved to the operators' port."
    : sentence(answer);
  return h("p", {class: "notice"}, text);
}

function report({rows, verdict, variables}, features) {
  if (!rows) return h("p", {class: "notice"}, "No rows yet. Ask for some predictions, and look again: it is counted as they come.");
  return [
    h("p", {class: `tally ${verdict}`}, h("strong", {}, `${count(rows)} ${rows === 1 ? "row" : "rows"}: ${said(verdict)}`)),
    h("div", {class: "variables"}, drifting(variables).map((one) => variable(one, features.get(one.name)))),
  ];
}

/** Those that drift come first. */
const drifting = (variables) => [...variables].sort((a, b) => (b.verdict === "drifting") - (a.verdict === "drifting"));

const VERDICTS = {steady: "nothing unusual", drifting: "unlike the training data", too_few: "too few to say"};

const said = (verdict) => VERDICTS[verdict] ?? String(verdict).replaceAll("_", " ");

/** What moves, and which way, as the alerts would say it. */
function found({verdict, psi, shift, rows, minimum_rows: minimum}) {
  if (verdict === "too_few") return `${count(rows)} of the ${count(minimum)} rows it takes to say`;
  const moved = (shift ?? null) === null || verdict !== "drifting" ? "" : `, ${way(shift.moved)}`;
  return `${said(verdict)}${moved}${(psi ?? null) === null ? "" : ` (PSI ${psi.toFixed(2)})`}`;
}

/** How the mean moved, in standard deviations; less than a tenth is no way to speak of. */
function way(moved) {
  if (Math.abs(moved) < 0.1) return "about the same on average, but spread otherwise";
  return `on average ${moved < 0 ? "lower" : "higher"} by ${number(Number(Math.abs(moved).toFixed(1)))} standard deviations`;
}

function variable(one, feature) {
  const {kind, name, verdict, bins} = one;
  const most = Math.max(...bins.flatMap((bin) => [share(bins, bin, "live"), share(bins, bin, "reference")]), 1e-9);
  const column = (bin) => {
    const live = share(bins, bin, "live"), reference = share(bins, bin, "reference");
    const height = (value) => ({height: `${(100 * value) / most}%`});
    return h("div", {class: "column", title: `${label(bin)}: ${percent(live)} now, ${percent(reference)} in training`},
      h("span", {class: "was", style: height(reference)}), h("span", {class: "now", style: height(live)}));
  };
  const spoken = bins.map((bin) => `${label(bin)}: ${percent(share(bins, bin, "live"))} now, ${percent(share(bins, bin, "reference"))} in training`).join("; ");
  return h("div", {class: `variable ${verdict}`},
    h("h3", {}, feature ? words(feature) : KINDS[kind] ?? name, feature?.unit && h("span", {class: "small"}, ` ${feature.unit}`)),
    h("div", {class: "drift-bars", role: "img", "aria-label": spoken}, bins.map(column)),
    axis(bins),
    h("p", {class: "small"}, found(one)));
}

/** What stands below the bars: each name of a few, else the ends of the first and the last bin. */
function axis(bins) {
  const named = bins.every((bin) => bin.values?.length) && bins.length <= 4;
  const ends = named ? bins.map(label) : [label(bins[0]), label(bins[bins.length - 1])];
  return h("div", {class: named ? "drift-axis named" : "drift-axis", "aria-hidden": "true"}, ends.map((text) => h("span", {}, text)));
}

function share(bins, bin, key) {
  const sum = bins.reduce((all, one) => all + (one[key] ?? 0), 0);
  return sum > 0 ? (bin[key] ?? 0) / sum : 0;
}

function label({name, low, high, values}) {
  if (values?.length) return values.join(", ");
  if ((low ?? null) === null) return (high ?? null) === null ? String(name) : `up to ${number(high)}`;
  return (high ?? null) === null ? `from ${number(low)}` : `${number(low)} to ${number(high)}`;
}
