// How numbers, shares and features are written.

const plain = new Intl.NumberFormat("en", {maximumSignificantDigits: 4, useGrouping: false});
const counted = new Intl.NumberFormat("en");

/** A value: up to four significant digits. */
export const number = (value) => (Math.abs(value) >= 1e4 ? String(Math.round(value)) : plain.format(value));

/** A count, with thousands set apart. */
export const count = (value) => counted.format(value);

/** A share as per cent; never 0 % or 100 % for what is not. */
export function percent(share) {
  if (share > 0 && share < 0.001) return "< 0.1 %";
  if (share < 1 && share > 0.999) return "> 99.9 %";
  return `${(share * 100).toFixed(share === 0 || share === 1 ? 0 : 1)} %`;
}

/** A round share, such as a level that somebody chose. */
export const level = (share) => `${number(share * 100)} %`;

/** A number with its sign. */
export const signed = (value) => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(2)}`;

/** An estimate with its interval. */
export const interval = (estimate, write) =>
  `${write(estimate.value)} (${write(estimate.low)} to ${write(estimate.high)})`;

/** A feature in words, without its unit: bill_depth_mm → Bill depth. */
export function words(feature) {
  let text = feature.name.replaceAll("_", " ").trim();
  const unit = ` ${(feature.unit ?? "").toLowerCase()}`;
  if (feature.unit && text.toLowerCase().endsWith(unit)) text = text.slice(0, -unit.length);
  return text.charAt(0).toUpperCase() + text.slice(1);
}

const DECIMAL = /^[-+]?(\d+(\.\d*)?|\.\d+)(e[-+]?\d+)?$/i;
const MAX_NUMBER_CHARACTERS = 400;
// what Python's str.strip takes away: a cell means here what it meant in training
const SPACES = /^(?:(?!\ufeff)[\s\x1c-\x1f\x85])+|(?:(?!\ufeff)[\s\x1c-\x1f\x85])+$/g;
const strip = (text) => text.replaceAll(SPACES, "");

/** What a person wrote, as the value to send: a number if it is one, else the text, which the service will refuse. */
export function valueOf(feature, text) {
  const trimmed = strip(text);
  if (feature.dtype === "category" || trimmed.length > MAX_NUMBER_CHARACTERS || !DECIMAL.test(trimmed)) return trimmed;
  const value = Number(trimmed);
  return Number.isFinite(value) ? value : trimmed;
}

const NULL_WORDS = ["", "NA"];

/** A cell of a file, as the value to send: null for a word that stood for missing in training, as model/cells.py reads it. */
export function cellValue(feature, cell) {
  const text = strip(cell);
  const isValue = !feature.null && feature.values?.includes(text);
  return (feature.null ?? NULL_WORDS).includes(text) && !isValue ? null : valueOf(feature, text);
}
