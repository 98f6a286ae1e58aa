// The same request for a shell and for Python.

import {address} from "./api.js";
import {copyButton, h} from "./dom.js";

/** Make the panel; returns {node, show(instance)}. */
export function makeSnippets(card, path) {
  const curl = h("pre", {tabindex: "0", role: "region", "aria-label": "curl"}, "");
  const python = h("pre", {tabindex: "0", role: "region", "aria-label": "Python"}, "");
  const block = (title, pre) => h("div", {class: "snippet"},
    h("div", {class: "snippet-head"}, h("h3", {}, title), copyButton(() => pre.textContent)), pre);
  const node = h("details", {class: "card code"}, h("summary", {}, "This request as code"), block("curl", curl), block("Python", python));
  return {node, show: (instance) => {
    curl.textContent = asCurl(instance, path);
    python.textContent = asPython(instance, path);
  }};
}

function asCurl(instance, path) {
  // within single quotes a shell reads everything but the quote itself as it stands
  const body = JSON.stringify(instance).replaceAll("'", "'\\''");
  return `curl -H 'Content-Type: application/json' \\\n  '${address(path)}' \\\n  -d '${body}'`;
}

function asPython(instance, path) {
  const literal = (value) => (value === null ? "None" : JSON.stringify(value));
  const lines = Object.entries(instance).map(([name, value]) => `    ${JSON.stringify(name)}: ${literal(value)},`);
  return [
    "import json",
    "import urllib.request",
    "",
    "instance = {",
    ...lines,
    "}",
    "request = urllib.request.Request(",
    `    ${JSON.stringify(address(path))},`,
    "    data=json.dumps(instance).encode(),",
    '    headers={"Content-Type": "application/json"},',
    ")",
    "with urllib.request.urlopen(request) as reply:",
    "    print(json.load(reply))",
  ].join("\n");
}
