// Lines over time, drawn as SVG. One crosshair for mouse, touch and arrow keys.

import { clock, el, seriesText, svg } from "./api.js";

const HEIGHT = 420;
const PAD = { left: 64, right: 14, top: 10, bottom: 28 };
const MAX_SERIES = 200;
const TIP_ROWS = 12;

/** A chart of range series. `shown` is to be called once the node has its place and size. */
export function drawGraph(all, { start, end, step }) {
  const series = all.slice(0, MAX_SERIES).map((one, i) => ({
    name: seriesText(one.metric),
    colour: `s${i % 10}`,
    points: (one.values ?? []).map(([at, value]) => [at, Number(value)]),
    on: true,
  }));
  const chart = el("div", { class: "chart" });
  const legend = el("ul", { class: "legend", "aria-label": "Series" });
  const node = el("div", { class: "panel" }, chart, legend);
  if (all.length > series.length) node.append(el("p", { class: "empty" }, `The first ${MAX_SERIES} of ${all.length} series are drawn.`));
  const redraw = () => draw(chart, series, { start, end, step });
  fillLegend(legend, series, redraw);
  let width = 0;
  new ResizeObserver(() => {
    if (chart.clientWidth && chart.clientWidth !== width) {
      width = chart.clientWidth;
      redraw();
    }
  }).observe(chart);
  return { node, shown: redraw };
}

function fillLegend(legend, series, redraw) {
  const buttons = series.map((one) => el("button", { type: "button", "aria-pressed": "true" },
    el("span", { class: `swatch ${one.colour}`, "aria-hidden": "true" }), el("span", { class: "metric mono" }, one.name)));
  buttons.forEach((button, i) => button.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) series[i].on = !series[i].on;
    else {
      const alone = series[i].on && series.every((one, j) => j === i || !one.on);
      series.forEach((one, j) => (one.on = alone || j === i));
    }
    series.forEach((one, j) => buttons[j].setAttribute("aria-pressed", String(one.on)));
    redraw();
  }));
  legend.title = "Click: only this series. With Ctrl or Shift: this series on or off.";
  legend.replaceChildren(...buttons.map((button) => el("li", {}, button)));
}

function draw(chart, series, time) {
  const width = Math.max(320, chart.clientWidth - 24);
  const drawn = series.filter((one) => one.on);
  const y = scaleOf(drawn);
  const toX = (at) => PAD.left + ((at - time.start) / (time.end - time.start || 1)) * (width - PAD.left - PAD.right);
  const toY = (value) => HEIGHT - PAD.bottom - ((value - y.min) / (y.max - y.min)) * (HEIGHT - PAD.top - PAD.bottom);
  const picture = svg("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, role: "img", tabindex: "0",
    "aria-label": `Graph of ${drawn.length} series from ${clock(time.start)} to ${clock(time.end)}. Arrow keys move the reading line.` });
  for (const tick of y.ticks) {
    picture.append(
      svg("line", { class: "grid", x1: PAD.left, x2: width - PAD.right, y1: toY(tick), y2: toY(tick) }),
      svg("text", { class: "axis", x: PAD.left - 8, y: toY(tick) + 4, "text-anchor": "end" }, short(tick, y.step)));
  }
  for (const { at, text } of timeTicks(time.start, time.end, width)) {
    picture.append(
      svg("line", { class: "grid", x1: toX(at), x2: toX(at), y1: PAD.top, y2: HEIGHT - PAD.bottom }),
      svg("text", { class: "axis", x: toX(at), y: HEIGHT - 9, "text-anchor": toX(at) > width - 40 ? "end" : "middle" }, text));
  }
  for (const one of drawn) drawSeries(picture, one, time.step, toX, toY);
  const tip = el("div", { class: "tip", hidden: true });
  chart.replaceChildren(picture, tip);
  addCrosshair(chart, picture, tip, drawn, time, toX, toY, width);
}

/** A line, broken where samples are missing or not finite; a point alone becomes a dot. */
function drawSeries(picture, one, step, toX, toY) {
  let path = "";
  let run = [];
  const flush = () => {
    if (run.length === 1) picture.append(svg("circle", { class: one.colour, cx: toX(run[0][0]), cy: toY(run[0][1]), r: 3 }));
    else path += run.map(([at, value], i) => `${i ? "L" : "M"}${toX(at).toFixed(1)} ${toY(value).toFixed(1)}`).join("");
    run = [];
  };
  for (const point of one.points) {
    if (run.length && point[0] - run[run.length - 1][0] > step * 1.5) flush();
    if (Number.isFinite(point[1])) run.push(point);
    else flush();
  }
  flush();
  const line = svg("path", { class: `line ${one.colour}`, d: path || "M0 0" });
  line.style.fill = "none";
  picture.append(line);
}

function scaleOf(drawn) {
  let min = Infinity;
  let max = -Infinity;
  for (const one of drawn) for (const [, value] of one.points) if (Number.isFinite(value)) {
    if (value < min) min = value;
    if (value > max) max = value;
  }
  if (min > max) [min, max] = [0, 1];
  if (min === max) {
    const room = Math.abs(min) * 0.1 || 1;
    [min, max] = [min - room, max + room];
  }
  // Near enough to zero to show it: a line's height then means something.
  if (min > 0 && min < max * 0.4) min = 0;
  const step = nice((max - min) / 6);
  const low = Math.floor(min / step + 1e-9) * step;
  const high = Math.ceil(max / step - 1e-9) * step;
  const ticks = [];
  for (let i = 0; low + i * step <= high + step / 2 && i < 20; i++) ticks.push(low + i * step);
  return { min: low, max: high > low ? high : low + step, step, ticks };
}

/** 1, 2 or 5 times a power of ten, not below `size`. */
function nice(size) {
  const power = 10 ** Math.floor(Math.log10(size));
  return [1, 2, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= size * 0.999) ?? size;
}

function short(value, step) {
  if (Math.abs(value) < step * 1e-6) return "0";
  const size = Math.abs(value);
  for (const [limit, unit] of [[1e15, "P"], [1e12, "T"], [1e9, "G"], [1e6, "M"], [1e4, "k"]]) {
    const scaled = unit === "k" ? 1e3 : limit;
    if (size >= limit) return trim(value / scaled, step / scaled) + unit;
  }
  return size < 1e-4 || size >= 1e15 ? value.toExponential(1) : trim(value, step);
}

const trim = (value, step) => value.toFixed(Math.min(8, Math.max(0, -Math.floor(Math.log10(step) + 1e-9))));

const TIME_STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800, 2592000];

function timeTicks(start, end, width) {
  const want = Math.max(2, Math.floor(width / 120));
  const step = TIME_STEPS.find((size) => (end - start) / size <= want) ?? 31536000;
  const zone = new Date(start * 1000).getTimezoneOffset() * 60;
  const format = step >= 86400 ? { month: "short", day: "numeric" }
    : end - start > 86400 ? { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit" }
    : step >= 60 ? { hour: "2-digit", minute: "2-digit" } : { hour: "2-digit", minute: "2-digit", second: "2-digit" };
  const ticks = [];
  for (let at = Math.ceil((start - zone) / step) * step + zone; at <= end && ticks.length < 60; at += step)
    ticks.push({ at, text: new Date(at * 1000).toLocaleString(undefined, { ...format, hour12: false }) });
  return ticks;
}

function addCrosshair(chart, picture, tip, drawn, time, toX, toY, width) {
  const line = svg("line", { class: "cross", y1: PAD.top, y2: HEIGHT - PAD.bottom, visibility: "hidden" });
  const dots = svg("g");
  picture.append(line, dots);
  const steps = Math.max(0, Math.round((time.end - time.start) / time.step));
  let place = steps;
  const hide = () => {
    tip.hidden = true;
    line.setAttribute("visibility", "hidden");
    dots.replaceChildren();
  };
  const show = (index, pointerY) => {
    place = Math.min(steps, Math.max(0, index));
    const at = time.start + place * time.step;
    const found = drawn
      .map((one) => ({ one, value: valueAt(one.points, at, time.step) }))
      .filter(({ value }) => value !== undefined);
    const distance = ({ value }) => (Number.isFinite(value) && pointerY !== undefined ? Math.abs(toY(value) - pointerY) : 0);
    const rows = found.sort((a, b) => distance(a) - distance(b)).slice(0, TIP_ROWS);
    for (const end of ["x1", "x2"]) line.setAttribute(end, toX(at));
    line.setAttribute("visibility", "visible");
    dots.replaceChildren(...rows.filter(({ value }) => Number.isFinite(value))
      .map(({ one, value }) => svg("circle", { class: one.colour, cx: toX(at), cy: toY(value), r: 4 })));
    tip.replaceChildren(el("div", { class: "when" }, clock(at)), ...rows.map(({ one, value }) => el("div", {},
      el("span", { class: `swatch ${one.colour}` }), el("span", { class: "name mono" }, one.name), el("span", { class: "v mono" }, String(value)))));
    if (found.length > rows.length) tip.append(el("div", { class: "when" }, `and ${found.length - rows.length} more`));
    tip.hidden = false;
    const ratio = picture.clientWidth / width;
    const x = toX(at) * ratio + 12;
    const left = x + tip.offsetWidth + 24 > chart.clientWidth ? x - tip.offsetWidth - 16 : x + 16;
    tip.style.left = `${Math.max(4, left)}px`;
    tip.style.top = "18px";
  };
  const byPointer = (event) => {
    const box = picture.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * width;
    const at = time.start + ((x - PAD.left) / (width - PAD.left - PAD.right)) * (time.end - time.start);
    show(Math.round((at - time.start) / time.step), ((event.clientY - box.top) / box.height) * HEIGHT);
  };
  picture.addEventListener("pointermove", byPointer);
  picture.addEventListener("pointerdown", byPointer);
  picture.addEventListener("pointerleave", hide);
  picture.addEventListener("blur", hide);
  picture.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10 }[event.key];
    if (event.key === "Escape") hide();
    if (move === undefined) return;
    event.preventDefault();
    show(place + move);
  });
}

/** The value at a step, by binary search. */
function valueAt(points, at, step) {
  let low = 0;
  let high = points.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (points[middle][0] < at - step / 2) low = middle + 1;
    else high = middle;
  }
  const point = points[low];
  return point && Math.abs(point[0] - at) <= step / 2 ? point[1] : undefined;
}
