// One input of the form: a number with its slider and place among the training rows, or a choice from a closed list.

import {h, refill} from "./dom.js";
import {binsOf, histogram, shareBelow} from "./histogram.js";
import {number, percent, valueOf, words} from "./numbers.js";

/** Make the field of a feature; `changed` is called whenever its value is another one. */
export function makeField(card, index, changed) {
  const feature = card.features[index];
  const reference = binsOf(card, index);
  const id = `field-${feature.name}`;
  const control = feature.dtype === "category" ? choice(feature, id, reference) : quantity(feature, id, reference);
  const error = h("p", {class: "error", id: `${id}-error`, hidden: true});
  const place = h("p", {class: "place", id: `${id}-place`});
  const unknown = feature.nullable
    ? h("input", {type: "checkbox", id: `${id}-null`, change: () => { update(); changed(); }})
    : null;
  const node = h(
    "div", {class: "field", "data-feature": feature.name},
    h("div", {class: "field-head"},
      h("label", {for: id}, words(feature)),
      unknown && h("label", {class: "unknown"}, unknown, " not known"),
      control.entry),
    control.picture,
    place,
    error,
    h("p", {class: "hint", id: `${id}-hint`}, feature.description === words(feature) ? "" : feature.description),
  );
  control.input.setAttribute("aria-describedby", `${id}-error ${id}-place ${id}-hint`);
  control.listen(() => { update(); changed(); });

  function update() {
    const isNull = Boolean(unknown?.checked);
    node.classList.toggle("is-null", isNull);
    control.enable(!isNull);
    place.textContent = isNull ? nullText(reference) : control.place();
  }

  function show(problem) {
    control.input.setAttribute("aria-invalid", String(Boolean(problem)));
    node.classList.toggle("is-wrong", Boolean(problem));
    error.hidden = !problem;
    if (!problem) return refill(error);
    const {suggestion} = problem;
    const accept = suggestion && h("button", {type: "button", class: "accept", click: () => {
      set(suggestion.value);
      changed();
      control.input.focus();
    }}, `Use ${number(suggestion.value)} ${feature.unit ?? ""}`.trim());
    return refill(error, h("span", {}, sentenceOf(problem)), accept);
  }

  function set(value) {
    if (unknown) unknown.checked = value === null;
    if (value !== null) control.set(value);
    update();
  }

  /** The value to send; undefined leaves the feature out, so that the service says what is missing. */
  function get() {
    if (unknown?.checked) return null;
    const text = control.text();
    return text.trim() === "" ? undefined : valueOf(feature, text);
  }

  update();
  return {feature, node, get, set, show, focus: () => control.input.focus()};
}

const sentenceOf = ({message}) => message.charAt(0).toUpperCase() + message.slice(1);

function nullText({nulls, rows}) {
  return nulls ? `Not known, as in ${number(nulls)} of ${number(rows + nulls)} training rows` : "Not known; no training row was without it";
}

/** A number: field, unit, slider over the plausible range, histogram behind it. */
function quantity(feature, id, reference) {
  const axis = axisOf(feature);
  const picture = histogram(reference, axis.low, axis.high);
  const input = h("input", {
    id, type: "text", inputmode: "decimal", autocomplete: "off", spellcheck: "false", size: "8",
  });
  const slider = h("input", {
    type: "range", min: axis.low, max: axis.high, step: axis.step, "aria-label": `${words(feature)}, slider`,
  });
  const at = (value) => `${(100 * (value - axis.low)) / (axis.high - axis.low)}%`;
  const [low, high] = feature.plausible;
  const band = h("div", {class: "plausible", style: {left: at(Math.max(low, axis.low)), right: `calc(100% - ${at(Math.min(high, axis.high))})`}});
  const value = () => {
    const found = input.value.trim() === "" ? NaN : valueOf(feature, input.value);
    return typeof found === "number" && Number.isFinite(found) ? found : null;
  };
  const follow = () => {
    const now = value();
    if (now !== null) slider.value = now;
    slider.setAttribute("aria-valuetext", now === null ? "nothing" : `${number(now)} ${feature.unit ?? ""}`);
    picture.mark(now);
  };
  const scale = h("div", {class: "scale", "aria-hidden": "true"},
    h("span", {style: {left: at(Math.max(low, axis.low))}}, number(low)),
    h("span", {style: {left: at(Math.min(high, axis.high))}}, number(high)));
  return {
    input,
    entry: h("span", {class: "entry"}, input, h("span", {class: "unit"}, feature.unit ?? "")),
    picture: h("div", {class: "picture"}, h("div", {class: "inset"}, band, picture.node), slider, h("div", {class: "inset"}, scale)),
    text: () => input.value,
    set: (number_) => { input.value = String(number_); follow(); },
    enable: (isOn) => { input.disabled = slider.disabled = !isOn; if (!isOn) picture.mark(null); else follow(); },
    place: () => placeOf(feature, reference, value()),
    listen: (tell) => {
      input.addEventListener("input", () => { follow(); tell(); });
      slider.addEventListener("input", () => { input.value = axis.write(Number(slider.value)); follow(); tell(); });
      input.addEventListener("keydown", (event) => {
        const direction = {ArrowUp: 1, ArrowDown: -1}[event.key];
        if (!direction || value() === null) return;
        event.preventDefault();
        input.value = axis.write(value() + direction * axis.step * (event.shiftKey ? 10 : 1));
        follow();
        tell();
      });
    },
  };
}

function placeOf(feature, reference, value) {
  if (value === null) return "";
  const [low, high] = feature.plausible;
  if (value < low || value > high) return `Outside what is plausible: ${number(low)} to ${number(high)} ${feature.unit ?? ""}`.trim();
  const below = shareBelow(reference, value);
  if (below <= 0.005) return "Lower than nearly all training rows";
  if (below >= 0.995) return "Higher than nearly all training rows";
  return `Higher than about ${Math.round(below * 100)} % of the training rows`;
}

/** The slider's axis: the plausible range and a little on either side, within the hard range, in round steps. */
function axisOf(feature) {
  const [low, high] = feature.plausible;
  const margin = 0.12 * (high - low);
  const from = Math.max(feature.hard[0], low - margin), to = Math.min(feature.hard[1], high + margin);
  const power = Math.floor(Math.log10((to - from) / 100 || 1));
  const step = feature.dtype === "int" ? Math.max(1, 10 ** power) : 10 ** power;
  const digits = Math.max(0, -power);
  const write = (value) => Number(value.toFixed(feature.dtype === "int" ? 0 : digits)).toString();
  return {low: Math.floor(from / step) * step, high: Math.ceil(to / step) * step, step, write};
}

/** A choice from the feature's closed list, with how often each was in the training rows. */
function choice(feature, id, reference) {
  const picture = histogram(reference, 0, feature.values.length);
  const options = feature.values.map((value) => h("option", {value}, value));
  const input = h("select", {id}, h("option", {value: ""}, "choose…"), options);
  const index = () => feature.values.indexOf(input.value);
  const follow = () => picture.mark(index() < 0 ? null : index() + 0.5);
  return {
    input,
    entry: h("span", {class: "entry"}, input),
    picture: h("div", {class: "picture"}, h("div", {class: "inset"}, picture.node)),
    text: () => input.value,
    set: (value) => { input.value = value; follow(); },
    enable: (isOn) => { input.disabled = !isOn; if (!isOn) picture.mark(null); else follow(); },
    place: () => (index() < 0 ? "" : `As in ${percent(reference.bins[index()].count / Math.max(1, reference.rows))} of the training rows`),
    listen: (tell) => input.addEventListener("change", () => { follow(); tell(); }),
  };
}
