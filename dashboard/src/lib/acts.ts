// What a line of the audit log means to a person. Pure.

/** "DELETE /v1/sandboxes/{id}" in words, as far as the path tells: "sandbox deleted". */
export function actWords(action: string): string {
  const [method = "", path = ""] = action.split(" ");
  const words = path
    .replace(/^\/v1\//, "")
    .split("/")
    .filter((w) => w && !w.startsWith("{"))
    .map((w) => w.replace(/[-_]/g, " "));
  const last = words[words.length - 1] ?? "";
  const verbs: Record<string, string> = { POST: "made", PUT: "set", PATCH: "changed", DELETE: "deleted" };
  const one = last.replace(/(x|s)es$/, "$1").replace(/ies$/, "y").replace(/([^s])s$/, "$1");
  const acted = /^(pause|resume|fork|restore|protect|share|exec|login|logout|signup|read|read all|resolve|test|approve|refuse|gc|cancel)$/.test(last);
  const object = words.length > 1 ? `${words[words.length - 2]!}: ` : "";
  if (acted) return `${object}${last}${method === "DELETE" ? " taken back" : ""}`;
  return `${one} ${verbs[method] ?? method.toLowerCase()}`;
}
