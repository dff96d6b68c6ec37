// Light, dark, or what the system says; kept on this device.
import { Store } from "./store";

export type Theme = "system" | "light" | "dark";
const KEY = "caged.theme";
const dark = matchMedia("(prefers-color-scheme: dark)");

function saved(): Theme {
  try {
    const v = localStorage.getItem(KEY);
    return v === "light" || v === "dark" ? v : "system";
  } catch {
    return "system";
  }
}

export const theme = new Store<Theme>(saved());
/** What is shown now. */
export const shown = new Store<"light" | "dark">("light");

function apply(): void {
  const now = theme.value === "system" ? (dark.matches ? "dark" : "light") : theme.value;
  document.documentElement.dataset["theme"] = now;
  shown.value = now;
}

export function setTheme(next: Theme): void {
  try {
    localStorage.setItem(KEY, next);
  } catch {
    // it lasts as long as the page
  }
  theme.value = next;
  apply();
}

export function followTheme(): void {
  dark.addEventListener("change", apply);
  apply();
}
