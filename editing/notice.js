// What the visitor is told, `props.value` {text, count, visitor}: at the picture, for some seconds or until it is clicked.
watch("value", () => {
  if (!props.value) return;
  window.inadeVisitor = props.value.visitor;
  const notice = document.querySelector("#stage .notice");
  if (!props.value.text || !notice) return;
  notice.textContent = props.value.text;
  notice.hidden = false;
  document.querySelector("#stage .stage").classList.remove("busy");
  clearTimeout(notice.timer);
  notice.timer = setTimeout(() => { notice.hidden = true; }, 10000);
});
