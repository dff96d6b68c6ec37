// Pages by path, without a library: a store of the location, and links that do not reload.
import { Store } from "./store";

export interface Place {
  path: string;
  params: URLSearchParams;
}

function here(): Place {
  return { path: location.pathname.replace(/\/+$/, "") || "/", params: new URLSearchParams(location.search) };
}

export const place = new Store<Place>(here());

addEventListener("popstate", () => (place.value = here()));

export function go(to: string, replace = false): void {
  if (to === location.pathname + location.search) return;
  history[replace ? "replaceState" : "pushState"](null, "", to);
  const before = place.value.path;
  place.value = here();
  if (place.value.path !== before) scrollTo(0, 0);
}

/** Changes parameters of this page's address without a new entry in the history. */
export function setParams(changes: Record<string, string | null>): void {
  const params = new URLSearchParams(location.search);
  for (const [name, value] of Object.entries(changes))
    if (value === null || value === "") params.delete(name);
    else params.set(name, value);
  go(location.pathname + (params.size ? `?${params}` : ""), true);
}

/** Clicks on links of this site are ours, unless a key or the link itself says otherwise. */
export function takeLinks(): void {
  addEventListener("click", (e) => {
    if (e.defaultPrevented || e.button !== 0 || e.metaKey || e.ctrlKey || e.shiftKey || e.altKey) return;
    const link = (e.target as Element | null)?.closest?.("a");
    if (!link || link.target || link.hasAttribute("download") || link.origin !== location.origin) return;
    if (link.getAttribute("href")?.startsWith("#")) return;
    e.preventDefault();
    go(link.pathname + link.search);
  });
}

export { match } from "./router-match";
