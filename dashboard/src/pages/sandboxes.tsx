// The live list of sandboxes.
import { useMemo, useState } from "preact/hooks";
import { get, send } from "../lib/api";
import { plural, utc, visible } from "../lib/format";
import { activity, listError, refresh, sandboxes } from "../lib/live";
import { go, place, setParams } from "../lib/router";
import { filterSandboxes, kindOfWork, sortSandboxes, type SortKey } from "../lib/select";
import { useStore } from "../lib/store";
import type { Sandbox } from "../lib/types";
import { useLoad, useTitle } from "../lib/use";
import { Icon } from "../ui/icons";
import { BudgetBar, Button, Code, confirmed, Empty, Failure, Loading, Spark, StatusChip, toast, TrustBadge, When } from "../ui/parts";

async function destroyAll(list: Sandbox[]): Promise<void> {
  const what = list.length === 1 ? (list[0]!.name ?? list[0]!.id) : plural(list.length, "sandbox", "sandboxes");
  const text = "Everything in there is gone at once: files, processes, uncommitted work. The record stays.";
  if (!(await confirmed(`Destroy ${what}?`, text, "Destroy", true))) return;
  const done = await Promise.allSettled(list.map((s) => send("DELETE", `/v1/sandboxes/${s.id}`)));
  const failed = done.filter((d) => d.status === "rejected");
  if (failed.length) toast(`${plural(failed.length, "sandbox", "sandboxes")} could not be destroyed: ${(failed[0] as PromiseRejectedResult).reason.message}`, "bad");
  else toast(`${visible(what)} destroyed`);
  void refresh();
}

export { destroyAll };

async function eachOf(list: Sandbox[], verb: "pause" | "resume", done: string): Promise<void> {
  const all = await Promise.allSettled(list.map((s) => send("POST", `/v1/sandboxes/${s.id}/${verb}`, {})));
  const bad = all.find((r): r is PromiseRejectedResult => r.status === "rejected");
  if (bad) toast((bad.reason as Error).message, "bad");
  else toast(`${plural(list.length, "sandbox", "sandboxes")} ${done}`);
  void refresh();
}

function FirstRun() {
  const [busy, setBusy] = useState(false);
  const start = async () => {
    setBusy(true);
    try {
      const made = await send<Sandbox>("POST", "/v1/sandboxes", { template: "minimal", name: "first" }, { wait: false });
      go(`/sandboxes/${made.id}`);
    } catch (e) {
      toast((e as Error).message, "bad");
      setBusy(false);
    }
  };
  return (
    <div class="first">
      <Empty icon="box" title="No sandbox yet">
        <p>A sandbox is a small virtual machine with its own kernel: an agent can do there what it likes, and you see all of it.</p>
        <Button kind="primary" icon="plus" busy={busy} onClick={() => void start()}>
          Create the first one
        </Button>
      </Empty>
      <div class="first-cli">
        <h2>Or from your repository</h2>
        <p class="dim">Packs what git knows of the folder into a sandbox and opens a terminal there:</p>
        <Code label="Commands for a first sandbox" text={"cd your/repository\ncaged up\ncaged connect cage-…"} />
        <p class="dim">With a budget that cuts model calls when it is used up:</p>
        <Code label="Command for a sandbox with a budget" text={"caged run --template minimal --budget 5"} />
      </div>
    </div>
  );
}

const columns: { key: SortKey; title: string; class?: string }[] = [
  { key: "name", title: "Sandbox" },
  { key: "status", title: "State" },
  { key: "cost", title: "Cost / budget" },
  { key: "trust", title: "Trust" },
  { key: "memory", title: "Shape", class: "hide-m" },
  { key: "created", title: "Age" },
];

/** The score, and how it came there where it is not whole. */
function TrustCell({ s }: { s: Sandbox }) {
  const fell = typeof s.trust_score === "number" && s.trust_score < 100;
  const trend = useLoad((signal) => (fell ? get<{ trend?: { score: number }[] }>(`/v1/sandboxes/${s.id}/trust`, undefined, signal).then((t) => (t.trend ?? []).map((p) => p.score)) : Promise.resolve([])), [s.id, s.trust_score]);
  return (
    <span class="row">
      <TrustBadge score={s.trust_score} />
      {!!trend.data && trend.data.length > 1 && <Spark values={trend.data} top={100} label={`Score over time: ${trend.data.join(", ")}`} width={44} height={16} />}
    </span>
  );
}

function Row({ s, chosen, choose }: { s: Sandbox; chosen: boolean; choose: (on: boolean) => void }) {
  const busy = useStore(activity).get(s.id);
  const repo = s.repo_url ? s.repo_url.replace(/^https?:\/\//, "").replace(/\.git$/, "") : null;
  return (
    <tr class={chosen ? "chosen" : ""}>
      <td class="pick">
        <input type="checkbox" aria-label={`Choose ${visible(s.name ?? s.id)}`} checked={chosen} onChange={(e) => choose(e.currentTarget.checked)} />
      </td>
      <td class="who-cell">
        <a href={`/sandboxes/${s.id}${s.status === "destroyed" || s.status === "error" ? "/timeline" : ""}`} class="row-link">
          {visible(s.name ?? s.id)}
        </a>
        <span class="sub">
          {s.name && <code>{s.id}</code>}
          <span>{visible(kindOfWork(s))}</span>
          {repo && <span class="repo">{visible(repo)}</span>}
        </span>
      </td>
      <td class="state-cell">
        <StatusChip status={s.status} />
        {s.status === "pending" && s.phase && (
          <span class="sub">
            {s.phase} {s.percent ? `${s.percent} %` : ""}
          </span>
        )}
        {busy && s.status === "running" && <Spark values={busy} label="Events of the last 80 seconds" width={64} height={16} />}
      </td>
      <td class="cost-cell">
        <BudgetBar cost={s.total_cost} budget={s.budget} />
      </td>
      <td class="trust-cell">
        <TrustCell s={s} />
      </td>
      <td class="hide-m dim nowrap">
        {s.cpus} CPU · {s.memory_mb} MB
      </td>
      <td class="nowrap dim age-cell" title={utc(s.created_at)}>
        <When at={s.created_at} />
      </td>
      <td class="acts">
        {s.status !== "destroyed" && (
          <button type="button" class="btn quiet icon-only danger-hover" aria-label={`Destroy ${visible(s.name ?? s.id)}`} title="Destroy" onClick={() => void destroyAll([s])}>
            <Icon name="trash" />
          </button>
        )}
      </td>
    </tr>
  );
}

export function SandboxesPage() {
  useTitle("Sandboxes");
  const map = useStore(sandboxes);
  const error = useStore(listError);
  const params = useStore(place).params;
  const [chosen, setChosen] = useState<Set<string>>(new Set());
  const text = params.get("q") ?? "";
  const show = params.get("show") ?? "live";
  const sort = (params.get("sort") ?? "created") as SortKey;
  const down = params.get("dir") !== "up";
  const all = useMemo(() => [...(map?.values() ?? [])], [map]);
  const list = useMemo(() => sortSandboxes(filterSandboxes(all, text, show), sort, down), [all, text, show, sort, down]);
  const picked = list.filter((s) => chosen.has(s.id) && s.status !== "destroyed");

  if (!map) return error ? <Failure error={new Error(error)} retry={() => void refresh()} /> : <Loading what="sandboxes" />;
  if (all.length === 0) return <FirstRun />;

  const count = (what: string) => filterSandboxes(all, "", what).length;
  const sortBy = (key: SortKey) => setParams({ sort: key, dir: sort === key && down ? "up" : null });
  return (
    <section class="page">
      <div class="page-head">
        <h1>Sandboxes</h1>
        <span class="grow" />
        <div class="segments" role="group" aria-label="Which sandboxes">
          {["live", "ended", "all"].map((w) => (
            <button key={w} type="button" aria-pressed={show === w} onClick={() => setParams({ show: w === "live" ? null : w })}>
              {w} <span class="dim">{count(w)}</span>
            </button>
          ))}
        </div>
        <label class="search">
          <Icon name="search" />
          <input type="search" aria-label="Find a sandbox" placeholder="Find…" value={text} onInput={(e) => setParams({ q: e.currentTarget.value })} />
        </label>
      </div>
      {picked.length > 0 && (
        <div class="bulk" role="region" aria-label="Chosen sandboxes">
          <span>{plural(picked.length, "sandbox", "sandboxes")} chosen</span>
          <span class="grow" />
          <Button kind="quiet" onClick={() => setChosen(new Set())}>
            Choose none
          </Button>
          {picked.some((s) => s.status === "running") && (
            <Button icon="pause" onClick={() => void eachOf(picked.filter((s) => s.status === "running"), "pause", "paused").then(() => setChosen(new Set()))}>
              Pause
            </Button>
          )}
          {picked.some((s) => s.status === "paused") && (
            <Button icon="play" onClick={() => void eachOf(picked.filter((s) => s.status === "paused"), "resume", "running again").then(() => setChosen(new Set()))}>
              Resume
            </Button>
          )}
          <Button kind="danger" icon="trash" onClick={() => void destroyAll(picked).then(() => setChosen(new Set()))}>
            Destroy
          </Button>
        </div>
      )}
      {list.length === 0 ? (
        <Empty icon="search" title={text ? "Nothing is named like that" : show === "live" ? "No sandbox is alive" : "None has ended yet"}>
          <p class="dim">{text ? "Names, ids, templates and repositories are searched." : show === "live" ? "What has ended is one click away, above." : "Records of destroyed sandboxes stay here."}</p>
        </Empty>
      ) : (
        <div class="table-wrap">
          <table class="table stacked">
            <thead>
              <tr>
                <th class="pick">
                  <input
                    type="checkbox"
                    aria-label="Choose all"
                    checked={picked.length > 0 && picked.length === list.filter((s) => s.status !== "destroyed").length}
                    onChange={(e) => setChosen(e.currentTarget.checked ? new Set(list.map((s) => s.id)) : new Set())}
                  />
                </th>
                {columns.map((c) => (
                  <th key={c.key} class={c.class} aria-sort={sort === c.key ? (down ? "descending" : "ascending") : "none"}>
                    <button type="button" class="sort" onClick={() => sortBy(c.key)}>
                      {c.title}
                      {sort === c.key && <Icon name={down ? "down" : "up"} size={10} />}
                    </button>
                  </th>
                ))}
                <th>
                  <span class="sr">Actions</span>
                </th>
              </tr>
            </thead>
            <tbody>
              {list.map((s) => (
                <Row
                  key={s.id}
                  s={s}
                  chosen={chosen.has(s.id)}
                  choose={(on) => {
                    const next = new Set(chosen);
                    if (on) next.add(s.id);
                    else next.delete(s.id);
                    setChosen(next);
                  }}
                />
              ))}
            </tbody>
          </table>
        </div>
      )}
    </section>
  );
}
