// A row of pictures: a click on the n-th is an event 'pick'.
element.addEventListener("click", event => {
  const button = event.target.closest("button[data-index]");
  if (button) trigger("pick", { index: +button.dataset.index });
});
