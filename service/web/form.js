// "Try it": the form, made from the manifest, and what the service says to what stands in it.

import {call, sentence} from "./api.js";
import {h, refill} from "./dom.js";
import {makeField} from "./field.js";
import {words} from "./numbers.js";
import {makeResult} from "./result.js";
import {makeSnippets} from "./snippets.js";

const PAUSE_MS = 120;

/** Build the part; `seen` is told the model of every answer. */
export function buildForm(panel, card, seen) {
  const explains = card.contributions === "available";
  const path = explains ? "predict?explain=true" : "predict";
  const result = makeResult(card);
  const snippets = makeSnippets(card, path);
  const problem = h("p", {class: "notice bad", role: "alert", hidden: true});
  const fields = card.features.map((_, index) => makeField(card, index, changed));
  const form = h("form", {class: "card", novalidate: true, "aria-label": "The instance", submit: (event) => {
    event.preventDefault();
    ask();
  }},
    examplesBar(card, use),
    problem,
    h("div", {class: "fields"}, fields.map((field) => field.node)),
    h("button", {type: "submit", class: "main"}, "Predict"),
    result.peek,
  );
  refill(panel, h("div", {class: "columns"}, form, h("div", {class: "beside"}, result.node, snippets.node)));

  let timer = 0, asking = null;
  // the first explanation may make the service load a library: the first answer does not wait for it
  let isAnswered = false;

  function instance() {
    const values = fields.map((field) => [field.feature.name, field.get()]);
    return Object.fromEntries(values.filter(([, value]) => value !== undefined));
  }

  function changed() {
    snippets.show(instance());
    clearTimeout(timer);
    timer = setTimeout(ask, PAUSE_MS);
  }

  function use(values) {
    for (const field of fields) field.set(values[field.feature.name] ?? null);
    changed();
  }

  async function ask() {
    clearTimeout(timer);
    asking?.abort();
    const mine = asking = new AbortController();
    result.wait();
    try {
      const answer = await call(isAnswered ? path : "predict", instance(), mine.signal);
      if (mine !== asking) return;
      tell(answer);
      if (answer.status === 200 && !isAnswered) {
        isAnswered = true;
        if (explains) ask();
      }
    } catch {
      // a newer question is under way
    }
  }

  function tell(answer) {
    const errors = answer.status === 400 || answer.status === 422 ? answer.body.errors ?? [] : [];
    const byName = new Map(errors.map((error) => [error.pointer.slice(1), error]));
    for (const field of fields) field.show(byName.get(field.feature.name) ?? null);
    const others = errors.filter((error) => !fields.some((field) => `/${field.feature.name}` === error.pointer));
    if (answer.status === 200) {
      problem.hidden = true;
      result.show(answer.body);
      seen(answer.body.model);
      return;
    }
    // busy for a moment, as while the first explanation loads its library: the question is asked again
    if (answer.retrySeconds && answer.status !== 200) timer = setTimeout(ask, answer.retrySeconds * 1000);
    problem.hidden = errors.length > 0 && others.length === 0;
    problem.textContent = sentence({...answer, body: {...answer.body, errors: others.length ? others : undefined}});
    result.refuse(fields.filter((field) => byName.has(field.feature.name)).map((field) => (
      {name: words(field.feature), message: byName.get(field.feature.name).message, focus: field.focus})));
  }

  const first = card.examples?.[0]?.instance ?? typical(card);
  use(first);
}

/** Buttons that fill the form with examples; each class goes through its own, one by one. */
function examplesBar(card, use) {
  const nameOf = ({kind, label}) => (kind === "doubtful" ? "A doubtful one" : label);
  const names = [...new Set((card.examples ?? []).map(nameOf))];
  if (names.length === 0) return null;
  const buttons = names.map((name) => {
    const own = card.examples.filter((example) => nameOf(example) === name);
    let next = 0;
    return h("button", {type: "button", class: "chip", click: () => {
      use(own[next % own.length].instance);
      next += 1;
    }}, name);
  });
  return h("div", {class: "examples", role: "group", "aria-label": "Examples"}, h("span", {}, "Examples"), buttons);
}

/** The middle of every plausible range. */
function typical(card) {
  const value = (feature) => {
    if (feature.dtype === "category") return feature.values[0];
    const middle = (feature.plausible[0] + feature.plausible[1]) / 2;
    return feature.dtype === "int" ? Math.round(middle) : Number(middle.toPrecision(3));
  };
  return Object.fromEntries(card.features.map((feature) => [feature.name, value(feature)]));
}
