// What Python hands over as `props.value` {name, data} becomes a download of the browser; nothing lies on the server.
watch("value", () => {
  if (!props.value) return;
  const bytes = Uint8Array.from(atob(props.value.data), letter => letter.charCodeAt(0));
  const url = URL.createObjectURL(new Blob([bytes]));
  Object.assign(document.createElement("a"), { href: url, download: props.value.name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
});
