// Tiles that take a file each, `props.value` [{kind, title, note, picture, state}], dropped or chosen: its bytes go
// along with an event 'take', and lie in no folder there.
const drops = element.querySelector(".drops");
function show(tiles) {
  const make = (tag, properties) => Object.assign(document.createElement(tag), properties);
  drops.replaceChildren(...(tiles || []).map(({ kind, title, note, picture, state }) => {
    const tile = make("label", { className: `drop ${state || ""}` });
    tile.dataset.kind = kind;
    tile.append(make("strong", { textContent: title }), make("input", {
      type: "file", accept: kind === "styles" ? ".npz" : "image/*", ariaLabel: title }));
    if (picture) tile.append(make("img", { src: picture, alt: "" }));
    tile.append(make("span", { textContent: note }));
    return tile;
  }));
}
let last;
function update() {
  const value = JSON.stringify(props.value);
  if (value !== last || drops.querySelector(".reading")) show(props.value);
  last = value;
}
watch("value", update);
update();
function take(tile, file) {
  const note = tile.querySelector("span");
  if (!file) return;
  if (file.size > props.most_bytes) {
    tile.classList.add("wrong");
    note.textContent = `${file.name}: more than ${props.most_bytes >> 20} MB; make it smaller`;
    return;
  }
  note.textContent = "…";
  tile.classList.add("reading");
  const reader = new FileReader();
  reader.onload = () => trigger("take", { kind: tile.dataset.kind, name: file.name,
                                          data: reader.result.split(",")[1] || "" });
  reader.readAsDataURL(file);
}
element.addEventListener("change", event => {
  take(event.target.closest(".drop"), event.target.files[0]);
  event.target.value = "";
});
for (const kind of ["dragover", "dragleave", "drop"])
  element.addEventListener(kind, event => {
    const tile = event.target.closest(".drop");
    if (!tile) return;
    event.preventDefault();
    tile.classList.toggle("over", kind === "dragover");
    if (kind === "drop") take(tile, event.dataTransfer.files[0]);
  });
