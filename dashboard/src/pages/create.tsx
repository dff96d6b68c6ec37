// A new sandbox: the form at the left, the same as command and as .caged.yaml at the right.
import { useState } from "preact/hooks";
import { ApiError, get, send } from "../lib/api";
import { bytes, plural, visible } from "../lib/format";
import { putSandbox } from "../lib/live";
import { bodyOf, commandOf, emptyRecipe, yamlOf, type Recipe } from "../lib/recipe";
import { go } from "../lib/router";
import { useStore } from "../lib/store";
import { atLeast, teams } from "../lib/teams";
import type { Sandbox, Secret, Template } from "../lib/types";
import { useLoad, useTitle } from "../lib/use";
import { Icon } from "../ui/icons";
import { Button, Code, Failure, Field, Loading } from "../ui/parts";
import { checkRecipe, parseEnv } from "../lib/check";

interface AgentProfile {
  name: string;
  description: string;
  needs?: string | null;
}

function TemplateChoice({ t, on, choose }: { t: Template; on: boolean; choose: (name: string) => void }) {
  const ready = t.state === "ready";
  return (
    <label class={`template ${on ? "on" : ""} ${ready ? "" : "off"}`}>
      <input type="radio" name="template" value={t.name} checked={on} disabled={!ready} onChange={() => choose(t.name)} />
      <span>
        <strong>{t.name}</strong>
        <span class="sub">{visible(t.description ?? "")}</span>
        <span class="sub">{ready ? (t.size_bytes ? bytes(t.size_bytes) : "") : `${t.state}${t.reason ? `: ${visible(t.reason)}` : t.state === "absent" ? `: caged image build ${t.name}` : ""}`}</span>
      </span>
    </label>
  );
}

/** Those that can be used; what the operator would have to build first is folded away. */
function Templates({ list, value, choose }: { list: Template[]; value: string; choose: (name: string) => void }) {
  const ready = list.filter((t) => t.state === "ready");
  const others = list.filter((t) => t.state !== "ready");
  return (
    <fieldset class="templates">
      <legend>Template</legend>
      {ready.map((t) => (
        <TemplateChoice key={t.name} t={t} on={value === t.name} choose={choose} />
      ))}
      {others.length > 0 && (
        <details class="others" open={ready.length === 0}>
          <summary class="dim small">{plural(others.length, "template")} that the operator has not built</summary>
          <div class="templates">
            {others.map((t) => (
              <TemplateChoice key={t.name} t={t} on={value === t.name} choose={choose} />
            ))}
          </div>
        </details>
      )}
    </fieldset>
  );
}

export function CreatePage() {
  useTitle("New sandbox");
  const templates = useLoad((signal) => get<Template[]>("/v1/templates", undefined, signal), []);
  const agents = useLoad((signal) => get<AgentProfile[]>("/v1/agents", undefined, signal).catch(() => [] as AgentProfile[]), []);
  const [r, set] = useState<Recipe>({ ...emptyRecipe });
  const secrets = useLoad((signal) => get<Secret[]>("/v1/secrets", { team: r.team || undefined }, signal).catch(() => [] as Secret[]), [r.team]);
  const mine = useStore(teams).filter((t) => atLeast(t.role, "member"));
  const [env, setEnv] = useState("");
  const [hosts, setHosts] = useState("");
  const [denied, setDenied] = useState("");
  const [numbers, setNumbers] = useState({ cpus: "", memory_mb: "", disk_gb: "", budget: "" });
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<Error | null>(null);

  const change = (part: Partial<Recipe>) => set({ ...r, ...part });
  const number = (key: keyof typeof numbers, text: string) => {
    setNumbers({ ...numbers, [key]: text });
    const n = text.trim() === "" ? 0 : Number(text);
    change({ [key]: n } as Partial<Recipe>);
  };
  const recipe: Recipe = { ...r, env: parseEnv(env).pairs, allowlist: hosts.split(/[\s,]+/).filter(Boolean), denylist: denied.split(/[\s,]+/).filter(Boolean) };
  const wrong: Record<string, string> = { ...checkRecipe(recipe), ...(parseEnv(env).error ? { env: parseEnv(env).error! } : {}) };
  const submit = async () => {
    setBusy(true);
    setError(null);
    try {
      const body = { ...bodyOf(recipe), config: { source: "flags", raw: yamlOf(recipe) } };
      const made = await send<Sandbox>("POST", "/v1/sandboxes", body, { wait: false });
      putSandbox(made);
      go(`/sandboxes/${made.id}`);
    } catch (e) {
      setError(e as Error);
      setBusy(false);
    }
  };
  if (templates.error) return <Failure error={templates.error} retry={templates.reload} />;
  if (!templates.data) return <Loading what="templates" />;
  return (
    <section class="page">
      <h1>New sandbox</h1>
      <div class="create">
        <form
          class="card"
          noValidate
          onSubmit={(e) => {
            e.preventDefault();
            if (Object.keys(wrong).length === 0) void submit();
          }}
        >
          <div class="in stack">
            <Templates list={templates.data} value={r.template} choose={(template) => change({ template })} />
            {!!agents.data?.length && (
              <fieldset class="templates">
                <legend>Agents in it</legend>
                {agents.data
                  .filter((a) => a.name !== "custom")
                  .map((a) => (
                    <label key={a.name} class="check" title={visible(a.needs ? `${a.description}; needs ${a.needs} in the template` : a.description)}>
                      <input type="checkbox" checked={r.agents.includes(a.name)} onChange={(e) => change({ agents: e.currentTarget.checked ? [...r.agents, a.name] : r.agents.filter((n) => n !== a.name) })} />
                      <code>{visible(a.name)}</code>
                      {a.needs && <span class="dim small cut">needs {visible(a.needs)}</span>}
                    </label>
                  ))}
              </fieldset>
            )}
            {mine.length > 0 && (
              <Field label="For" hint="Whose it is: who may use it, and whose budget and secrets it has">
                {(id) => (
                  <select id={id} value={r.team} onChange={(e) => change({ team: e.currentTarget.value, secrets: [] })}>
                    <option value="">myself</option>
                    {mine.map((t) => (
                      <option key={t.id} value={t.id}>
                        {visible(t.name)}
                      </option>
                    ))}
                  </select>
                )}
              </Field>
            )}
            <Field label="Name" hint="For you; the id is made by the server" error={wrong["name"]}>
              {(id) => <input id={id} value={r.name} placeholder="none" onInput={(e) => change({ name: e.currentTarget.value })} />}
            </Field>
            <div class="four">
              <Field label="Processors" error={wrong["cpus"]}>
                {(id) => <input id={id} inputMode="numeric" placeholder="default" value={numbers.cpus} onInput={(e) => number("cpus", e.currentTarget.value)} />}
              </Field>
              <Field label="Memory, MB" error={wrong["memory_mb"]}>
                {(id) => <input id={id} inputMode="numeric" placeholder="default" value={numbers.memory_mb} onInput={(e) => number("memory_mb", e.currentTarget.value)} />}
              </Field>
              <Field label="Disk, GB" error={wrong["disk_gb"]}>
                {(id) => <input id={id} inputMode="numeric" placeholder="default" value={numbers.disk_gb} onInput={(e) => number("disk_gb", e.currentTarget.value)} />}
              </Field>
              <Field label="Budget, $" error={wrong["budget"]}>
                {(id) => <input id={id} inputMode="decimal" placeholder="none" value={numbers.budget} onInput={(e) => number("budget", e.currentTarget.value)} />}
              </Field>
            </div>
            <div class="two">
              <Field label="Repository" hint="A URL, cloned into /workspace" error={wrong["repo"]}>
                {(id) => <input id={id} type="url" value={r.repo} placeholder="https://…" onInput={(e) => change({ repo: e.currentTarget.value.trim() })} />}
              </Field>
              <Field label="Commit" error={wrong["repo_commit"]}>
                {(id) => <input id={id} class="mono" value={r.repo_commit} disabled={!r.repo} placeholder="the newest" onInput={(e) => change({ repo_commit: e.currentTarget.value.trim() })} />}
              </Field>
              <Field label="Branch">
                {(id) => <input id={id} value={r.repo_branch} disabled={!r.repo} placeholder="default" onInput={(e) => change({ repo_branch: e.currentTarget.value.trim() })} />}
              </Field>
            </div>
            <Field label="Init script" hint="Runs as agent in /workspace when the repository is there">
              {(id) => <textarea id={id} rows={3} value={r.init_script} placeholder="npm ci" onInput={(e) => change({ init_script: e.currentTarget.value })} />}
            </Field>
            <Field label="Environment" hint="NAME=value, one a line" error={wrong["env"]}>
              {(id) => <textarea id={id} rows={2} value={env} onInput={(e) => setEnv(e.currentTarget.value)} />}
            </Field>
            <div class="two">
              <Field label="Network">
                {(id) => (
                  <select id={id} value={r.network_mode} onChange={(e) => change({ network_mode: e.currentTarget.value })}>
                    <option value="full">full: all of the public internet</option>
                    <option value="allowlist">allowlist: named hosts</option>
                    <option value="none">none: only what the operator allows</option>
                  </select>
                )}
              </Field>
              {r.network_mode === "allowlist" && (
                <Field label="Allowed hosts" hint="api.example.com, *.example.org, registries" error={wrong["allowlist"]}>
                  {(id) => <input id={id} value={hosts} spellcheck={false} onInput={(e) => setHosts(e.currentTarget.value)} />}
                </Field>
              )}
              {r.network_mode !== "none" && (
                <Field label="Denied hosts" hint="Stronger than what is allowed">
                  {(id) => <input id={id} value={denied} spellcheck={false} placeholder="none" onInput={(e) => setDenied(e.currentTarget.value)} />}
                </Field>
              )}
              <Field label="Sleeps after, seconds" hint="Without use; it wakes when it is used" error={wrong["timeout"]}>
                {(id) => (
                  <input
                    id={id}
                    inputMode="numeric"
                    placeholder="default"
                    onInput={(e) => change({ timeout: e.currentTarget.value.trim() === "" ? null : Number(e.currentTarget.value) })}
                  />
                )}
              </Field>
            </div>
            {!!secrets.data?.length && (
              <fieldset class="templates">
                <legend>Secrets</legend>
                {secrets.data.map((x) => (
                  <label key={x.name} class="check">
                    <input
                      type="checkbox"
                      checked={r.secrets.includes(x.name)}
                      onChange={(e) => change({ secrets: e.currentTarget.checked ? [...r.secrets, x.name] : r.secrets.filter((n) => n !== x.name) })}
                    />
                    <code>{x.name}</code> <span class="dim small cut">{x.hosts.map(visible).join(", ")}</span>
                  </label>
                ))}
              </fieldset>
            )}
            {error && (
              <div class="failure" role="alert">
                <Icon name="warn" />
                {error instanceof ApiError && error.code === "plan_limit_reached" ? `${visible(error.message)} Destroy a sandbox to make room.` : visible(error.message)}
              </div>
            )}
            <div class="row">
              <Button kind="primary" type="submit" icon="plus" busy={busy} disabled={Object.keys(wrong).length > 0}>
                Create
              </Button>
              <a class="btn quiet" href="/">
                Cancel
              </a>
            </div>
          </div>
        </form>
        <div class="stack equivalent">
          <div class="card">
            <header>
              <h2>The same as a command</h2>
            </header>
            <div class="in">
              <Code label="Command" text={commandOf(recipe)} />
              {/^caged (--team \S+ )?up/.test(commandOf(recipe)) && <p class="hint">with the file below beside it</p>}
            </div>
          </div>
          <div class="card">
            <header>
              <h2>.caged.yaml</h2>
            </header>
            <div class="in">
              <Code label="Text of .caged.yaml" text={yamlOf(recipe)} />
            </div>
          </div>
        </div>
      </div>
    </section>
  );
}
