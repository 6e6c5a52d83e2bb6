// The two panes of the demo: what is under the pointer is outlined, a click or stroke becomes an event 'act', and
// everything that a page shows comes back from Python as `props.value`.
const stage = element.querySelector(".stage");
const panes = [...stage.querySelectorAll(".pane")];
const overlays = panes.map(pane => pane.querySelector("canvas"));
const SCALE = 4;  // pixels of the overlays for each pixel of the layout
const LOCK = { false: "M5 7V5a3 3 0 0 1 5.8-1l1.4-.6A4.5 4.5 0 0 0 3.5 5v2H3v7h10V7z",
               true: "M3.5 7V5a4.5 4.5 0 0 1 9 0v2h.5v7H3V7zM5 7h6V5a3 3 0 0 0-6 0z" };
const HINTS = { resample: "Click what is to get another style.",
                lock: "Click what is to keep its style.", paint: "Draw with the brush." };
let view = null, ids = null, outlines = new Map(), hovered = null, tool = "resample", path = null;

function send(act, more) {
  stage.classList.add("busy");
  trigger("act", { act, ...more });
}

function chooseTool(name) {
  tool = stage.dataset.tool = name;
  for (const button of stage.querySelectorAll("[data-tool]"))
    button.setAttribute("aria-pressed", button.dataset.tool === name);
  stage.querySelector(".brush").hidden = name !== "paint";
  hover(null);
}

// ---- what is shown ----

function readIds(image) {  // the ids are written as red + 256 green, without alpha, so that they come back exactly
  const canvas = document.createElement("canvas");
  canvas.width = view.width;
  canvas.height = view.height;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  const pixels = context.getImageData(0, 0, view.width, view.height).data;
  return Int32Array.from({ length: view.width * view.height }, (_, i) => pixels[4 * i] + 256 * pixels[4 * i + 1]);
}

function outline(id) {
  if (!outlines.has(id)) {
    const found = new Path2D(), { width, height } = view;
    const at = (x, y) => x >= 0 && y >= 0 && x < width && y < height && ids[y * width + x] === id;
    const side = (x0, y0, x1, y1) => { found.moveTo(x0 * SCALE, y0 * SCALE); found.lineTo(x1 * SCALE, y1 * SCALE); };
    for (let y = 0; y < height; y++)
      for (let x = 0; x < width; x++) {
        if (!at(x, y)) continue;
        if (!at(x - 1, y)) side(x, y, x, y + 1);
        if (!at(x + 1, y)) side(x + 1, y, x + 1, y + 1);
        if (!at(x, y - 1)) side(x, y, x + 1, y);
        if (!at(x, y + 1)) side(x, y + 1, x + 1, y + 1);
      }
    outlines.set(id, found);
  }
  return outlines.get(id);
}

function drawOverlays() {
  if (!view || !ids) return;
  for (const canvas of overlays) {
    const context = canvas.getContext("2d");
    context.clearRect(0, 0, canvas.width, canvas.height);
    for (const one of view.instances.filter(one => one.locked || one.id === hovered)) {
      context.setLineDash(one.id === hovered ? [] : [10, 8]);
      for (const [color, width] of [["#000a", 7], ["#fff", 3]]) {
        context.strokeStyle = color;
        context.lineWidth = width;
        context.stroke(outline(one.id));
      }
    }
    if (path) {
      const brush = view.classes.find(one => one.id === +stage.querySelector(".kind").value);
      context.setLineDash([]);
      context.lineCap = context.lineJoin = "round";
      context.strokeStyle = brush.color;
      context.lineWidth = 2 * SCALE * +stage.querySelector(".radius").value;
      context.beginPath();
      path.forEach(([x, y], i) => context[i ? "lineTo" : "moveTo"](SCALE * x, SCALE * y + (path.length < 2) * 0.01));
      if (path.length < 2) context.lineTo(SCALE * path[0][0], SCALE * path[0][1]);
      context.stroke();
    }
  }
}

function hover(id) {
  hovered = id;
  const one = view && view.instances.find(one => one.id === id);
  stage.querySelector(".hint").textContent = one ? one.name + (one.locked ? ", locked" : "") : HINTS[tool];
  for (const chip of stage.querySelectorAll(".chip")) chip.classList.toggle("hovered", +chip.dataset.id === id);
  drawOverlays();
}

function chip(one) {
  const make = (tag, className, textContent = "") => Object.assign(document.createElement(tag),
                                                                   { className, textContent });
  const chip = make("span", "chip" + (one.locked ? " locked" : "")), style = make("button", "style");
  chip.dataset.id = one.id;
  chip.setAttribute("role", "listitem");
  const swatch = make("span", "swatch");
  swatch.style.background = one.color;
  style.append(swatch, make("span", "", one.name));
  style.title = `Another style for: ${one.name}`;
  style.onclick = () => send("resample", { instance: one.id });
  chip.append(style);
  if (one.id >= 0) {
    const lock = make("button", "lock");
    const shape = LOCK[one.locked];
    lock.innerHTML = `<svg viewBox="0 0 16 16" aria-hidden="true"><path fill-rule="evenodd" d="${shape}"/></svg>`;
    lock.setAttribute("aria-pressed", one.locked);
    lock.setAttribute("aria-label", (one.locked ? "Unlock: " : "Lock: ") + one.name);
    lock.onclick = () => send("lock", { instance: one.id });
    chip.append(lock);
  }
  chip.onpointerenter = () => hover(one.id);
  chip.onpointerleave = () => hover(null);
  return chip;
}

async function show(value) {
  if (!value || !value.picture) return;
  const image = Object.assign(new Image(), { src: value.ids });
  await image.decode();
  if (props.value !== value && props.value && props.value.count > value.count) return;  // a later one is on its way
  view = value;
  ids = readIds(image);
  outlines = new Map();
  path = null;
  stage.style.setProperty("--ratio", view.width / view.height);
  stage.querySelector(".panes").classList.toggle("wide", view.width > 1.3 * view.height);
  panes[0].querySelector("img").src = view.label;
  panes[1].querySelector("img").src = view.picture;
  for (const canvas of overlays) Object.assign(canvas, { width: SCALE * view.width, height: SCALE * view.height });
  const select = stage.querySelector(".kind");
  if (!select.options.length) {
    select.append(...view.classes.map(one => new Option(one.name, one.id)));
    stage.querySelector(".fresh").hidden = !view.has_instances;
    stage.querySelector(".radius").max = Math.round(Math.min(view.width, view.height) / 5);
    stage.querySelector(".radius").value = Math.round(Math.min(view.width, view.height) / 18);
  }
  stage.querySelector(".chips").replaceChildren(...view.instances.map(chip));
  stage.classList.remove("busy");
  stage.dataset.count = view.count;
  hover(view.instances.some(one => one.id === hovered) ? hovered : null);
}

// ---- what is done ----

function place(event, overlay) {
  const box = overlay.getBoundingClientRect();
  return [(event.clientX - box.left) / box.width * view.width, (event.clientY - box.top) / box.height * view.height];
}

function idAt([x, y]) {
  const column = Math.floor(x), row = Math.floor(y);
  return column >= 0 && row >= 0 && column < view.width && row < view.height ? ids[row * view.width + column] : null;
}

for (const overlay of overlays) {
  overlay.addEventListener("pointermove", event => {
    if (!view) return;
    const at = place(event, overlay);
    if (path) {
      const [x, y] = path[path.length - 1];
      if (Math.hypot(at[0] - x, at[1] - y) >= 1 && path.length < 1900) path.push(at);
      drawOverlays();
    } else if (tool !== "paint" && event.pointerType !== "touch") {
      const id = idAt(at);
      if (id !== hovered) hover(id);
    }
  });
  overlay.addEventListener("pointerleave", () => path || hover(null));
  overlay.addEventListener("pointerdown", event => {
    if (!view || tool !== "paint" || event.button) return;
    overlay.setPointerCapture(event.pointerId);
    path = [place(event, overlay)];
    drawOverlays();
  });
  overlay.addEventListener("pointerup", () => {
    if (!path) return;
    const [kind, radius] = [".kind", ".radius"].map(name => +stage.querySelector(name).value);
    send("paint", { kind, radius, points: path, fresh: stage.querySelector(".fresh input").checked });
  });
  overlay.addEventListener("pointercancel", () => {  // the system took the pointer, e.g. for a gesture
    path = null;
    drawOverlays();
  });
  overlay.addEventListener("click", event => {
    const id = view && tool !== "paint" ? idAt(place(event, overlay)) : null;
    if (id !== null) send(tool, { instance: id });
  });
}
for (const button of stage.querySelectorAll("[data-tool]")) button.onclick = () => chooseTool(button.dataset.tool);
document.addEventListener("keydown", event => {
  if (!(event.ctrlKey || event.metaKey) || event.target.matches("input, select, textarea")) return;
  const key = event.key.toLowerCase();
  if (key === "z" || key === "y") {
    event.preventDefault();
    send(key === "y" || event.shiftKey ? "redo" : "undo", {});
  }
});
chooseTool("resample");
watch("value", () => show(props.value));
show(props.value);
