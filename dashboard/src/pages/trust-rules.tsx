// The rules that take trust away, and tuning them: what a sandbox would have scored under others, and the file that
// says so. The rules in force are the operator's: a page of this server cannot change them.
import { useMemo, useState } from "preact/hooks";
import { get, send } from "../lib/api";
import { count, plural, visible } from "../lib/format";
import { sandboxes } from "../lib/live";
import { overlay, pointsByRule, type Bands, type Edit, type TrustRule } from "../lib/rules";
import { useStore } from "../lib/store";
import { useLoad, useTitle } from "../lib/use";
import { Icon } from "../ui/icons";
import { Button, Code, Empty, Failure, Loading, toast, TrustBadge } from "../ui/parts";
import { Table, Tiles } from "../ui/table";

interface Rules {
  pack: string;
  version: number;
  hash: string;
  changed: boolean;
  bands: Bands;
  known_hosts: string[];
  rules: TrustRule[];
}
interface Preview {
  score: number;
  score_now: number;
  band: string;
  bands: Bands;
  events: number;
  truncated: boolean;
  deductions: { rule: string; points: number; what: string }[];
}

const tones: Record<string, string> = { severe: "bad", moderate: "warn", minor: "info", info: "" };
const bandWords: [keyof Bands, string][] = [
  ["alert", "Alert below"],
  ["critical", "Critical alert below"],
  ["pause", "Pause below"],
];
const HASH_SHOWN = 24;

function NumberInput(p: { label: string; value: number; max: number; set: (n: number) => void }) {
  return (
    <input
      class="short num"
      type="number"
      min={0}
      max={p.max}
      aria-label={p.label}
      value={p.value}
      onInput={(e) => {
        const n = e.currentTarget.valueAsNumber;
        if (Number.isInteger(n) && n >= 0 && n <= p.max) p.set(n);
      }}
    />
  );
}

function Tried({ was, now }: { was: Preview; now: Preview }) {
  const before = pointsByRule(was.deductions);
  const after = pointsByRule(now.deductions);
  const ids = [...new Set([...before.keys(), ...after.keys()])].sort();
  const acts = now.score < now.bands.pause ? "It would have been paused." : now.score < now.bands.critical ? "It would have raised a critical alert." : now.score < now.bands.alert ? "It would have raised an alert." : "Nothing would have been raised.";
  return (
    <div class="stack">
      <Tiles
        items={[
          ["Its score is", <TrustBadge score={now.score_now} />],
          ["Under the default rules", <TrustBadge score={was.score} />],
          ["Under these", <TrustBadge score={now.score} />],
          ["Events read", count(now.events)],
        ]}
      />
      <p class="dim">{acts}</p>
      {ids.length > 0 && (
        <Table
          label="Points by rule"
          rows={ids}
          keyOf={(id) => id}
          tight
          columns={[
            { title: "Rule", as: "wrap", cell: (id) => <code>{visible(id)}</code> },
            { title: "Default", as: "number", cell: (id) => before.get(id) ?? 0 },
            { title: "These", as: "number", cell: (id) => <strong class={(after.get(id) ?? 0) < (before.get(id) ?? 0) ? "good-text" : (after.get(id) ?? 0) > (before.get(id) ?? 0) ? "bad-text" : ""}>{after.get(id) ?? 0}</strong> },
          ]}
        />
      )}
      {(was.truncated || now.truncated) && <p class="note warn">The record, or its deductions, are longer than a preview reads.</p>}
    </div>
  );
}

function Try({ text }: { text: string }) {
  const all = [...(useStore(sandboxes)?.values() ?? [])].sort((a, b) => (a.created_at < b.created_at ? 1 : -1));
  const [id, setId] = useState("");
  const [busy, setBusy] = useState(false);
  const [result, setResult] = useState<{ text: string; was: Preview; now: Preview } | null>(null);
  const chosen = id || all[0]?.id;
  const run = async () => {
    setBusy(true);
    try {
      const ask = (rules: string) => send<Preview>("POST", `/v1/sandboxes/${chosen}/trust/preview`, { rules });
      const was = await ask("");
      setResult({ text, was, now: text ? await ask(text) : was });
    } catch (e) {
      toast((e as Error).message, "bad");
    }
    setBusy(false);
  };
  if (!all.length) return null;
  return (
    <div class="card">
      <header class="wrap-row">
        <h2 class="grow">Try them</h2>
        <label class="row small">
          <span class="dim nowrap">on the record of</span>
          <select
            value={chosen}
            onChange={(e) => {
              setId(e.currentTarget.value);
              setResult(null);
            }}
          >
            {all.slice(0, 200).map((s) => (
              <option key={s.id} value={s.id}>
                {visible(s.name ?? s.id)}
              </option>
            ))}
          </select>
        </label>
        <Button kind="primary" busy={busy} onClick={() => void run()}>
          What would it have scored?
        </Button>
      </header>
      <div class="in">
        {!result ? (
          <p class="dim">Its record is read again from the first line, under the rules as they stand on this page. Nothing changes.</p>
        ) : (
          <>
            {result.text !== text && <p class="note warn">The rules were changed since: ask again.</p>}
            <Tried was={result.was} now={result.now} />
          </>
        )}
      </div>
    </div>
  );
}

export function TrustRulesPage() {
  useTitle("Rules of trust");
  const loaded = useLoad((signal) => get<Rules>("/v1/trust/rules", undefined, signal), []);
  const [edits, setEdits] = useState<Map<string, Edit>>(new Map());
  const [edited, setEdited] = useState<Bands | null>(null);
  const [find, setFind] = useState("");
  const r = loaded.data;
  const bands = edited ?? r?.bands;
  const text = useMemo(() => (r && bands ? overlay(r.rules, edits, r.bands, bands) : ""), [r, edits, bands]);
  if (loaded.error) return <Failure error={loaded.error} retry={loaded.reload} />;
  if (!r || !bands) return <Loading what="the rules" />;
  const now = (rule: TrustRule): TrustRule => ({ ...rule, ...edits.get(rule.id) });
  const edit = (rule: TrustRule, change: Edit) => setEdits(new Map(edits).set(rule.id, { ...edits.get(rule.id), ...change }));
  const words = find.toLowerCase().split(/\s+/).filter(Boolean);
  const shown = r.rules.filter((x) => words.every((w) => `${x.id} ${x.severity} ${x.explain ?? ""}`.toLowerCase().includes(w)));
  return (
    <section class="page">
      <div class="page-head">
        <h1>Rules of trust</h1>
        <span class="grow" />
        {text && (
          <Button
            onClick={() => {
              setEdits(new Map());
              setEdited(null);
            }}
          >
            As they are in force
          </Button>
        )}
      </div>
      <p class="dim">
        {visible(r.pack)}, version {r.version}
        {r.changed && ", with what the operator laid over it"}; <code>{visible(r.hash).slice(0, HASH_SHOWN)}…</code> New sandboxes get these; every record names the ones that it was scored with.
      </p>
      <div class="card in row wrap-row">
        {bandWords.map(([key, title]) => (
          <label key={key} class="row small">
            <span>{title}</span>
            <NumberInput label={title} value={bands[key]} max={100} set={(n) => setEdited({ ...bands, [key]: n })} />
          </label>
        ))}
        <span class="dim small grow">0 switches it off</span>
      </div>
      <Try text={text} />
      {text && (
        <div class="card in stack">
          <h2>To keep these</h2>
          <p class="dim small">
            The operator puts this into a file, names it as <code>trust: {"{rules: …}"}</code> in the server's configuration, and starts the server anew.{r.changed && " What the operator's file says already must stay in it."}
          </p>
          <Code label="Rules" text={text} />
        </div>
      )}
      <div class="card">
        <header>
          <h2 class="grow">{plural(r.rules.length, "rule")}</h2>
          <label class="search">
            <Icon name="search" />
            <input type="search" aria-label="Find a rule" placeholder="Find a rule…" value={find} onInput={(e) => setFind(e.currentTarget.value)} />
          </label>
        </header>
        {shown.length === 0 ? (
          <Empty icon="search" title="No rule has these words" />
        ) : (
          <Table
            label="Rules of trust"
            rows={shown}
            keyOf={(x) => x.id}
            rowClass={(x) => (now(x).enabled ? "" : "faded")}
            columns={[
              {
                title: "Rule",
                as: "wrap",
                cell: (x) => (
                  <label class="check">
                    <input type="checkbox" checked={now(x).enabled} onChange={(e) => edit(x, { enabled: e.currentTarget.checked })} />
                    <span>
                      <code>{visible(x.id)}</code>
                      {x.explain && <span class="sub">{visible(x.explain)}</span>}
                    </span>
                  </label>
                ),
              },
              { title: "Severity", hide: "s", cell: (x) => <span class={`chip ${tones[x.severity] ?? ""}`}>{x.severity}</span> },
              { title: "Points", cell: (x) => <NumberInput label={`Points of ${x.id}`} value={now(x).points} max={100} set={(points) => edit(x, { points })} /> },
              { title: "At most", cell: (x) => <NumberInput label={`At most, of ${x.id}`} value={now(x).cap} max={100} set={(cap) => edit(x, { cap })} /> },
              { title: "Rests", as: "number", hide: "m", cell: (x) => (x.once_per_host ? "once a host" : x.cooldown ? `${x.cooldown} s` : "–") },
            ]}
          />
        )}
      </div>
      <div class="card in stack">
        <h2>Hosts that cost nothing</h2>
        <p class="dim small">Beside the registries of this machine's package managers, the providers of models, a sandbox's repository and what its policy allows by name.</p>
        <p class="chips">
          {r.known_hosts.map((h) => (
            <code key={h} class="chip">
              {visible(h)}
            </code>
          ))}
        </p>
      </div>
    </section>
  );
}
