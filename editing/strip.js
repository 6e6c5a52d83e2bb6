// A row of pictures with their names: `props.value` [{name, picture, state}], or where that is {group}, those of
// `props.pictures` that are of it, with a tab for each of `props.groups`. A click on the n-th is an event 'pick'; in the
// history it is 'take' while looks are taken.
const strip = element.querySelector(".strip"), tabs = element.querySelector(".tabs"), groups = props.groups || [];
const isOffer = element.closest("#offers"), heading = element.querySelector("h2"), words = heading.textContent;
const make = (tag, properties) => Object.assign(document.createElement(tag), properties);
function click(index) {
  const takes = element.closest("#history") && document.querySelector("#stage .stage").dataset.tool === "take";
  trigger(takes ? "take" : "pick", { index });
  if (props.pictures.length) document.querySelector("#stage .panes").scrollIntoView({ block: "nearest" });
}
function show(value) {
  const group = value && value.group, all = group ? props.pictures : value || [];
  const shown = all.map((one, index) => ({ ...one, index })).filter(one => !group || one.group === group);
  const focused = [...strip.children].indexOf(document.activeElement);
  strip.replaceChildren(...shown.map(({ name, picture, state, index }) => {
    const button = make("button", { type: "button", className: state || "", title: name, onclick: () => click(index) });
    button.append(make("img", { src: picture, alt: "" }), make("span", { textContent: name }));
    return button;
  }));
  heading.hidden = !shown.length;
  heading.textContent = words;
  element.ariaBusy = "false";
  if (shown.length && isOffer) element.scrollIntoView({ block: "nearest" });
  if (focused >= 0 && shown.length) strip.children[Math.min(focused, shown.length - 1)].focus({ preventScroll: true });
  const current = strip.querySelector(".current");
  if (current) strip.scrollLeft = current.offsetLeft - strip.clientWidth + current.offsetWidth + 20;
  if (groups.length < 2) return;
  const had = [...tabs.children].indexOf(document.activeElement);
  tabs.replaceChildren(...groups.map(({ id, title }) => {
    const tab = make("button", { type: "button", textContent: title, role: "tab", ariaSelected: String(id === group) });
    tab.onclick = () => id === group || click(props.pictures.findIndex(one => one.group === id));
    return tab;
  }));
  if (had >= 0) tabs.children[had].focus({ preventScroll: true });
}
function wait() {  // empty places, until there are pictures
  const aspectRatio = document.querySelector("#stage .stage").style.getPropertyValue("--ratio");
  strip.replaceChildren(...Array.from({ length: 6 }, () => {
    const place = make("span", { className: "place" });
    place.style.aspectRatio = aspectRatio;
    return place;
  }));
  heading.hidden = false;
  heading.textContent = "Six looks are being drawn …";
  element.ariaBusy = "true";
  element.scrollIntoView({ block: "nearest" });
}
if (isOffer) {
  heading.role = "status";
  document.addEventListener("offer", wait);
  document.addEventListener("drawn", () => element.ariaBusy === "true" && show(props.value));  // the same, after an error
}
let last;
function update() {  // fixed pictures stay as they are
  const value = JSON.stringify(props.value);
  if (value !== last) show(props.value);
  last = value;
}
watch("value", update);
update();
