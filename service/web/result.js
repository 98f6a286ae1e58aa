// What the model answers, how sure it is, how unusual the instance is, and why.

import {h, refill} from "./dom.js";
import {level, number, percent, signed, words} from "./numbers.js";

const MOST_CLASSES = 12;
const MOST_REASONS = 10;

/**
 * Make the panel; returns {node, peek, show(answer), refuse(problems), wait()}; `peek` is its headline for narrow screens.
 *
 * A problem is {name, message, focus()}.
 */
export function makeResult(card) {
  const headline = h("p", {class: "headline", "aria-live": "polite"}, "…");
  const set = h("p", {class: "set"});
  const faults = h("ul", {class: "faults"});
  const bars = card.classes.map((name) => bar(name));
  const list = h("ul", {class: "bars", "aria-label": "Probabilities"}, bars.map((one) => one.node));
  const novelty = makeNovelty(card);
  const why = makeWhy(card);
  const peek = h("p", {class: "peek", "aria-hidden": "true"});
  const node = h("section", {class: "card result", "aria-label": "Answer"},
    h("h2", {class: "over"}, `${capital(card.label)}`), headline, set, faults, list, novelty.node, why.node);

  function show(answer) {
    node.classList.remove("is-stale", "is-refused");
    const top = answer.probabilities[answer.label];
    refill(headline, h("strong", {}, answer.label), h("span", {}, ` ${percent(top)}`));
    refill(peek, h("strong", {}, answer.label), h("span", {}, percent(top)));
    peek.style.setProperty("--share", `${top * 100}%`);
    const others = answer.prediction_set.filter((name) => name !== answer.label);
    set.textContent = others.length
      ? `${others.join(", ")} cannot be ruled out at ${level(card.coverage)} coverage.`
      : `Every other answer is ruled out at ${level(card.coverage)} coverage.`;
    set.classList.toggle("open", others.length > 0);
    const kept = shown(answer.probabilities);
    for (const one of bars) one.show(answer, kept.has(one.name));
    novelty.show(answer);
    why.show(answer);
    refill(faults);
  }

  function refuse(problems) {
    node.classList.remove("is-stale");
    node.classList.add("is-refused");
    const count = problems.length;
    headline.textContent = count ? `No answer: ${count === 1 ? "one value" : `${count} values`} cannot be used` : "No answer";
    set.textContent = count ? "A guess would be worse. What to look at:" : "";
    refill(faults, problems.map(({name, message, focus}) =>
      h("li", {}, h("button", {type: "button", class: "fault", click: focus}, h("strong", {}, name), ` ${message}`))));
    peek.textContent = headline.textContent;
    peek.style.setProperty("--share", "0%");
  }

  return {node, peek, show, refuse, wait: () => node.classList.add("is-stale")};
}

/** The classes that get a bar: all, or the most probable ones. */
function shown(probabilities) {
  const sorted = Object.entries(probabilities).sort((a, b) => b[1] - a[1]);
  return new Set(sorted.slice(0, MOST_CLASSES).map(([name]) => name));
}

function bar(name) {
  const fill = h("span", {class: "fill"});
  const value = h("span", {class: "value"});
  const node = h("li", {}, h("span", {class: "name"}, name), h("span", {class: "track", "aria-hidden": "true"}, fill), value);
  return {name, node, show: (answer, isKept) => {
    const share = answer.probabilities[name];
    fill.style.setProperty("width", `${(share * 100).toFixed(2)}%`);
    value.textContent = percent(share);
    node.hidden = !isKept;
    node.classList.toggle("top", name === answer.label);
    node.classList.toggle("possible", answer.prediction_set.includes(name));
  }};
}

/** How unlike the training data. */
function makeNovelty(card) {
  const needle = h("span", {class: "needle"});
  const threshold = h("span", {class: "threshold", style: {left: `${card.reference.novelty_threshold * 100}%`}});
  const text = h("p", {class: "small"});
  const node = h("div", {class: "novelty"},
    h("h3", {}, "How unusual"),
    h("div", {class: "gauge", "aria-hidden": "true"}, h("span", {class: "gauge-line"}), threshold, needle),
    text);
  return {node, show: (answer) => {
    needle.style.setProperty("left", `${answer.novelty * 100}%`);
    node.classList.toggle("is-novel", answer.is_novel);
    const share = Math.round(answer.novelty * 100);
    const rank = share === 0 ? "Hardly any training row is more ordinary than this one." : `${share} % of the training rows are more ordinary than this one.`;
    text.textContent = answer.is_novel
      ? `Unlike the training data: it lies beyond nearly all of it, or a value is outside its plausible range. ${rank} Look closer before you rely on the answer.`
      : rank;
  }};
}

/** Contributions as steps that add up, from the base to the score of the predicted class. */
function makeWhy(card) {
  const body = h("div", {class: "steps"});
  const text = h("p", {class: "small"});
  const node = h("div", {class: "why"}, h("h3", {}, "Why"), text, body);
  if (card.contributions !== "available") text.textContent = `This bundle cannot say: ${card.contributions}`;
  return {node, show: (answer) => {
    const found = answer.contributions;
    if (!found) return refill(body);
    const steps = stepsOf(card, found);
    const ends = steps.flatMap((step) => [step.from, step.to]).concat(0);
    const low = Math.min(...ends), span = Math.max(...ends) - low || 1;
    const at = (value) => `${(100 * (value - low)) / span}%`;
    text.textContent = `What each feature adds to the log-odds of ${answer.label}; the steps add up to its score.`;
    return refill(body, h("ol", {class: "waterfall"}, steps.map((step) => row(step, at))));
  }};
}

function row(step, at) {
  const [left, right] = [Math.min(step.from, step.to), Math.max(step.from, step.to)];
  const style = {left: at(left), width: `max(2px, calc(${at(right)} - ${at(left)}))`};
  return h("li", {class: step.kind},
    h("span", {class: "name"}, step.name),
    h("span", {class: "track", "aria-hidden": "true"}, h("span", {class: "zero", style: {left: at(0)}}), h("span", {class: "fill", style})),
    h("span", {class: "value"}, step.kind === "sum" ? number(step.to.toFixed(2)) : signed(step.to - step.from)));
}

/** The base, the features by weight, what is left of them, and the score. */
function stepsOf(card, contributions) {
  const weighed = card.features
    .map((feature) => ({name: words(feature), value: contributions[feature.name]}))
    .sort((a, b) => Math.abs(b.value) - Math.abs(a.value));
  const rest = weighed.splice(MOST_REASONS);
  if (rest.length) weighed.push({name: `${rest.length} others`, value: rest.reduce((sum, one) => sum + one.value, 0)});
  let at = 0;
  const steps = [{name: "Before looking", value: contributions.base}, ...weighed].map(({name, value}, index) => {
    const step = {name, from: at, to: at + value, kind: index === 0 ? "base" : value < 0 ? "down" : "up"};
    at += value;
    return step;
  });
  return [...steps, {name: "Score", from: 0, to: at, kind: "sum"}];
}

const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1).replaceAll("_", " ");
