// Trust over all sandboxes: who stands low, alerts and their rules, notifications.
import type { ComponentChildren } from "preact";
import { useStore } from "../lib/store";
import { ApiError, get, send } from "../lib/api";
import { visible } from "../lib/format";
import { sandboxes } from "../lib/live";
import { useLoad, useTitle } from "../lib/use";
import { Button, Empty, Failure, Loading, StatusChip, toast, TrustBadge, When } from "../ui/parts";

interface Alert {
  id: string;
  rule_type: string;
  severity: string;
  state: string;
  title: string;
  message: string;
  sandbox_id: string | null;
  created_at: string;
}
interface Rule {
  id: string;
  type: string;
  enabled: boolean;
  config: Record<string, number>;
}

const settings: Record<string, [string, string]> = {
  budget_exceeded: ["threshold_percent", "percent of the budget"],
  cost_anomaly: ["multiplier_threshold", "times the usual rate"],
  agent_stuck: ["idle_minutes", "minutes without activity"],
  error_spike: ["error_count_threshold", "errors in the window"],
  trust_score_low: ["score_threshold", "points of trust"],
};

/** What stands below comes with it, so that nothing moves when it is there. */
function Alerts({ children }: { children: ComponentChildren }) {
  const alerts = useLoad((signal) => get<{ alerts: Alert[]; total: number }>("/v1/alerts", { limit: 50, offset: 0 }, signal), [], 15_000);
  const resolve = async (a: Alert) => {
    try {
      await send("POST", `/v1/alerts/${a.id}/resolve`);
      alerts.reload();
    } catch (e) {
      toast((e as Error).message, "bad");
    }
  };
  if (!alerts.data && !alerts.error) return <Loading what="alerts" />;
  return (
    <>
      {alerts.error ? (
        alerts.error instanceof ApiError && alerts.error.absent ? (
          <Empty icon="warn" title="This server raises no alerts">
            <p>Budgets are held all the same, and everything is in the records.</p>
          </Empty>
        ) : (
          <Failure error={alerts.error} retry={alerts.reload} />
        )
      ) : alerts.data!.alerts.length === 0 ? (
        <Empty icon="check" title="All quiet">
          <p>Alerts about budgets, errors, idling agents and low trust appear here.</p>
        </Empty>
      ) : (
        <AlertList alerts={alerts.data!.alerts} resolve={(a) => void resolve(a)} />
      )}
      {children}
    </>
  );
}

function AlertList({ alerts, resolve }: { alerts: Alert[]; resolve: (a: Alert) => void }) {
  return (
    <ul class="card plain-list alerts">
      {alerts.map((a) => (
        <li key={a.id} class={a.state === "open" ? "" : "faded"}>
          <span class={`chip ${a.severity === "critical" ? "bad" : a.severity === "warning" ? "warn" : "info"}`}>{a.severity}</span>
          <span class="grow">
            <strong>{visible(a.title)}</strong>
            <span class="sub">
              {visible(a.message)}
              {a.sandbox_id && <a href={`/sandboxes/${a.sandbox_id}/timeline`}>{a.sandbox_id}</a>}
            </span>
          </span>
          <span class="dim small">
            <When at={a.created_at} />
          </span>
          {a.state === "open" ? (
            <Button class="small" onClick={() => resolve(a)}>
              Resolve
            </Button>
          ) : (
            <span class="chip">{a.state}</span>
          )}
        </li>
      ))}
    </ul>
  );
}

function Rules() {
  const rules = useLoad((signal) => get<Rule[]>("/v1/alerts/rules", undefined, signal), []);
  if (rules.error || !rules.data?.length) return null;
  const put = async (r: Rule, change: Partial<Rule>) => {
    try {
      await send("PUT", `/v1/alerts/rules/${r.id}`, change);
      rules.reload();
    } catch (e) {
      toast((e as Error).message, "bad");
    }
  };
  return (
    <div class="card">
      <header>
        <h2>Rules of alerts</h2>
      </header>
      <ul class="plain-list alert-rules">
        {rules.data.map((r) => {
          const [key, unit] = settings[r.type] ?? ["", ""];
          return (
            <li key={r.id}>
              <label class="check grow">
                <input type="checkbox" checked={r.enabled} onChange={(e) => void put(r, { enabled: e.currentTarget.checked })} />
                <span>{visible(r.type).replace(/_/g, " ")}</span>
              </label>
              {key && (
                <label class="row small">
                  <input
                    class="short"
                    inputMode="decimal"
                    aria-label={`${r.type}: ${unit}`}
                    defaultValue={String(r.config[key] || "")}
                    placeholder="default"
                    onChange={(e) => {
                      const n = Number(e.currentTarget.value || 0);
                      if (!Number.isNaN(n) && n >= 0) void put(r, { config: { ...r.config, [key]: n } });
                    }}
                  />
                  <span class="dim">{unit}</span>
                </label>
              )}
            </li>
          );
        })}
      </ul>
    </div>
  );
}

export function TrustPage() {
  useTitle("Trust");
  const scored = [...(useStore(sandboxes)?.values() ?? [])].filter((s) => typeof s.trust_score === "number" && s.status !== "destroyed").sort((a, b) => a.trust_score! - b.trust_score!);
  return (
    <section class="page">
      <div class="page-head">
        <h1>Trust and alerts</h1>
        <span class="grow" />
        <a class="btn" href="/trust/rules">
          Rules of trust
        </a>
      </div>
      {scored.length > 0 && (
        <div class="card">
          <header>
            <h2>Lowest first</h2>
          </header>
          <ul class="plain-list">
            {scored.slice(0, 20).map((s) => (
              <li key={s.id}>
                <TrustBadge score={s.trust_score} />
                <a class="grow row-link" href={`/sandboxes/${s.id}/trust`}>
                  {visible(s.name ?? s.id)}
                </a>
                <StatusChip status={s.status} />
              </li>
            ))}
          </ul>
        </div>
      )}
      <Alerts>
        <Rules />
      </Alerts>
    </section>
  );
}
