// The two panes of the demo: what is under the pointer is outlined, a click or stroke becomes an event 'act', and
// everything that a page shows comes back from Python as `props.value`. What is painted is in brush.js.
const stage = element.querySelector(".stage"), find = selector => stage.querySelector(selector);
const panes = [...stage.querySelectorAll(".pane")];
const overlays = panes.map(pane => pane.querySelector("canvas"));
const SCALE = 4;  // pixels of the overlays for each pixel of the layout
const LOCK = { false: "M5 7V5a3 3 0 0 1 5.8-1l1.4-.6A4.5 4.5 0 0 0 3.5 5v2H3v7h10V7z",
               true: "M3.5 7V5a4.5 4.5 0 0 1 9 0v2h.5v7H3V7zM5 7h6V5a3 3 0 0 0-6 0z" };
const HINTS = { resample: "Click a part: it gets a new look.", offer: "Click a part: you see six looks of it.",
                lock: "Click a part: it keeps its look.", take: "Click a part on the left, or drag it over.",
                paint: "Draw in the layout or over the picture." };
const KEPT = "inade";  // in the browser's storage of this tab: what a reload shows again
// a map of ids: {ids, width, height, outlines}; of the layout, and of the picture to take from
let view = null, here = null, there = null, hovered = null, tool = "resample", taken = null, isDragged = false, isNew = true;

function work(isOffer) {  // what is asked for is being drawn
  stage.classList.add("busy");
  if (isOffer) document.dispatchEvent(new Event("offer"));
}

function send(act, more) {
  work(act === "offer");
  trigger("act", { act, ...more });
}

function chooseTool(name) {
  tool = stage.dataset.tool = name;
  for (const button of stage.querySelectorAll("[data-tool]"))
    button.setAttribute("aria-pressed", button.dataset.tool === name);
  taken = null;
  showLeft();
  hover(null);
}

function say(text) {
  const notice = find(".notice");
  notice.textContent = text;
  notice.hidden = false;
  clearTimeout(say.timer);
  say.timer = setTimeout(() => { notice.hidden = true; }, 10000);
}

// ---- what is shown ----

async function readIds(source, { width, height }) {  // they are red + 256 green, without alpha, so that they come back exactly
  const image = Object.assign(new Image(), { src: source });
  await image.decode();
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  const pixels = context.getImageData(0, 0, width, height).data;
  const ids = Int32Array.from({ length: width * height }, (_, i) => pixels[4 * i] + 256 * pixels[4 * i + 1]);
  return { source, ids, width, height, outlines: new Map() };
}

function outline({ ids, width, height, outlines }, id) {
  if (!outlines.has(id)) {
    const found = new Path2D();
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

function drawOutline(context, map, id, dashes = []) {
  context.setLineDash(dashes);
  for (const [color, width] of [["#000a", 7], ["#fff", 3]]) {
    context.strokeStyle = color;
    context.lineWidth = width;
    context.stroke(outline(map, id));
  }
}

function isSource(overlay) { return tool === "take" && there && overlay === overlays[0]; }

function drawOverlays() {
  if (!here) return;
  for (const overlay of overlays) {
    const context = overlay.getContext("2d");
    context.clearRect(0, 0, overlay.width, overlay.height);
    if (isSource(overlay)) {
      for (const id of new Set([taken, hovered && hovered.source ? hovered.id : null]))
        if (id !== null) drawOutline(context, there, id);
      continue;
    }
    for (const one of view.instances) {
      const isHovered = hovered && !hovered.source && one.id === hovered.id;
      if (one.locked || isHovered) drawOutline(context, here, one.id, isHovered ? [] : [10, 8]);
    }
    drawBrush(context);
  }
}

function showLeft() {  // the layout, or what to take from
  if (!view) return;
  const image = panes[0].querySelector("img"), source = tool === "take" && view.source;
  image.src = source ? source.picture : view.label;
  image.alt = source ? `Picture to copy looks from: ${source.name}` : "Layout";
  panes[0].classList.toggle("source", Boolean(source));
  find("#take-all").disabled = !source;
}

function hover(id, source = false) {
  hovered = id === null ? null : { id, source };
  const one = view && id !== null && (source ? view.source : view).instances.find(one => one.id === id);
  find(".hint").textContent = one ? one.name + (one.locked ? ", kept" : "")
    : tool === "take" && taken !== null ? "Click the part that is to get this look." : HINTS[tool];
  for (const chip of stage.querySelectorAll(".chip")) chip.classList.toggle("hovered", !source && +chip.dataset.id === id);
  drawOverlays();
}

function chip(one) {
  const make = (tag, className, textContent = "") => Object.assign(document.createElement(tag),
                                                                   { className, textContent });
  const chip = make("span", "chip" + (one.locked ? " locked" : "")), style = make("button", "style");
  Object.assign(chip.dataset, one);
  chip.setAttribute("role", "listitem");
  const swatch = make("span", "swatch");
  swatch.style.background = one.color;
  style.append(swatch, make("span", "", one.name));
  if (one.id < 0) style.title = "Light, place and colours of the whole picture (z)";
  style.onclick = () => tool === "paint" ? chooseKind(one.kind) : act(one.id, tool === "lock" ? "resample" : tool);
  chip.append(style);
  if (one.id >= 0) {
    const lock = make("button", "lock"), shape = LOCK[one.locked];
    lock.innerHTML = `<svg viewBox="0 0 16 16" aria-hidden="true"><path fill-rule="evenodd" d="${shape}"/></svg>`;
    lock.setAttribute("aria-pressed", one.locked);
    lock.setAttribute("aria-label", (one.locked ? "Let go: " : "Keep: ") + one.name);
    lock.onclick = () => send("lock", { instance: one.id });
    chip.append(lock);
  }
  chip.onpointerenter = () => hover(one.id);
  chip.onpointerleave = () => hover(null);
  return chip;
}

function showChips() {  // what had the focus has it again
  const focused = stage.contains(document.activeElement) && document.activeElement.closest(".chip button");
  const [id, kind] = focused ? [focused.parentElement.dataset.id, focused.className] : [];
  find(".chips").replaceChildren(...view.instances.map(chip));
  if (focused) (find(`.chip[data-id="${id}"] .${kind}`) || find(".chip button")).focus({ preventScroll: true });
}

async function show(value) {
  if (!value || !value.picture) return;
  const source = value.source && (there && there.source === value.source.ids ? there : await readIds(value.source.ids, value));
  const map = await readIds(value.ids, value);
  if (props.value !== value && props.value && props.value.count > value.count) return;  // a later one is on its way
  if (view && view.count === value.count) return;  // told twice
  const isFirst = !view, isOther = isFirst || view.model !== value.model, isChosen = source && source !== there;
  if (there !== source) taken = null;
  [view, here, there] = [value, map, source];
  stroke = null;
  stage.style.setProperty("--ratio", view.width / view.height);
  find(".panes").classList.toggle("wide", view.width > 1.3 * view.height);
  panes[1].querySelector("img").src = find(".save").href = view.picture;
  find(".composite").hidden = !view.composite;
  for (const overlay of overlays) {
    overlay.width = SCALE * view.width;
    overlay.height = SCALE * view.height;
  }
  if (isOther) startBrush();
  if (isOther) zoomTo(1);
  if (isChosen && !isFirst) chooseTool("take");
  for (const name of ["undo", "redo"]) find(`#${name}`).setAttribute("aria-disabled", !view[`can_${name}`]);
  showLeft();
  showChips();
  showBrush();
  stage.classList.remove("busy");
  document.dispatchEvent(new Event("drawn"));
  stage.dataset.count = view.count;
  hover(hovered && view.instances.some(one => one.id === hovered.id) ? hovered.id : null);
  keep();
}

// ---- what is kept: a reload, and whoever opens a link, see this picture again ----

function keep() {
  const link = location.hash.slice(1), before = JSON.parse(sessionStorage.getItem(KEPT) || "{}");
  if (isNew && (link || before.saved)) {
    isNew = false;
    history.replaceState(null, "", location.pathname);
    try {
      send("restore", link ? { saved: JSON.parse(atob(link)) } : before);
    } catch {
      stage.classList.remove("busy");
      say("The link is not whole: copy all of it.");
    }
    return;
  }
  isNew = false;
  sessionStorage.setItem(KEPT, JSON.stringify({ visitor: window.inadeVisitor, saved: view.saved }));
}

find("#share").onclick = async () => {
  const link = `${location.origin}${location.pathname}#${btoa(JSON.stringify(view.saved))}`;
  try {
    await navigator.clipboard.writeText(link);
    say("The link is copied. It holds the layout and the looks; nothing is kept here.");
  } catch {  // no leave, or no https: it stands in the address
    history.replaceState(null, "", link);
    say("Copy the address of this page: it holds the layout and the looks.");
  }
};

// ---- what is done ----

function place(event, overlay) {
  const box = overlay.getBoundingClientRect();
  return [(event.clientX - box.left) / box.width * view.width, (event.clientY - box.top) / box.height * view.height];
}

function idAt({ ids, width, height }, [x, y]) {
  const column = Math.floor(x), row = Math.floor(y);
  return column >= 0 && row >= 0 && column < width && row < height ? ids[row * width + column] : null;
}

function act(id, what) {
  if (what !== "take") send(what, { instance: id });
  else if (!there) say("First choose a picture to copy from.");
  else send("take", { instance: id, from: taken });  // null: from what is of its class
}

for (const overlay of overlays) {
  overlay.addEventListener("pointermove", event => {
    if (!view || tool === "paint" || event.pointerType === "touch") return;
    const source = isSource(overlay), id = idAt(source ? there : here, place(event, overlay));
    if (!hovered || id !== hovered.id || source !== hovered.source) hover(id, source);
  });
  overlay.addEventListener("pointerleave", () => tool === "paint" || hover(null));
  overlay.addEventListener("pointerdown", event => {
    const id = isSource(overlay) && !event.button ? idAt(there, place(event, overlay)) : null;
    isDragged = id !== null;
    if (isDragged) taken = id;
    drawOverlays();
  });
  overlay.addEventListener("click", event => {
    if (!view || tool === "paint") return;
    const source = isSource(overlay), id = idAt(source ? there : here, place(event, overlay));
    if (id === null) return;
    if (!source) act(id, tool);
    else {
      taken = id;
      hover(null);
    }
  });
}
stage.addEventListener("pointerup", event => {  // a part of the left picture is dragged to who gets its look
  const isThere = isDragged && document.elementFromPoint(event.clientX, event.clientY) === overlays[1];
  isDragged = false;
  if (isThere) act(idAt(here, place(event, overlays[1])), "take");
});
for (const button of stage.querySelectorAll("[data-tool]")) button.onclick = () => chooseTool(button.dataset.tool);
for (const name of ["undo", "redo"]) find(`#${name}`).onclick = () => view && view[`can_${name}`] && send(name, {});
find("#take-all").onclick = () => send("take all", {});
find(".notice").onclick = () => { find(".notice").hidden = true; };
document.addEventListener("click", event => {  // what is asked for around the stage
  if (event.target.closest("#sample, #six, .strip button")) work(event.target.closest("#six"));
});
document.addEventListener("keydown", event => {
  if (!(event.ctrlKey || event.metaKey) || event.target.matches("input:not([type=range]):not([type=checkbox]), textarea")) return;
  const key = event.key.toLowerCase();
  if (key === "z" || key === "y") {
    event.preventDefault();
    send(key === "y" || event.shiftKey ? "redo" : "undo", {});
  }
});
