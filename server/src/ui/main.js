// Decides by the path which page this is, and fills what both share.

import { call, el } from "./api.js";
import { startQuery } from "./query.js";
import { startTargets } from "./targets.js";

const page = location.pathname.replace(/\/+$/, "").endsWith("/targets") ? "targets" : "query";
document.getElementById(page).hidden = false;
document.querySelector(`nav a[data-page="${page}"]`).setAttribute("aria-current", "page");
document.title = page === "targets" ? "Targets · tidegauge" : "Query · tidegauge";

if (page === "targets") startTargets();
else startQuery();

async function about() {
  const { data } = await call("status/buildinfo");
  const own = data.branch.replace(/^tidegauge-/, "");
  document.getElementById("about").textContent = `tidegauge ${own} · API of Prometheus ${data.version}`;
}

/** What the configuration holds and this version does not do: said aloud, never silently left out. */
async function banner() {
  const { warnings = [] } = await call("status/config");
  if (!warnings.length) return;
  const box = document.getElementById("banner");
  box.replaceChildren(
    el("b", {}, "Parts of the configuration have no effect:"),
    el("ul", {}, warnings.map((text) => el("li", {}, text.replace(/^configuration section without effect in this version: /, "")))),
  );
  box.hidden = false;
}

about().catch(() => {});
banner().catch(() => {});
