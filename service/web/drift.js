// "Its traffic": what this instance of the service has seen, against the reference.

import {call, sentence} from "./api.js";
import {h, refill} from "./dom.js";
import {count, number, percent} from "./numbers.js";

const EVERY_MS = 5000;
const KINDS = {feature: "feature", label: "answers", confidence: "confidence", novelty: "novelty"};

/** Build the part; returns {open(), close()}: it asks only while it is looked at. */
export function buildDrift(panel) {
  const body = h("div", {});
  refill(panel, h("div", {class: "card"}, h("h2", {}, "Traffic against the training data"),
    h("p", {class: "small"}, "Counted by this one instance since it started; the alerts add up over all instances. Grey is the training data, green what came. With enough rows, a PSI below 0.1 is ordinary and one above 0.2 worth a look."), body));
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
    h("div", {class: "variables"}, drifting(variables).map(variable)),
  ];
}

/** Those that drift come first. */
const drifting = (variables) => [...variables].sort((a, b) => (b.verdict === "drifting") - (a.verdict === "drifting"));

const VERDICTS = {steady: "nothing unusual", drifting: "unlike the training data", too_few: "too few to say"};

const said = (verdict) => VERDICTS[verdict] ?? String(verdict).replaceAll("_", " ");

/** What moves, and which way, as the alerts would say it. */
function found({verdict, psi, shift, rows, minimum_rows: minimum}) {
  if (verdict === "too_few") return `${count(rows)} of the ${count(minimum)} rows it takes to say`;
  const moved = (shift ?? null) === null || verdict !== "drifting" ? "" : `, on average ${shift.moved < 0 ? "lower" : "higher"} by ${number(Number(Math.abs(shift.moved).toFixed(2)))} standard deviations`;
  return `${said(verdict)}${moved}${(psi ?? null) === null ? "" : ` (PSI ${psi.toFixed(2)})`}`;
}

function variable(one) {
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
    h("h3", {}, name || KINDS[kind] || kind, name && name !== kind && h("span", {class: "small"}, ` ${KINDS[kind] ?? kind}`)),
    h("div", {class: "drift-bars", role: "img", "aria-label": spoken}, bins.map(column)),
    h("p", {class: "small"}, found(one)));
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
