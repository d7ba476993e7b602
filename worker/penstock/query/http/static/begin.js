function step(by) {
  const items = [...$("hits").children];
  if (!items.length) return;
  const at = items.indexOf(document.activeElement.closest("#hits > li"));
  const next = Math.max(-1, Math.min(items.length - 1, at + by));
  if (next < 0) $("q").focus(); else items[next].focus();
}

document.addEventListener("keydown", (event) => {
  const typing = /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName);
  if (event.ctrlKey || event.metaKey || event.altKey || $("document").open) return;
  if (event.key === "Escape") { $("q").focus(); $("q").select(); event.preventDefault(); }
  else if (event.key === "/" && !typing) { $("q").focus(); $("q").select(); event.preventDefault(); }
  else if (event.key === "ArrowDown" && (!typing || event.target === $("q"))) { step(1); event.preventDefault(); }
  else if (event.key === "ArrowUp" && !typing) { step(-1); event.preventDefault(); }
  else if (event.key === "j" && !typing) step(1);
  else if (event.key === "k" && !typing) step(-1);
  else if (event.key === "Enter" && event.target.matches("#hits > li")) {
    event.preventDefault(); // else it presses the button that has the focus by then
    event.target.querySelector("h2 a").click();
  }
});
$("form").addEventListener("submit", (event) => { event.preventDefault(); followed = null; go(asTyped()); });
$("rerank").addEventListener("change", () => go(asTyped()));
$("modes").addEventListener("change", () => go(asTyped()));
$("further").addEventListener("click", () => search(true));
$("home").addEventListener("click", (event) => { event.preventDefault(); go({}); $("q").focus(); });
$("document").addEventListener("close", () => { if (asItIs().doc) go({ ...asItIs(), doc: "" }); });
$("key-field").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("key", $("key").value);
  begin();
});
$("tenant").addEventListener("change", () => overview());
window.addEventListener("popstate", follow);

let counted = null; // the tenant whose documents are told of

function askForKey(said = "") {
  $("key-field").hidden = false;
  $("key-field").classList.toggle("bad", Boolean(said));
  $("key-said").textContent = said || "This worker asks for an API key.";
}

async function overview() {
  counted = $("tenant").value;
  try {
    const there = await get(`v1/overview?${new URLSearchParams(whose())}`);
    info.overview = there;
    facets = there.facets;
    $("amount").textContent = `${count(there.documents, "document")} to search`;
    $("examples").replaceChildren(...there.examples.map((text) => {
      const button = made("button", { type: "button", dir: "auto", textContent: text });
      button.addEventListener("click", () => { $("q").value = text; go(asTyped()); });
      return button;
    }));
    $("start").hidden = Boolean($("q").value.trim());
    showFacets();
  } catch (error) { if (error.status !== 503) say(error.message, true); }
}

async function begin() {
  $("key").value = sessionStorage.getItem("key") ?? "";
  try {
    info = await get("v1/info");
  } catch (error) { say(`no answer: ${error.message}`, true); return; }
  if (info.keys) askForKey(info.model || !$("key").value ? "" : "This key is not known here.");
  $("tenant-field").hidden = info.keys;
  if (!info.model) { $("served").textContent = "needs a key"; return; }
  if (info.keys) $("key-said").textContent = "API key";
  const reranker = info.model.reranker ?? "no reranker";
  const short = (name) => name.replace(/@(.{14}).*/, "@$1…");
  $("served").textContent = `${short(info.model.embedding)}, ${info.model.dimension} dimensions · ${short(reranker)}`;
  $("instruction").placeholder = info.instruction || "these models take none";
  $("top_k").placeholder = info.top_k;
  $("candidates").placeholder = info.candidates;
  $("modes").hidden = info.modes.length < 2;
  for (const way of document.getElementsByName("mode")) way.defaultChecked = way.value === info.modes[0];
  $("rerank").disabled = !info.model.reranker;
  fetch("docs", { method: "HEAD" }).then((answer) => { $("docs").hidden = !answer.ok; });
  followed = counted = null;
  follow();
}
begin();
