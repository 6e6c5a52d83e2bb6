// Zoom: both panes show the same part, larger. Buttons, a pinch, or Ctrl and the wheel change how much; the wheel, or a
// drag where it neither paints nor takes, moves it.
let zoom = 1, corner = [0, 0], grip = null;  // corner: upper left of what is seen, as a share of the whole; grip: a drag

function zoomTo(factor, at = corner.map(start => start + 0.5 / zoom)) {  // what is there stays where it is on the screen
  const before = zoom;
  zoom = Math.min(8, Math.max(1, factor));
  corner = corner.map((start, i) => at[i] - (at[i] - start) * before / zoom);
  moveBy(0, 0);
}

function moveBy(x, y) {  // pixels of the screen; whether that changed anything
  const box = panes[1].getBoundingClientRect(), before = corner;
  corner = [x / box.width, y / box.height].map((by, i) => Math.max(0, Math.min(1 - 1 / zoom, before[i] + by / zoom)));
  Object.entries({ "--zoom": zoom, "--left": `${-100 * corner[0]}%`, "--top": `${-100 * corner[1]}%` }).forEach(
    one => stage.style.setProperty(...one));
  stage.classList.toggle("zoomed", zoom > 1);
  find(".zoom output").textContent = `${Math.round(100 * zoom)} %`;
  return corner.some((start, i) => start !== before[i]);
}

for (const overlay of overlays) {
  overlay.addEventListener("wheel", event => {
    const unit = event.deltaMode ? 20 : 1;  // lines or pixels
    if (event.ctrlKey) {
      const [x, y] = place(event, overlay);
      zoomTo(zoom * Math.exp(-event.deltaY * unit / 200), [x / view.width, y / view.height]);
    } else if (zoom === 1 || !moveBy(event.deltaX * unit, event.deltaY * unit)) return;  // then the page scrolls
    event.preventDefault();
  }, { passive: false });
  overlay.addEventListener("pointerdown", event => {
    if (zoom === 1 || isPainting() || isSource(overlay) || event.button) return;
    grip = { at: [event.clientX, event.clientY] };
    overlay.setPointerCapture(event.pointerId);
  });
  overlay.addEventListener("pointermove", event => {
    if (!grip || !event.buttons) return;
    const [x, y] = [grip.at[0] - event.clientX, grip.at[1] - event.clientY];
    if (!grip.moves && Math.hypot(x, y) < 5) return;  // still a click
    grip = { at: [event.clientX, event.clientY], moves: true };
    moveBy(x, y);
  });
  overlay.addEventListener("click", event => {
    if (grip && grip.moves) event.stopImmediatePropagation();
    grip = null;
  }, true);
}
for (const button of stage.querySelectorAll("[data-zoom]")) button.onclick = () => zoomTo(zoom * button.dataset.zoom);
