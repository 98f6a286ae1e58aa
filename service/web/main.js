// Starts the page: asks which model answers, builds the parts from its card, and says when something is not as it should be.

import {call, sentence} from "./api.js";
import {buildBatch} from "./batch.js";
import {buildCard} from "./card.js";
import {h, refill} from "./dom.js";
import {buildDrift} from "./drift.js";
import {buildForm} from "./form.js";

const AGAIN_MS = 3000;
const PARTS = ["try", "file", "model", "drift"];
const $ = (id) => document.getElementById(id);

let drift = null;

/** Ask for the model until there is one. */
async function begin() {
  const answer = await call("model");
  if (answer.status === 200) {
    introduce(answer.body);
    return;
  }
  sayNotReady(answer);
  setTimeout(begin, AGAIN_MS);
}

function introduce(card) {
  document.title = `${card.name}: ${card.title}`;
  $("title").textContent = card.title;
  $("subtitle").textContent = `${card.name} ${card.version} · ${short(card.digest)} · ${card.classes.length} classes from ${card.features.length} features`;
  setState(card.fallback ? "A fallback answers" : "Ready", card.fallback ? "warn" : "good");
  refill($("notices"), card.fallback && fallbackNotice(card));
  $("footer").textContent = `Served by Rookery, engine ${card.engine}. What you enter is sent to this service and to nobody else.`;
  const seen = watchDigest(card);
  buildForm($("panel-try"), card, seen);
  buildBatch($("panel-file"), card, seen);
  buildCard($("panel-model"), card);
  drift = buildDrift($("panel-drift"), card);
  select(wanted());
}

function setState(text, kind) {
  const state = $("state");
  state.textContent = text;
  state.className = `state ${kind}`;
}

function sayNotReady(answer) {
  const isSilent = answer.status === 0;
  setState(isSilent ? "No answer" : "Not ready", "bad");
  $("subtitle").textContent = isSilent ? "The service cannot be reached." : "The service runs, but has no model that it can vouch for.";
  const reason = answer.body.reason;
  refill($("panel-try"), h("div", {class: "card empty"},
    h("h2", {}, isSilent ? "The service does not answer" : "No model yet"),
    h("p", {}, isSilent
      ? sentence(answer)
      : "Rookery answers only from a model whose every byte is verified and whose known answers are right. Until then it refuses, rather than guess."),
    reason && h("p", {}, "The reason it gives: ", h("code", {}, reason), ". The operator finds it in the runbook under this name."),
    h("p", {class: "small"}, "This page looks again every few seconds and goes on by itself.")));
}

function fallbackNotice(card) {
  const failed = card.attempts.filter((attempt) => attempt.code);
  return h("div", {class: "notice warn", role: "note"},
    h("strong", {}, "Another model stands in for the one that was asked for."),
    " It takes the same features and knows the same classes; its answers may differ.",
    failed.length > 0 && h("ul", {}, failed.map((attempt) => h("li", {}, `${attempt.origin.replaceAll("_", " ")}: `, h("code", {}, attempt.code), ` ${attempt.reason ?? ""}`))));
}

/** Notice when an answer comes from another model than the one this page was built from, as in a rollout. */
function watchDigest(card) {
  return (model) => {
    if (!model || model.digest === card.digest) return;
    refill($("notices"), h("div", {class: "notice warn", role: "alert"},
      `The last answer came from another model, ${model.name} ${model.version} (${short(model.digest)}). `,
      h("button", {type: "button", class: "quiet", click: () => location.reload()}, "Load its page")));
  };
}

const short = (digest) => digest.replace("sha256:", "").slice(0, 12);

const wanted = () => (PARTS.includes(location.hash.slice(1)) ? location.hash.slice(1) : "try");

function select(part) {
  for (const name of PARTS) {
    const isIt = name === part;
    $(`panel-${name}`).hidden = !isIt;
    $(`tab-${name}`).setAttribute("aria-selected", String(isIt));
    $(`tab-${name}`).tabIndex = isIt ? 0 : -1;
  }
  if (part === "drift") drift?.open();
  else drift?.close();
}

/** Arrow keys go through the tabs, as the ARIA practices have it. */
function onTabKey(event) {
  const at = PARTS.findIndex((name) => $(`tab-${name}`) === event.target);
  const to = {ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: PARTS.length - 1}[event.key];
  if (at < 0 || to === undefined) return;
  event.preventDefault();
  const part = PARTS[(to + PARTS.length) % PARTS.length];
  location.hash = part;
  $(`tab-${part}`).focus();
}

for (const name of PARTS) $(`tab-${name}`).addEventListener("click", () => { location.hash = name; });
$("tabs").addEventListener("keydown", onTabKey);
addEventListener("hashchange", () => select(wanted()));
select(wanted());
begin();
