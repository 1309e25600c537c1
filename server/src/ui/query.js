// The query page: expression, times, table or graph.

import { call, clock, durationText, el, seconds, seriesNode } from "./api.js";
import { drawGraph } from "./graph.js";

const MAX_ROWS = 1000;
const MAX_POINTS = 10000;
const byId = (id) => document.getElementById(id);
let running = null;
let tab = "table";

export function startQuery() {
  readAddress();
  byId("ask").addEventListener("submit", (event) => {
    event.preventDefault();
    run();
  });
  byId("expr").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      run();
    }
  });
  byId("expr").addEventListener("input", fit);
  for (const name of ["table", "graph"]) {
    byId(`tab-${name}`).addEventListener("click", () => select(name));
    byId(`tab-${name}`).addEventListener("keydown", (event) => {
      if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
      select(name === "table" ? "graph" : "table");
      byId(`tab-${tab}`).focus();
    });
  }
  for (const id of ["range", "end", "step"]) byId(id).addEventListener("change", run);
  byId("narrow").addEventListener("click", () => scale(0.5));
  byId("widen").addEventListener("click", () => scale(2));
  byId("earlier").addEventListener("click", () => shift(-0.5));
  byId("later").addEventListener("click", () => shift(0.5));
  byId("now").addEventListener("click", () => {
    byId("end").value = "";
    run();
  });
  window.addEventListener("popstate", () => {
    readAddress();
    run();
  });
  suggestMetrics();
  byId("expr").focus();
  if (byId("expr").value) run();
  else byId("result").replaceChildren(el("div", { class: "panel empty" }, "Nothing asked yet. Try  up"));
}

/** The address holds the question, so that it can be shared; upstream's `g0.` names are understood too. */
function readAddress() {
  const query = new URLSearchParams(location.search);
  const get = (name, old) => query.get(name) ?? query.get(`g0.${old ?? name}`) ?? "";
  byId("expr").value = get("expr");
  byId("range").value = get("range", "range_input") || "1h";
  byId("step").value = get("step", "step_input");
  const end = get("end", "end_input");
  byId("end").value = /^\d+(\.\d+)?$/.test(end) ? localTime(Number(end)) : "";
  const wanted = get("tab");
  tab = wanted === "graph" || wanted === "0" ? "graph" : "table";
  showTab();
  fit();
}

function writeAddress() {
  const query = new URLSearchParams();
  const end = endTime();
  for (const [name, value] of [["expr", byId("expr").value], ["tab", tab], ["range", byId("range").value], ["end", end ?? ""], ["step", byId("step").value]])
    if (value !== "") query.set(name, value);
  const next = `?${query}`;
  if (next !== location.search) history.pushState(null, "", next);
}

function fit() {
  const box = byId("expr");
  box.rows = Math.min(12, Math.max(1, box.value.split("\n").length));
}

function showTab() {
  for (const name of ["table", "graph"]) {
    byId(`tab-${name}`).setAttribute("aria-selected", String(name === tab));
    byId(`tab-${name}`).tabIndex = name === tab ? 0 : -1;
  }
  byId("result").setAttribute("aria-labelledby", `tab-${tab}`);
  for (const node of document.querySelectorAll(".range-only")) node.hidden = tab !== "graph";
}

function select(name) {
  tab = name;
  showTab();
  run();
}

const localTime = (unix) => {
  const date = new Date(unix * 1000);
  return new Date(date.getTime() - date.getTimezoneOffset() * 60000).toISOString().slice(0, 19);
};

/** Unix seconds of the time chosen; `undefined` for now. */
function endTime() {
  const text = byId("end").value;
  return text ? new Date(text).getTime() / 1000 : undefined;
}

function scale(factor) {
  const range = seconds(byId("range").value) || 3600;
  byId("range").value = durationText(Math.max(1, Math.round(range * factor)));
  run();
}

function shift(ranges) {
  const range = tab === "graph" ? seconds(byId("range").value) || 3600 : 600;
  byId("end").value = localTime((endTime() ?? Date.now() / 1000) + ranges * range);
  run();
}

async function run() {
  const expr = byId("expr").value.trim();
  if (!expr) return;
  running?.abort();
  const mine = (running = new AbortController());
  const button = document.querySelector("#ask button");
  button.setAttribute("aria-busy", "true");
  writeAddress();
  const began = performance.now();
  try {
    const answer = await (tab === "graph" ? askRange(expr, mine.signal) : askInstant(expr, mine.signal));
    if (mine.signal.aborted) return;
    const took = Math.round(performance.now() - began);
    notes(answer.body);
    byId("took").textContent = `${answer.count} · ${took} ms`;
    byId("result").replaceChildren(answer.node);
    answer.shown?.();
  } catch (error) {
    if (mine.signal.aborted) return;
    byId("notes").replaceChildren(el("div", { class: "notice error", role: "alert" }, error.message));
    byId("result").replaceChildren();
    byId("took").textContent = "";
  } finally {
    if (running === mine) button.removeAttribute("aria-busy");
  }
}

function notes({ warnings = [], infos = [] }) {
  byId("notes").replaceChildren(
    ...warnings.map((text) => el("div", { class: "notice warning" }, text)),
    ...infos.map((text) => el("div", { class: "notice" }, text)),
  );
}

async function askInstant(query, signal) {
  const body = await call("query", { query, time: endTime() }, { signal, post: true });
  const { resultType, result } = body.data;
  const rows = resultType === "scalar" || resultType === "string" ? [{ metric: null, value: result }] : result;
  return { body, node: table(resultType, rows), count: `${rows.length} ${rows.length === 1 ? "row" : "rows"}` };
}

function table(kind, rows) {
  if (!rows.length) return el("div", { class: "panel empty" }, "No series match at this time.");
  const shown = rows.slice(0, MAX_ROWS);
  const lines = shown.map((row) => {
    const name = row.metric ? seriesNode(row.metric) : el("span", { class: "ln mono" }, kind);
    const cell = row.values
      ? el("td", { class: "value points mono" }, row.values.map(([at, value]) => `${value}  @ ${clock(at)}`).join("\n"))
      : el("td", { class: "value mono" }, (row.value ?? row.histogram ?? [])[1] instanceof Object ? "native histogram" : row.value?.[1] ?? "");
    return el("tr", {}, el("td", {}, name), cell);
  });
  const cut = rows.length > shown.length
    ? el("p", { class: "empty" }, `The first ${MAX_ROWS} of ${rows.length} rows are shown.`)
    : null;
  return el("div", { class: "panel" },
    el("table", {},
      el("caption", { class: "hidden" }, "Result of the query"),
      el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "Series"), el("th", { scope: "col", class: "value" }, "Value"))),
      el("tbody", {}, lines)),
    cut);
}

async function askRange(query, signal) {
  const range = seconds(byId("range").value);
  if (!(range > 0)) throw new Error(`the range ${JSON.stringify(byId("range").value)} is no duration such as 15m, 6h or 1d`);
  const asked = byId("step").value.trim();
  if (asked && !(seconds(asked) > 0)) throw new Error(`the step ${JSON.stringify(asked)} is no duration such as 15s`);
  const width = byId("result").clientWidth || 1000;
  const step = asked ? seconds(asked) : Math.max(1, Math.ceil(range / Math.max(100, Math.min(width / 3, 400))));
  if (range / step > MAX_POINTS) throw new Error(`${Math.floor(range / step)} points are too many: choose a longer step`);
  const now = endTime() ?? Date.now() / 1000;
  const end = Math.floor(now / step) * step;
  const start = end - Math.floor(range / step) * step;
  const body = await call("query_range", { query, start, end, step }, { signal, post: true });
  const series = body.data.result;
  const count = `${series.length} series · step ${durationText(step)}`;
  if (!series.length) return { body, node: el("div", { class: "panel empty" }, "No series match in this range."), count };
  const { node, shown } = drawGraph(series, { start, end, step });
  return { body, node, shown, count };
}

async function suggestMetrics() {
  const input = byId("metric");
  let loaded = false;
  input.addEventListener("focus", async () => {
    if (loaded) return;
    loaded = true;
    try {
      const { data } = await call("label/__name__/values", { limit: 5000 });
      byId("metrics").replaceChildren(...data.map((name) => el("option", { value: name })));
    } catch {
      loaded = false;
    }
  });
  input.addEventListener("change", () => {
    const name = input.value.trim();
    if (!name) return;
    const box = byId("expr");
    const plain = /^[a-zA-Z_:][a-zA-Z0-9_:]*$/.test(name) ? name : `{${JSON.stringify(name)}}`;
    box.setRangeText(plain, box.selectionStart, box.selectionEnd, "end");
    input.value = "";
    fit();
    box.focus();
  });
}
