// A row of pictures with their names, `props.value` [{name, picture, state}]; a click on the n-th is an event 'pick'.
const strip = element.querySelector(".strip");
function show(pictures) {
  strip.replaceChildren(...(pictures || []).map(({ name, picture, state }, n) => {
    const make = (tag, properties) => Object.assign(document.createElement(tag), properties);
    const button = make("button", { type: "button", className: state || "", onclick: () => trigger("pick", { index: n }) });
    button.append(make("img", { src: picture, alt: "" }), make("span", { textContent: name }));
    return button;
  }));
}
watch("value", () => show(props.value));
show(props.value);
