// "Its traffic": what this instance of the service has seen, against the reference.

import {call, sentence} from "./api.js";
import {h, refill} from "./dom.js";
import {count, number, percent} from "./numbers.js";

const EVERY_MS = 5000;
const KINDS = {feature: "Features", class: "Answers", confidence: "Confidence", novelty: "Novelty", label: "Answers", prediction: "Answers"};

/** Build the part; returns {open(), close()}: it asks only while it is looked at. */
export function buildDrift(panel) {
  const body = h("div", {});
  refill(panel, h("div", {class: "card"}, h("h2", {}, "Traffic against the training data"),
    h("p", {class: "small"}, "Counted by this one instance since it started; the alerts add up over all instances. PSI below 0.1 is ordinary, above 0.2 worth a look."), body));
  let timer = 0;

  async function ask() {
    const answer = await call("model/drift");
    refill(body, answer.status === 200 ? report(answer.body) : absent(answer));
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

function report({rows, verdict, variables}) {
  if (!rows) return h("p", {class: "notice"}, "No rows yet. Ask for some predictions, and look again: it is counted as they come.");
  return [
    h("p", {class: "tally"}, h("strong", {}, `${count(rows)} rows: ${said(verdict)}`)),
    h("div", {class: "variables"}, (variables ?? []).map(variable)),
  ];
}

const said = (verdict) => ({ok: "nothing unusual", none: "nothing unusual", unknown: "too few to say", insufficient: "too few to say", inconclusive: "too few to say"})[verdict] ?? String(verdict ?? "").replaceAll("_", " ");

function variable({kind, name, verdict, psi, bins}) {
  const most = Math.max(...bins.flatMap((bin) => [share(bins, bin, "live"), share(bins, bin, "reference")]), 1e-9);
  const column = (bin) => {
    const live = share(bins, bin, "live"), reference = share(bins, bin, "reference");
    const height = (value) => ({height: `${(100 * value) / most}%`});
    return h("div", {class: "column", title: `${label(bin)}: ${percent(live)} now, ${percent(reference)} in training`},
      h("span", {class: "was", style: height(reference)}), h("span", {class: "now", style: height(live)}));
  };
  const spoken = bins.map((bin) => `${label(bin)}: ${percent(share(bins, bin, "live"))} now, ${percent(share(bins, bin, "reference"))} in training`).join("; ");
  return h("div", {class: "variable"},
    h("h3", {}, name || KINDS[kind] || kind, h("span", {class: "small"}, ` ${KINDS[kind] ?? kind}`)),
    h("div", {class: "drift-bars", role: "img", "aria-label": spoken}, bins.map(column)),
    h("p", {class: "small"}, `${psi === null || psi === undefined ? "" : `PSI ${psi.toFixed(3)}, `}${said(verdict)}`));
}

function share(bins, bin, key) {
  const sum = bins.reduce((all, one) => all + (one[key] ?? 0), 0);
  return sum > 0 ? (bin[key] ?? 0) / sum : 0;
}

function label({name, low, high}) {
  if (low === null && high === null) return String(name);
  if (low === undefined && high === undefined) return String(name);
  if (low === null || low === undefined) return `up to ${number(high)}`;
  return high === null || high === undefined ? `from ${number(low)}` : `${number(low)} to ${number(high)}`;
}
