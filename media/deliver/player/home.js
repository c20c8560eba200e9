// Keeps the list of streams fresh without reloading the page.

const PERIOD_MS = 8_000;

/** Streams without a poster keep the plain ground. */
function hideBroken() {
  for (const picture of document.images) {
    if (picture.complete && !picture.naturalWidth) picture.hidden = true;
  }
}

async function refresh() {
  if (document.hidden) return;
  const answer = await fetch(location.href, { cache: "no-store" }).catch(() => null);
  if (!answer?.ok) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const [mine, theirs] = [document, page].map((from) => from.querySelector("main"));
  if (theirs && mine.innerHTML !== theirs.innerHTML && !mine.contains(document.activeElement)) {
    mine.replaceChildren(...theirs.childNodes);
  }
}

document.addEventListener("error", hideBroken, { capture: true });
hideBroken();
setInterval(refresh, PERIOD_MS);
document.addEventListener("visibilitychange", refresh);
