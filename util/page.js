"use strict";
// Outlines of regions, a viewer of pictures at full size, a slider, the list of pages, and refreshing. Without this script a page
// still shows all pictures, and links lead to them.

// ---- regions ----

const decoded = new WeakMap(); // row -> promise of its regions

function regionsOf(row) {
  if (!row?.dataset.numbers) return null;
  if (!decoded.has(row)) decoded.set(row, decode(row));
  return decoded.get(row);
}

async function decode(row) {
  const bytes = Uint8Array.from(atob(row.dataset.numbers), (character) => character.charCodeAt(0));
  const inflated = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  const [width, height] = row.dataset.size.split(" ").map(Number);
  return { width, height, members: JSON.parse(row.dataset.members),
    numbers: new Uint32Array(await new Response(inflated).arrayBuffer()) };
}

// The edges between pixels of the chosen regions and others, as the path of an SVG. Edges in a line are one stroke.
function outline({ width, height, numbers, members }, isChosen) {
  const chosen = members.map(isChosen);
  const inside = (x, y) => x >= 0 && y >= 0 && x < width && y < height && chosen[numbers[y * width + x]];
  const path = [];
  for (let y = 0; y <= height; y++) {
    for (let x = 0, start = -1; x <= width; x++) {
      const edge = x < width && inside(x, y) !== inside(x, y - 1);
      if (edge && start < 0) start = x;
      if (!edge && start >= 0) path.push(`M${start} ${y}H${x}`), (start = -1);
    }
  }
  for (let x = 0; x <= width; x++) {
    for (let y = 0, start = -1; y <= height; y++) {
      const edge = y < height && inside(x, y) !== inside(x - 1, y);
      if (edge && start < 0) start = y;
      if (!edge && start >= 0) path.push(`M${x} ${start}V${y}`), (start = -1);
    }
  }
  return path.join("");
}

function draw(row, regions, path) {
  const figures = [...row.querySelectorAll("figure:not(.wide)")];
  if (viewer.row === row && !viewer.figure.className) figures.push(viewer.figure);
  for (const figure of figures) {
    const link = figure.querySelector("a");
    if (!link.querySelector(".outline")) {
      link.insertAdjacentHTML("beforeend", `<svg class="outline" preserveAspectRatio="none"
        viewBox="0 0 ${regions.width} ${regions.height}"><path/><path/></svg>`);
    }
    for (const stroke of link.querySelectorAll(".outline path")) stroke.setAttribute("d", path);
  }
}

let pointedAt = ""; // what is outlined
let latest = null; // event that is being answered

function clear() {
  pointedAt = "";
  latest = null;
  tip.hidden = true;
  for (const stroke of document.querySelectorAll(".outline path")) stroke.removeAttribute("d");
}

const tip = document.body.appendChild(document.createElement("div"));
tip.className = "tip";
tip.hidden = true;

function showTip(event, label, instance) {
  const entry = document.querySelector(`.legend [data-class="${label}"]`);
  const name = entry ? entry.textContent : `class ${label}`;
  tip.replaceChildren(...(entry ? [entry.querySelector("i").cloneNode()] : []), `${name} · instance ${instance}`);
  (viewer.open ? viewer : document.body).append(tip); // an open dialog hides what is outside of it
  tip.hidden = false;
  const { width, height } = tip.getBoundingClientRect();
  const left = Math.min(event.clientX + 14, innerWidth - width - 4);
  const top = event.clientY + 18 + height < innerHeight ? event.clientY + 18 : event.clientY - height - 10;
  Object.assign(tip.style, { left: `${Math.max(left, 4)}px`, top: `${top}px` });
}

async function pointAtPicture(event, figure) {
  const row = figure === viewer.figure ? viewer.row : figure.closest(".row");
  const waiting = !figure.className && regionsOf(row);
  if (!waiting) return clear();
  latest = event;
  const regions = await waiting;
  if (latest !== event) return;
  const box = figure.querySelector("img").getBoundingClientRect();
  const x = Math.floor(((event.clientX - box.left) / box.width) * regions.width);
  const y = Math.floor(((event.clientY - box.top) / box.height) * regions.height);
  if (x < 0 || y < 0 || x >= regions.width || y >= regions.height) return clear();
  const number = regions.numbers[y * regions.width + x];
  const target = `${rows.indexOf(row)} ${number}`;
  if (target !== pointedAt) {
    clear();
    pointedAt = target;
    latest = event;
    draw(row, regions, outline(regions, (_, other) => other === number));
  }
  showTip(event, ...regions.members[number]);
}

async function pointAtClass(label) {
  clear();
  const target = (pointedAt = `class ${label}`);
  for (const row of rows) {
    const { top, bottom } = row.getBoundingClientRect();
    const regions = bottom > 0 && top < innerHeight && (await regionsOf(row));
    if (pointedAt !== target) return;
    if (regions) draw(row, regions, outline(regions, ([other]) => other === label));
  }
}

const rows = [...document.querySelectorAll(".row")];
for (const kind of ["pointermove", "pointerdown"]) {
  document.addEventListener(kind, (event) => {
    if (!(event.target instanceof Element)) return;
    const figure = event.target.closest("figure a")?.parentElement;
    if (figure) pointAtPicture(event, figure);
    else if (pointedAt && !event.target.closest(".legend")) clear();
  });
}
for (const entry of document.querySelectorAll(".legend li")) {
  for (const kind of ["pointerenter", "focus"]) {
    entry.addEventListener(kind, () => pointAtClass(Number(entry.dataset.class)));
  }
  for (const kind of ["pointerleave", "blur"]) entry.addEventListener(kind, clear);
}

// ---- the viewer ----

const viewer = document.body.appendChild(document.createElement("dialog"));
viewer.className = "viewer";
viewer.innerHTML = `<figure><a><img></a><figcaption></figcaption></figure>
  <button class="previous" aria-label="previous">‹</button><button class="next" aria-label="next">›</button>
  <button class="close" aria-label="close">×</button>`;
viewer.figure = viewer.querySelector("figure");
const figures = [...document.querySelectorAll(".pictures figure")];

async function view(figure) {
  const [picture, shown] = [figure.querySelector("img"), viewer.querySelector("img")];
  clear();
  viewer.querySelector(".outline")?.remove();
  viewer.row = figure.closest(".row");
  viewer.at = figures.indexOf(figure);
  viewer.figure.className = figure.className;
  const caption = [viewer.row.querySelector("h2").textContent, picture.alt].filter(Boolean).join(" · ");
  shown.src = picture.src;
  shown.alt = picture.alt;
  shown.style.imageRendering = getComputedStyle(picture).imageRendering;
  if (!viewer.open) viewer.showModal();
  await shown.decode().catch(() => {});
  // small pictures are enlarged, but not beyond what there is to see
  const { naturalWidth: width, naturalHeight: height } = shown;
  const scale = Math.min((innerWidth - 24) / width, (innerHeight - 90) / height, 4);
  viewer.style.setProperty("--shown", `${Math.max(Math.round(width * scale), 1)}px`);
  viewer.querySelector("figcaption").textContent = `${caption} · ${width}×${height}`;
}

const step = (by) => view(figures[(viewer.at + by + figures.length) % figures.length]);
for (const figure of figures) {
  figure.querySelector("a").addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return; // the file itself, in another tab
    event.preventDefault();
    view(figure);
  });
}
viewer.addEventListener("click", (event) => {
  if (event.target.closest(".previous")) step(-1);
  else if (event.target.closest(".next")) step(1);
  else if (!event.target.closest("figure")) viewer.close();
});
viewer.addEventListener("keydown", (event) => {
  if (event.key === "ArrowLeft") step(-1);
  if (event.key === "ArrowRight") step(1);
});
viewer.addEventListener("close", clear);

// ---- the slider ----

const slider = document.querySelector(".slider input");
slider?.addEventListener("input", () => {
  document.querySelector(".slider output").textContent = JSON.parse(slider.dataset.positions)[slider.value];
  for (const picture of document.querySelectorAll("img[data-frames]")) {
    picture.src = picture.parentElement.href = JSON.parse(picture.dataset.frames)[slider.value];
  }
});

const { refresh } = document.documentElement.dataset;
const busy = () => viewer.open || (slider && slider.value !== slider.max);
if (refresh) setInterval(() => busy() || location.reload(), 1000 * refresh);

for (const pages of document.querySelectorAll("nav select")) {
  pages.addEventListener("change", () => (location.href = pages.value));
}
