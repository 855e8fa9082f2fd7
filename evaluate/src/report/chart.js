// Line charts: the values under the pointer, and a closer look at the steps between two points (drag; double-click
// shows all again). Without scripts, the charts stand as they are.
for (const svg of document.querySelectorAll("svg.chart[data-x]")) {
  const [from, to] = svg.dataset.x.split(" ").map(Number);
  const [low, high] = svg.dataset.y.split(" ").map(Number);
  const { width, height } = svg.viewBox.baseVal;
  const box = { left: 46, right: width - 14, top: 12, bottom: height - 30 };
  let view = { from, to, low, high };
  const x = (value) => box.left + ((value - view.from) / (view.to - view.from || 1)) * (box.right - box.left);
  const y = (value) => box.bottom - ((value - view.low) / (view.high - view.low || 1)) * (box.bottom - box.top);
  const stepAt = (px) => view.from + ((px - box.left) / (box.right - box.left)) * (view.to - view.from);
  const valueAt = (py) => view.low + ((box.bottom - py) / (box.bottom - box.top)) * (view.high - view.low);
  const point = (px, py) => [stepAt(px), valueAt(py)];
  const lines = [...svg.querySelectorAll("path.line")].map((path) => ({
    path,
    parts: path.getAttribute("d").split("M").slice(1).map((part) =>
      part.split("L").map((pair) => point(...pair.split(" ").map(Number)))),
  }));
  const marks = [...svg.querySelectorAll("circle.line")].map((circle) =>
    ({ circle, at: point(+circle.getAttribute("cx"), +circle.getAttribute("cy")) }));
  const ticks = [...svg.querySelectorAll("text.tick[data-tick]")];
  const shown = (value) => (Math.abs(value) >= 1000 ? Math.round(value).toLocaleString("en")
    : +value.toPrecision(4) + "");
  const add = (parent, name, attributes) => {
    const element = document.createElementNS(svg.namespaceURI, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    return parent.appendChild(element);
  };
  const cursor = add(svg, "line", { class: "cursor", y1: box.top, y2: box.bottom, visibility: "hidden" });
  const band = add(svg, "rect", { class: "band", y: box.top, height: box.bottom - box.top, visibility: "hidden" });
  const label = add(svg, "text", { class: "tick readout", y: box.top + 2, visibility: "hidden" });
  const draw = () => {
    const inside = ([step]) => step >= view.from && step <= view.to;
    for (const { path, parts } of lines) {
      const visible = parts.map((part) => part.filter(inside)).filter((part) => part.length);
      path.setAttribute("d", visible.map((part) => "M" + part.map(([a, b]) => `${x(a)} ${y(b)}`).join("L")).join(""));
    }
    for (const { circle, at } of marks) {
      circle.setAttribute("visibility", inside(at) ? "visible" : "hidden");
      circle.setAttribute("cx", x(at[0]));
      circle.setAttribute("cy", y(at[1]));
    }
    for (const tick of ticks) {
      tick.textContent = shown(tick.dataset.tick === "x" ? stepAt(+tick.getAttribute("x")) : valueAt(+tick.getAttribute("y") - 4));
    }
  };
  const zoom = (a, b) => {
    const values = lines.flatMap(({ parts }) => parts.flat()).filter(([step]) => step >= a && step <= b).map(([, value]) => value);
    if (b - a <= 0 || values.length < 2) return;
    const [min, max] = [Math.min(...values), Math.max(...values)];
    const margin = (max - min) * 0.05 || Math.abs(max) * 0.05 || 1;
    view = { from: a, to: b, low: min - margin, high: max + margin };
    draw();
  };
  const pointer = (event) => {
    const area = svg.getBoundingClientRect();
    return Math.min(box.right, Math.max(box.left, ((event.clientX - area.left) / area.width) * width));
  };
  let start = null;
  svg.addEventListener("pointerdown", (event) => { start = pointer(event); svg.setPointerCapture(event.pointerId); });
  svg.addEventListener("pointermove", (event) => {
    const px = pointer(event);
    const step = stepAt(px);
    const values = lines.map(({ parts }) => parts.flat().reduce((best, at) =>
      Math.abs(at[0] - step) < Math.abs(best[0] - step) ? at : best, [Infinity, 0]));
    const near = values.filter(([at]) => Number.isFinite(at));
    label.textContent = near.length ? `${shown(near[0][0])}: ${near.map(([, value]) => shown(value)).join(", ")}` : "";
    const isRight = px > width / 2;
    label.setAttribute("x", isRight ? px - 6 : px + 6);
    label.setAttribute("text-anchor", isRight ? "end" : "start");
    cursor.setAttribute("x1", px);
    cursor.setAttribute("x2", px);
    for (const element of [cursor, label]) element.setAttribute("visibility", "visible");
    if (start === null) return;
    band.setAttribute("x", Math.min(start, px));
    band.setAttribute("width", Math.abs(px - start));
    band.setAttribute("visibility", "visible");
  });
  svg.addEventListener("pointerup", (event) => {
    const [a, b] = [start ?? 0, pointer(event)].sort((one, other) => one - other);
    if (start !== null && b - a > 8) zoom(stepAt(a), stepAt(b));
    start = null;
    band.setAttribute("visibility", "hidden");
  });
  svg.addEventListener("pointerleave", () => {
    for (const element of [cursor, label]) element.setAttribute("visibility", "hidden");
  });
  svg.addEventListener("dblclick", () => { view = { from, to, low, high }; draw(); });
}
