// Makes elements. Text only ever enters as text: nothing of a request, a file or a model is read as HTML.

const SVG = "http://www.w3.org/2000/svg";

/** Make an element: `h("p", {class: "note"}, "text", node)`; functions are listeners, null and false leave out. */
export function h(tag, properties = {}, ...children) {
  return fill(document.createElement(tag), properties, children);
}

/** Make an SVG element. */
export function s(tag, properties = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), properties, children);
}

function fill(node, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") node.addEventListener(name, value);
    // the policy forbids style attributes; the object model does not need them
    else if (name === "style") for (const [key, of] of Object.entries(value)) node.style.setProperty(key, of);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(2).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** Put other children in place of those there are. */
export function refill(node, ...children) {
  node.replaceChildren(...children.flat(2).filter(Boolean));
  return node;
}

/** Make a table with a header row; cells are text or nodes, the first of each row heads it. */
export function table(caption, columns, rows, properties = {}) {
  const head = h("tr", {}, columns.map((name) => h("th", {scope: "col"}, name)));
  // on a narrow screen each row is a block, and a cell is named by its column
  const cell = (value, index) => h(index === 0 ? "th" : "td", {scope: index === 0 && "row", "data-column": columns[index]}, value);
  const body = rows.map((row) => h("tr", {}, row.map(cell)));
  // what scrolls sideways must be reachable by keyboard
  return h(
    "div", {class: "scroll", tabindex: "0", role: "region", "aria-label": caption},
    h("table", properties, h("caption", {}, caption), h("thead", {}, head), h("tbody", {}, body)),
  );
}

/** Let the person keep a text as a file. */
export function download(name, kind, text) {
  const url = URL.createObjectURL(new Blob([text], {type: kind}));
  const link = h("a", {href: url, download: name});
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

/** A button that copies a text and says so. */
export function copyButton(text) {
  const button = h("button", {type: "button", class: "quiet", click: async () => {
    try {
      await navigator.clipboard.writeText(text());
      button.textContent = "Copied";
    } catch {
      button.textContent = "Select and copy it by hand";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  }}, "Copy");
  return button;
}
