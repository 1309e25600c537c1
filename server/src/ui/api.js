// Talks to /api/v1, and builds elements. Data reaches the page as text nodes only.

/** Calls an endpoint; addresses are relative, so that a path prefix needs no configuration. */
export async function call(path, params = {}, { signal, post = false } = {}) {
  const form = new URLSearchParams();
  for (const [name, value] of Object.entries(params)) if (value !== undefined && value !== "") form.append(name, value);
  const query = form.toString();
  const url = `api/v1/${path}` + (!post && query ? `?${query}` : "");
  const response = await fetch(url, post ? { method: "POST", body: form, signal } : { signal });
  const text = await response.text();
  let body;
  try {
    body = JSON.parse(text);
  } catch {
    throw new Error(`${response.status} ${response.statusText}: ${text.slice(0, 300)}`);
  }
  if (body.status !== "success") throw new Error(`${body.errorType}: ${body.error}`);
  return body;
}

const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== false && value !== undefined) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== undefined && child !== null));
  return node;
}

/** An HTML element with attributes, listeners (`onclick`) and children; strings become text. */
export const el = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);

/** The same for SVG. */
export const svg = (tag, attributes = {}, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

/** `name{a="b"}` as one string. */
export function seriesText(metric) {
  const { __name__: name = "", ...labels } = metric;
  const pairs = Object.entries(labels).map(([label, value]) => `${label}=${JSON.stringify(value)}`);
  return pairs.length || !name ? `${name}{${pairs.join(", ")}}` : name;
}

/** The same with the name and the label names set apart. */
export function seriesNode(metric) {
  const { __name__: name = "", ...labels } = metric;
  const entries = Object.entries(labels);
  const pairs = entries.flatMap(([label, value], i) => [
    el("span", { class: "ln" }, `${i ? ", " : ""}${label}=`),
    JSON.stringify(value),
  ]);
  const braces = entries.length || !name;
  return el("span", { class: "metric mono" }, el("b", {}, name), braces ? "{" : null, pairs, braces ? "}" : null);
}

const UNITS = { ms: 0.001, s: 1, m: 60, h: 3600, d: 86400, w: 604800, y: 31536000 };

/** Seconds of `90`, `15m` or `1h30m`; NaN for what is none. */
export function seconds(text) {
  const trimmed = text.trim();
  if (/^\d+(\.\d+)?$/.test(trimmed)) return Number(trimmed);
  if (!/^(\d+(ms|[smhdwy]))+$/.test(trimmed)) return NaN;
  return [...trimmed.matchAll(/(\d+)(ms|[smhdwy])/g)].reduce((sum, [, count, unit]) => sum + count * UNITS[unit], 0);
}

/** The shortest text of so many seconds: `90` is `1m30s`. */
export function durationText(total) {
  let rest = Math.round(total * 1000);
  let text = "";
  for (const [unit, size] of [["w", 604800e3], ["d", 86400e3], ["h", 3600e3], ["m", 60e3], ["s", 1e3], ["ms", 1]]) {
    const count = Math.floor(rest / size);
    if (count) text += count + unit;
    rest -= count * size;
  }
  return text || "0s";
}

export const clock = (unix) => new Date(unix * 1000).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" });
