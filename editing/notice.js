// What the visitor is told, `props.value` {text, count}: for some seconds, or until it is clicked.
const notice = element.querySelector(".notice");
let timer;
function hide() { notice.hidden = true; }
watch("value", () => {
  if (!props.value || !props.value.text) return;
  notice.textContent = props.value.text;
  notice.hidden = false;
  clearTimeout(timer);
  timer = setTimeout(hide, 10000);
});
notice.onclick = hide;
