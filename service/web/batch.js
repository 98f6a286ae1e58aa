// "A whole file": a CSV is read here, sent in batches, and comes back with the answers.

import {call, sentence} from "./api.js";
import {parseCsv, writeCsv} from "./csv.js";
import {download, h, refill, table} from "./dom.js";
import {cellValue, count, percent} from "./numbers.js";

const CHUNK_ROWS = 500;
const SHOWN_PROBLEMS = 200;
const PREVIEW_ROWS = 10;
const AGAIN = 3;

/** Build the part. */
export function buildBatch(panel, card, seen) {
  const names = card.features.map((feature) => feature.name);
  const input = h("input", {type: "file", id: "csv", accept: ".csv,text/csv", change: () => {
    const [file] = input.files;
    input.value = "";
    if (file) run(file);
  }});
  const drop = h("div", {class: "drop", dragover: (event) => { event.preventDefault(); drop.classList.add("over"); },
    dragleave: () => drop.classList.remove("over"),
    drop: (event) => {
      event.preventDefault();
      drop.classList.remove("over");
      const [file] = event.dataTransfer.files;
      if (file) run(file);
    }},
    h("label", {for: "csv", class: "main"}, "Choose a CSV"), input, h("p", {class: "small"}, "or drop it here"));
  const sample = h("button", {type: "button", class: "quiet", click: () => download(`${card.name}-example.csv`, "text/csv", exampleCsv(card))}, "Download an example to fill in");
  const output = h("div", {class: "outcome", "aria-live": "polite"});
  refill(panel, h("div", {class: "card"},
    h("h2", {}, "Answers for a whole file"),
    h("p", {class: "small"}, "Its first line names the columns: ", names.flatMap((name, i) => [i ? ", " : "", h("code", {}, name)]),
      ". Other columns are kept and not sent. The file is read here, in your browser, and sent to this service alone."),
    drop, sample, output));

  let running = null;

  async function run(file) {
    running?.abort();
    const mine = running = new AbortController();
    try {
      const read = readRows(parseCsv(await file.text()), card);
      if (read.problem) {
        refill(output, h("p", {class: "notice bad"}, `${file.name}: ${read.problem}`));
        return;
      }
      const bar = h("progress", {max: read.rows.length, value: 0, "aria-label": "Rows answered"});
      refill(output, h("p", {}, `${file.name}: `, bar));
      await answerAll(read.rows, card, mine.signal, (done) => { bar.value = done; }, seen);
      if (mine === running) show(file.name, read);
    } catch (error) {
      if (error.name !== "AbortError") refill(output, h("p", {class: "notice bad"}, error.message));
    }
  }

  function show(name, read) {
    const bad = read.rows.filter((row) => row.problems.length);
    const good = read.rows.filter((row) => row.answer);
    const save = h("button", {type: "button", class: "main", click: () => download(outputName(name), "text/csv", answersCsv(read, card))}, "Download the answers");
    refill(output,
      h("p", {class: "small file"}, name),
      h("p", {class: "tally"}, h("strong", {}, `${count(good.length)} of ${count(read.rows.length)} rows answered`),
        bad.length ? `, ${count(bad.length)} ${bad.length === 1 ? "is" : "are"} bad` : ""),
      read.note && h("p", {class: "notice"}, read.note),
      save,
      bad.length > 0 && problemList(bad),
      good.length > 0 && h("div", {class: "halves"}, classTally(good, card), preview(good)));
  }
}

/** Lay the rows of a table out as instances; a row that cannot be one has its problem already. */
function readRows({rows, problem}, card) {
  if (problem && rows.length < 2) return {problem};
  if (rows.length < 2) return {problem: "there is no row under the header"};
  const header = rows[0].cells.map((name) => name.trim());
  const missing = card.features.filter((feature) => !header.includes(feature.name)).map((feature) => feature.name);
  if (missing.length) return {problem: `the header lacks ${missing.join(", ")}; it has ${header.slice(0, 20).join(", ")}`};
  const twice = header.find((name, i) => header.indexOf(name) !== i);
  if (twice !== undefined) return {problem: `the header has ${twice || "a column without a name"} twice`};
  const places = card.features.map((feature) => header.indexOf(feature.name));
  const read = rows.slice(1).map(({line, cells}) => {
    if (cells.length !== header.length) {
      return {line, cells, instance: null, answer: null, problems: [`has ${cells.length} cells, the header ${header.length}`]};
    }
    const instance = places.map((place, i) => cellValue(card.features[i], cells[place]));
    return {line, cells, instance, answer: null, problems: []};
  });
  return {header, rows: read, note: problem && `Read up to there: ${problem}`};
}

/** Send the rows in batches; each gets its answer or its problems. */
async function answerAll(rows, card, signal, advance, seen) {
  const names = card.features.map((feature) => feature.name);
  const whole = rows.filter((row) => row.instance);
  for (let start = 0; start < whole.length; start += CHUNK_ROWS) {
    const chunk = whole.slice(start, start + CHUNK_ROWS);
    const body = {features: names, instances: chunk.map((row) => row.instance)};
    const answer = await patiently(() => call("predict?on_error=row", body, signal));
    if (answer.status !== 200) throw new Error(sentence(answer));
    answer.body.predictions.forEach((prediction, i) => {
      if (prediction.error) chunk[i].problems = prediction.error.errors.map((error) => problemOf(error, card));
      else chunk[i].answer = prediction;
    });
    seen(answer.body.model);
    advance(start + chunk.length);
  }
}

/** Ask again a few times where the service says when. */
async function patiently(ask) {
  for (let tries = 1; ; tries += 1) {
    const answer = await ask();
    if (![429, 503].includes(answer.status) || answer.retrySeconds === null || tries === AGAIN) return answer;
    await new Promise((resolve) => setTimeout(resolve, answer.retrySeconds * 1000));
  }
}

function problemOf(error, card) {
  const [, , , column] = error.pointer.split("/");
  const feature = card.features[Number(column)];
  return feature ? `${feature.name}: ${error.message}` : error.message;
}

function problemList(bad) {
  const lines = bad.slice(0, SHOWN_PROBLEMS).map((row) => h("li", {}, h("span", {class: "line"}, `Line ${row.line}`), ` ${row.problems.join("; ")}`));
  const more = bad.length - SHOWN_PROBLEMS;
  return h("div", {class: "problems"}, h("h3", {}, "Rows without an answer"),
    h("ul", {tabindex: "0", "aria-label": "Rows without an answer"}, lines, more > 0 && h("li", {}, `and ${count(more)} more, in the download`)));
}

function classTally(good, card) {
  const rows = card.classes.map((name) => {
    const of = good.filter((row) => row.answer.label === name).length;
    return [name, count(of), percent(of / good.length)];
  });
  return table("Answers by class", [card.label, "rows", "share"], rows);
}

function preview(good) {
  const rows = good.slice(0, PREVIEW_ROWS).map(({line, answer}) => [
    String(line), answer.label, percent(answer.probabilities[answer.label]), answer.prediction_set.join(", "), answer.is_novel ? "yes" : "no",
  ]);
  return table(`The first ${rows.length} answers`, ["line", "answer", "probability", "not ruled out", "novel"], rows);
}

/** The input's columns, then the same output columns as `python -m model.predict` writes. */
function answersCsv({header, rows}, card) {
  const columns = ["prediction", "label", ...card.classes.map((name) => `probability_${name}`), "prediction_set", "novelty", "is_novel", "error"];
  const line = ({cells, answer, problems}) => {
    const kept = header.map((_, i) => cells[i] ?? "");
    if (!answer) return [...kept, ...columns.slice(1).map(() => ""), problems.join("; ")];
    const shares = card.classes.map((name) => answer.probabilities[name]);
    return [...kept, answer.prediction, answer.label, ...shares, answer.prediction_set.join(";"), answer.novelty, answer.is_novel, ""];
  };
  return writeCsv([[...header, ...columns], ...rows.map(line)]);
}

const outputName = (name) => `${name.replace(/\.csv$/i, "")}-answers.csv`;

function exampleCsv(card) {
  const names = card.features.map((feature) => feature.name);
  const rows = (card.examples ?? []).map(({instance}) => names.map((name) => instance[name]));
  return writeCsv([names, ...rows]);
}
