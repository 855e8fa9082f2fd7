// The page of `pipeline ui`: the list of runs, and the curves of those that are chosen. It only reads.

const MAX_CHOSEN = 6;
const POLL_MILLISECONDS = 2000;
const SVG = "http://www.w3.org/2000/svg";
const AREA = { left: 60, right: 886, top: 12, bottom: 270 };

let runs = [];
let chosen = [];
let isConnected = true;
const element = (id) => document.getElementById(id);

function make(name, attributes = {}, text = "") {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.textContent = text;
  return made;
}

function shape(name, attributes, text = "") {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.textContent = text;
  return made;
}

function row(run) {
  const line = make("tr", run.is_alive ? { class: "alive" } : {});
  const box = make("input", { type: "checkbox", "aria-label": `show ${run.name}` });
  box.checked = chosen.includes(run.name);
  const first = make("td");
  first.append(box);
  const name = make("th", { scope: "row" }, run.name);
  for (const tag of run.tags) name.append(" ", make("span", { class: "badge" }, tag));
  if (run.has_report) name.append(" ", make("a", { href: `report?run=${run.name}`, target: "_blank" }, "report"));
  line.append(first, name, ...[run.started, run.status, run.time, run.stages, run.result].map((text) => make("td", {}, text)));
  line.addEventListener("click", (event) => {
    if (event.target.tagName !== "A") choose(run.name);
  });
  return line;
}

function choose(name) {
  chosen = chosen.includes(name) ? chosen.filter((other) => other !== name) : [...chosen, name].slice(-MAX_CHOSEN);
  list();
  draw();
}

function list() {
  const words = element("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  const text = (run) => [run.name, ...run.tags, run.status, run.result].join(" ").toLowerCase();
  const shown = runs.filter((run) => words.every((word) => text(run).includes(word)));
  element("runs").replaceChildren(...shown.slice(0, 500).map(row));
  element("message").textContent = shown.length > 500 ? `${shown.length} runs; the newest 500 are shown` : "";
  const compare = element("compare");
  compare.hidden = chosen.length !== 2;
  compare.target = "_blank";
  compare.href = `diff?a=${chosen[0]}&b=${chosen[1]}`;
}

// Lines that are cut off, as while one is being written, are skipped. Of a step that occurs twice, the later line counts.
function curve(lines, key) {
  const points = new Map();
  for (const line of lines) if (Number.isFinite(line[key])) points.set(line.step, line[key]);
  return [...points].sort((a, b) => a[0] - b[0]);
}

async function metrics(name) {
  const answer = await fetch(`api/metrics?run=${name}`);
  const text = answer.ok ? await answer.text() : "";
  return text.split("\n").flatMap((line) => {
    try {
      return [JSON.parse(line)];
    } catch {
      return [];
    }
  });
}

async function draw() {
  const names = [...chosen];
  const all = await Promise.all(names.map(metrics));
  // Others were chosen meanwhile, and are drawn.
  if (names.join() !== chosen.join()) return;
  const curves = all.map((lines) => ({ loss: curve(lines, "loss"), validation: curve(lines, "validation_loss") }));
  const points = curves.flatMap((one) => [...one.loss, ...one.validation]);
  const chart = element("chart");
  chart.replaceChildren();
  if (points.length === 0) {
    chart.append(shape("text", { class: "tick", x: 450, y: 150, "text-anchor": "middle" }, "choose runs in the list"));
  } else {
    const [low, high] = [0, 1].map((axis) => points.reduce((found, point) => [Math.min(found[0], point[axis]), Math.max(found[1], point[axis])], [Infinity, -Infinity]))
      .reduce((found, range) => [[...found[0], range[0]], [...found[1], range[1]]], [[], []]);
    const place = (value, axis, from, to) => from + ((value - low[axis]) / (high[axis] - low[axis] || 1)) * (to - from);
    const at = (point) => `${place(point[0], 0, AREA.left, AREA.right).toFixed(1)} ${place(point[1], 1, AREA.bottom, AREA.top).toFixed(1)}`;
    for (let tick = 0; tick <= 4; tick++) {
      const value = low[1] + ((high[1] - low[1]) * tick) / 4;
      const y = place(value, 1, AREA.bottom, AREA.top);
      chart.append(shape("line", { class: "grid", x1: AREA.left, x2: AREA.right, y1: y, y2: y }));
      chart.append(shape("text", { class: "tick", x: AREA.left - 8, y: y + 4, "text-anchor": "end" }, value.toPrecision(3)));
      const step = Math.round(low[0] + ((high[0] - low[0]) * tick) / 4);
      chart.append(shape("text", { class: "tick", x: place(step, 0, AREA.left, AREA.right), y: 290, "text-anchor": "middle" }, step.toLocaleString("en")));
    }
    curves.forEach((one, i) => {
      const path = (of, kind) => of.length && chart.append(shape("path", { class: `own c${i} ${kind}`, d: `M${of.map(at).join("L")}` }));
      path(one.loss, "light");
      path(one.validation, "");
      for (const point of one.validation) {
        const [cx, cy] = at(point).split(" ");
        chart.append(shape("circle", { class: `own c${i}`, cx, cy, r: 2.5 }));
      }
    });
  }
  const last = (of) => (of.length ? of[of.length - 1][1].toFixed(3) : "–");
  element("legend").replaceChildren(
    ...names.map((name, i) => make("li", { class: `c${i}` }, `${name}: loss ${last(curves[i].loss)}, validation ${last(curves[i].validation)}`)),
  );
}

async function poll() {
  try {
    const answer = await fetch("api/runs");
    const found = await answer.json();
    const changed = JSON.stringify(found) !== JSON.stringify(runs);
    const isFirst = runs.length === 0;
    runs = found;
    if (isFirst && runs.length > 0) chosen = [runs[0].name];
    if (changed || !isConnected) list();
    isConnected = true;
    if (isFirst || runs.some((run) => run.is_alive && chosen.includes(run.name))) await draw();
    if (runs.length === 0) element("message").textContent = "There are no runs yet: pipeline run makes one.";
  } catch {
    isConnected = false;
    element("message").textContent = "The server has stopped: pipeline ui starts it.";
  }
  setTimeout(poll, POLL_MILLISECONDS);
}

element("filter").addEventListener("input", list);
poll();
