// Reads and writes CSV (RFC 4180): quoted cells, doubled quotes, line ends within quotes, a byte order mark.

/**
 * Parse a text.
 *
 * Returns {rows: [{line, cells}], problem}: `line` is where a row begins in the file, counted from 1; `problem` says why
 * the text cannot be read to its end, or is null. Empty lines are left out.
 */
export function parseCsv(text) {
  const comma = separatorOf(text);
  const rows = [];
  let at = text.charCodeAt(0) === 0xfeff ? 1 : 0;
  let line = 1, cells = [], begun = 1;
  while (at < text.length) {
    if (cells.length === 0) begun = line;
    const cell = text[at] === '"' ? quoted(text, at) : bare(text, at, comma);
    if (cell.problem) return {rows, problem: `line ${line}: ${cell.problem}`};
    line += newlines(cell.value);
    cells.push(cell.value);
    at = cell.next;
    const next = text[at];
    if (next === comma) {
      at += 1;
      if (at === text.length) cells.push("");
      else continue;
    } else if (next !== undefined && next !== "\n" && next !== "\r") {
      return {rows, problem: `line ${line}: there is more text after a closing quote`};
    }
    if (!(cells.length === 1 && cells[0] === "" && !cell.isQuoted)) rows.push({line: begun, cells});
    cells = [];
    if (next === "\r") at += text[at + 1] === "\n" ? 2 : 1;
    else if (next === "\n") at += 1;
    line += 1;
  }
  return {rows, problem: null};
}

/** The semicolon or the tab where the header has one and no comma, else the comma. */
function separatorOf(text) {
  const header = text.slice(0, 100_000).split(/\r|\n/, 1)[0];
  if (header.includes(",")) return ",";
  return [";", "\t"].find((mark) => header.includes(mark)) ?? ",";
}

function quoted(text, start) {
  let value = "", at = start + 1;
  for (;;) {
    const end = text.indexOf('"', at);
    if (end < 0) return {problem: "a quote is opened and never closed"};
    value += text.slice(at, end);
    if (text[end + 1] !== '"') return {value, next: end + 1, isQuoted: true};
    value += '"';
    at = end + 2;
  }
}

function bare(text, start, comma) {
  let at = start;
  while (at < text.length && text[at] !== comma && text[at] !== "\n" && text[at] !== "\r") at += 1;
  return {value: text.slice(start, at), next: at, isQuoted: false};
}

const newlines = (text) => (text.match(/\r\n|\r|\n/g) ?? []).length;

/** Write rows of texts and numbers. */
export function writeCsv(rows) {
  const cell = (value) => {
    const text = value === null || value === undefined ? "" : String(value);
    return /[",\r\n]|^\s|\s$/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return rows.map((row) => `${row.map(cell).join(",")}\n`).join("");
}
