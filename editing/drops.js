// Tiles that take a file each, dropped or chosen: its bytes go along with an event 'take', and lie in no folder there.
function take(tile, file) {
  const note = tile.querySelector("span");
  if (!file) return;
  if (file.size > props.most_bytes) {
    tile.classList.add("wrong");
    note.textContent = `${file.name}: more than ${props.most_bytes >> 20} MB; make it smaller`;
    return;
  }
  note.textContent = "…";
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
