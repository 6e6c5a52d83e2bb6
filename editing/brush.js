// Painting: brush, fill, eraser, and what picks a class.
let stroke = null, brush = "paint", kind = null, cursor = null;  // stroke: [x, y]s so far; cursor: where the pointer is
const radius = find(".radius"), kindInput = find(".kind input");

function isPainting() { return view && tool === "paint"; }

function chooseBrush(name) {
  brush = name;
  for (const button of stage.querySelectorAll("[data-brush]"))
    button.setAttribute("aria-pressed", button.dataset.brush === name);
}

function chooseKind(id) {
  kind = id >= 0 ? id : kind;
  if (brush === "pick" || brush === "erase") chooseBrush("paint");
  showBrush();
}

function startBrush() {  // for the classes of a model: those of the layout come first
  const side = Math.min(view.width, view.height), inLayout = new Set(view.instances.map(one => one.kind));
  kind = view.instances.find(one => one.kind >= 0 && one.kind !== view.background)?.kind ?? view.classes.at(-1).id;
  const sorted = [...view.classes].sort((a, b) => inLayout.has(b.id) - inLayout.has(a.id) || a.name.localeCompare(b.name));
  find("datalist").replaceChildren(...sorted.map(one => Object.assign(document.createElement("option"), { value: one.name })));
  find(".fresh").hidden = !view.has_instances;
  find("[data-brush=erase]").hidden = view.background === null;
  Object.assign(radius, { max: Math.round(side / 5), value: Math.round(side / 18) });
}

function showBrush() {
  const one = view.classes.find(one => one.id === kind);
  find(".kind .swatch").style.background = one.color;
  if (document.activeElement !== kindInput) kindInput.value = one.name;
  find(".size output").textContent = `${2 * radius.value} px`;
  for (const chip of stage.querySelectorAll(".chip")) chip.classList.toggle("chosen", +chip.dataset.kind === kind);
  drawOverlays();
}

function drawBrush(context) {
  if (!isPainting()) return;
  const color = view.classes.find(one => one.id === (brush === "erase" ? view.background : kind)).color;
  context.setLineDash([]);
  if (stroke) {
    context.lineCap = context.lineJoin = "round";
    context.strokeStyle = color;
    context.lineWidth = 2 * SCALE * radius.value;
    context.beginPath();
    context.moveTo(SCALE * stroke[0][0], SCALE * stroke[0][1]);
    for (const [x, y] of stroke) context.lineTo(SCALE * x + 0.01, SCALE * y);
    context.stroke();
  }
  if (cursor && (brush === "paint" || brush === "erase"))
    for (const [color, width] of [["#000a", 5], ["#fff", 2]]) {
      context.strokeStyle = color;
      context.lineWidth = width;
      context.beginPath();
      context.arc(SCALE * cursor[0], SCALE * cursor[1], SCALE * radius.value, 0, 2 * Math.PI);
      context.stroke();
    }
}

function paintAt(at) {
  const id = idAt(here, at);
  if (brush === "pick" && id !== null) chooseKind(view.instances.find(one => one.id === id).kind);
  if (brush === "fill" && id !== null) send("fill", { kind, x: at[0], y: at[1], fresh: find(".fresh input").checked });
  if (brush === "paint" || brush === "erase") stroke = [at];
}

for (const overlay of overlays) {
  overlay.addEventListener("pointerdown", event => {
    if (!isPainting() || event.button) return;
    overlay.setPointerCapture(event.pointerId);
    if (document.activeElement === kindInput) kindInput.blur();
    paintAt(place(event, overlay));
    drawOverlays();
  });
  overlay.addEventListener("pointermove", event => {
    if (!isPainting()) return;
    const at = place(event, overlay), last = stroke && stroke[stroke.length - 1];
    cursor = event.pointerType === "touch" ? null : at;
    if (last && Math.hypot(at[0] - last[0], at[1] - last[1]) >= 1 && stroke.length < 1900) stroke.push(at);
    const one = idAt(here, at) !== null && view.instances.find(one => one.id === idAt(here, at));
    if (one && !stroke) find(".hint").textContent = one.name;
    drawOverlays();
  });
  overlay.addEventListener("pointerup", () => {
    if (!stroke) return;
    send("paint", { kind: brush === "erase" ? view.background : kind, radius: +radius.value, points: stroke,
                    fresh: brush === "paint" && find(".fresh input").checked });
  });
  const drop = () => {
    stroke = cursor = null;
    drawOverlays();
  };
  overlay.addEventListener("pointercancel", drop);  // the system took the pointer, e.g. for a gesture
  overlay.addEventListener("pointerleave", () => stroke || drop());
}
for (const button of stage.querySelectorAll("[data-brush]")) button.onclick = () => chooseBrush(button.dataset.brush);
radius.oninput = showBrush;
kindInput.onfocus = () => { kindInput.value = ""; };  // so that all are offered
kindInput.oninput = () => {
  const one = view.classes.find(one => one.name === kindInput.value);
  if (one) chooseKind(one.id);
};
kindInput.onblur = showBrush;
document.addEventListener("keydown", event => {
  if (!isPainting() || event.target === kindInput) return;
  if (event.key === "Escape" && stroke) {
    stroke = null;
    drawOverlays();
  }
  if (event.key === "[" || event.key === "]") {
    radius.value = +radius.value + (event.key === "]" ? 1 : -1);
    showBrush();
  }
});
chooseBrush("paint");
chooseTool("resample");
watch("value", () => show(props.value));
show(props.value);
