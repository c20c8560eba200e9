// The watch page's addresses to copy: made whole here, as only the browser knows the host's name.

const COPIED_MS = 1_600;

for (const row of document.querySelectorAll("[data-copy]")) {
  const url = new URL(row.dataset.copy, location.href).href;
  const text = row.dataset.form === "embed" ? embedCode(url) : url;
  row.querySelector("code").textContent = text;
  const button = row.querySelector("button");
  button.addEventListener("click", async () => {
    button.textContent = (await copy(text, row.querySelector("code"))) ? "Copied" : "Press Ctrl+C";
    setTimeout(() => (button.textContent = "Copy"), COPIED_MS);
  });
}

function embedCode(url) {
  return `<iframe src="${url}" width="960" height="540" allow="autoplay; fullscreen; picture-in-picture" allowfullscreen></iframe>`;
}

/** Copy to the clipboard; without one (plain HTTP) select the text for the viewer. */
async function copy(text, element) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    getSelection().selectAllChildren(element);
    return document.execCommand("copy");
  }
}
