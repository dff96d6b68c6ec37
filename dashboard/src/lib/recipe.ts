// A sandbox as it is wished for: as a request, as a command line, as .caged.yaml. The three say the
// same. Pure.
import type { Sandbox } from "./types";

export interface Recipe {
  /** Of which team it is; empty: of the person. */
  team: string;
  name: string;
  template: string;
  cpus: number;
  memory_mb: number;
  disk_gb: number;
  network_mode: string;
  allowlist: string[];
  denylist: string[];
  budget: number;
  /** Seconds without use until it sleeps; null: the server's default. */
  timeout: number | null;
  repo: string;
  repo_branch: string;
  repo_commit: string;
  init_script: string;
  env: [string, string][];
  secrets: string[];
  agents: string[];
}

export const emptyRecipe: Recipe = {
  team: "",
  name: "",
  template: "minimal",
  cpus: 0,
  memory_mb: 0,
  disk_gb: 0,
  network_mode: "full",
  allowlist: [],
  denylist: [],
  budget: 0,
  timeout: null,
  repo: "",
  repo_branch: "",
  repo_commit: "",
  init_script: "",
  env: [],
  secrets: [],
  agents: [],
};

export function configOf(s: Sandbox): Recipe {
  return {
    ...emptyRecipe,
    team: s.team ?? "",
    name: s.name ?? "",
    template: s.template,
    cpus: s.cpus,
    memory_mb: s.memory_mb,
    disk_gb: s.disk_gb,
    network_mode: s.network_mode,
    allowlist: s.allowlist ?? [],
    denylist: s.denylist ?? [],
    timeout: s.timeout ?? null,
    budget: s.budget ?? 0,
    repo: s.repo_url ?? "",
    repo_branch: s.repo_branch ?? "",
    init_script: s.init_script ?? "",
    secrets: s.secrets ?? [],
    agents: s.agents ?? [],
  };
}

/** One word for a shell. */
export function shellWord(s: string): string {
  return s !== "" && /^[A-Za-z0-9_@%+=:,./-]+$/.test(s) ? s : `'${s.replaceAll("'", "'\\''")}'`;
}

/** A text for YAML: plain where that cannot be misread, else in double quotes. */
export function yamlText(s: string): string {
  const plain = /^[A-Za-z_./][A-Za-z0-9_ ./@+-]*$/.test(s) && !/^(true|false|null|yes|no|on|off|y|n|~)$/i.test(s) && !s.endsWith(" ");
  return plain ? s : JSON.stringify(s).replace(/[\u007f-\u009f\u2028\u2029\ufeff]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

/** `$` begins a variable of this machine in .caged.yaml; a doubled one is a dollar. */
function yamlValue(s: string): string {
  return yamlText(s.replaceAll("$", "$$$$"));
}

export function bodyOf(r: Recipe): Record<string, unknown> {
  const body: Record<string, unknown> = { template: r.template };
  if (r.team) body["team"] = r.team;
  if (r.name) body["name"] = r.name;
  if (r.cpus) body["cpus"] = r.cpus;
  if (r.memory_mb) body["memory_mb"] = r.memory_mb;
  if (r.disk_gb) body["disk_gb"] = r.disk_gb;
  if (r.network_mode !== "full") body["network_mode"] = r.network_mode;
  if (r.network_mode === "allowlist" && r.allowlist.length) body["allowlist"] = r.allowlist;
  if (r.denylist.length) body["denylist"] = r.denylist;
  if (r.budget) body["budget"] = r.budget;
  if (r.timeout !== null) body["timeout"] = r.timeout;
  if (r.repo) body["repo"] = r.repo;
  if (r.repo && r.repo_branch) body["repo_branch"] = r.repo_branch;
  if (r.repo && r.repo_commit) body["repo_commit"] = r.repo_commit;
  if (r.init_script) body["init_script"] = r.init_script;
  if (r.env.length) body["env"] = Object.fromEntries(r.env);
  if (r.secrets.length) body["secrets"] = r.secrets;
  if (r.agents.length) body["agents"] = r.agents;
  return body;
}

/** With agents it is a template of its own, made when it is first wanted. */
function templateOf(r: Recipe): string {
  return [r.template, ...r.agents].join("+");
}

/** `caged run` where flags say it all, else `caged up` with the file beside it. */
export function commandOf(r: Recipe): string {
  const team = r.team ? ["--team", shellWord(r.team)] : [];
  if (r.init_script || r.repo_branch || r.repo_commit || r.denylist.length) return ["caged", ...team, "up", ...(r.name ? ["--name", shellWord(r.name)] : [])].join(" ");
  const words = ["caged", ...team, "run", "--template", shellWord(templateOf(r))];
  const flag = (name: string, value: string | number) => value && words.push(`--${name}`, shellWord(String(value)));
  flag("name", r.name);
  flag("cpus", r.cpus);
  flag("memory", r.memory_mb);
  flag("disk", r.disk_gb);
  if (r.network_mode !== "full") flag("network", r.network_mode);
  if (r.network_mode === "allowlist") flag("allowlist", r.allowlist.join(","));
  flag("repo", r.repo);
  flag("budget", r.budget);
  if (r.timeout !== null) words.push("--timeout", String(r.timeout));
  for (const [k, v] of r.env) words.push("--env", shellWord(`${k}=${v}`));
  if (r.secrets.length) flag("secrets", r.secrets.join(","));
  return words.join(" ");
}

export function yamlOf(r: Recipe): string {
  const lines = [`template: ${yamlText(templateOf(r))}`];
  if (r.cpus || r.memory_mb || r.disk_gb) {
    lines.push("resources:");
    if (r.cpus) lines.push(`  cpu: ${r.cpus}`);
    if (r.memory_mb) lines.push(`  memory: ${r.memory_mb}`);
    if (r.disk_gb) lines.push(`  disk: ${r.disk_gb}`);
  }
  if (r.repo) {
    if (r.repo_branch || r.repo_commit) {
      lines.push("repo:", `  url: ${yamlText(r.repo)}`);
      if (r.repo_branch) lines.push(`  branch: ${yamlText(r.repo_branch)}`);
      if (r.repo_commit) lines.push(`  commit: ${JSON.stringify(r.repo_commit)}`);
    } else lines.push(`repo: ${yamlText(r.repo)}`);
  }
  if (r.init_script) {
    const body = r.init_script.replace(/\s+$/, "").split("\n");
    if (body.length > 1 && body.every((l) => !/[\u0000-\u0008\u000b-\u001f\u007f]/.test(l)) && !/^\s/.test(body[0]!)) lines.push("init_script: |", ...body.map((l) => (l ? `  ${l}` : "")));
    else lines.push(`init_script: ${yamlText(body.join("\n"))}`);
  }
  if (r.env.length) lines.push("env:", ...r.env.map(([k, v]) => `  ${yamlText(k)}: ${yamlValue(v)}`));
  const rules = (title: string, list: string[]) => list.length && lines.push(`  ${title}:`, ...list.map((h) => `    - ${yamlText(h)}`));
  if (r.denylist.length || (r.network_mode === "allowlist" && r.allowlist.length)) {
    lines.push("network:", `  mode: ${yamlText(r.network_mode)}`);
    if (r.network_mode === "allowlist") rules("allow", r.allowlist);
    rules("deny", r.denylist);
  } else if (r.network_mode !== "full") lines.push(`network: ${yamlText(r.network_mode)}`);
  if (r.secrets.length) lines.push("secrets:", ...r.secrets.map((n) => `  - ${yamlText(n)}`));
  if (r.budget) lines.push(`budget: ${r.budget}`);
  if (r.timeout !== null) lines.push(`timeout: ${r.timeout}`);
  return `${lines.join("\n")}\n`;
}
