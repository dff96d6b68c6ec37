// Who changed what in this account by the API: the log that the server keeps, newest first.
import { useState } from "preact/hooks";
import { ApiError, get } from "../lib/api";
import { actWords } from "../lib/acts";
import { visible } from "../lib/format";
import type { ApiKey } from "../lib/types";
import { useLoad } from "../lib/use";
import { Empty, Failure, Loading, When } from "../ui/parts";
import { Pager, Table } from "../ui/table";
import { Whose } from "../ui/whose";

interface Entry {
  seq: number;
  timestamp: string;
  actor_id?: string;
  actor_email?: string | null;
  key_id: string | null;
  action: string;
  target: string;
  status: number;
  ip: string;
  request_id: string;
}

const SHOWN = 50;

export function AuditTab() {
  // the smallest number of each page that was left behind
  const [befores, setBefores] = useState<number[]>([]);
  const [team, setTeam] = useState("");
  const before = befores[befores.length - 1] ?? 0;
  const list = useLoad((signal) => get<{ entries: Entry[]; has_more: boolean }>("/v1/audit", { limit: SHOWN, before: before || undefined, team: team || undefined }, signal), [before, team], before ? 0 : 15_000);
  const keys = useLoad((signal) => get<ApiKey[]>("/v1/account/keys", undefined, signal), []);
  if (list.error)
    return list.error instanceof ApiError && list.error.status === 403 ? (
      <Empty icon="key" title="Your key may not see this">
        <p>{visible(list.error.message)}</p>
      </Empty>
    ) : (
      <Failure error={list.error} retry={list.reload} />
    );
  if (!list.data) return <Loading what="the audit log" />;
  const { entries, has_more } = list.data;
  const whose = (
    <Whose
      team={team}
      least="admin"
      set={(t) => {
        setBefores([]);
        setTeam(t);
      }}
    />
  );
  if (entries.length === 0)
    return (
      <Empty icon="list" title="Nothing was changed yet">
        <p>Every request that changes something stands here before it is answered. What happens inside a sandbox is in its own record.</p>
        {whose}
      </Empty>
    );
  const nameOf = (id: string | null) => (id === null ? "a login" : (keys.data?.find((k) => k.id === id)?.name ?? id));
  return (
    <div class="stack">
      <div class="row wrap-row">
        <p class="dim grow">Every request that changed something, or tried to. What happens inside a sandbox is in its own record.</p>
        {whose}
      </div>
      <Table
        label="Audit log"
        rows={entries}
        keyOf={(x) => x.seq}
        columns={[
          {
            title: "When",
            cell: (x) => <When at={x.timestamp} />,
          },
          {
            title: "What",
            as: "wrap",
            cell: (x) => (
              <>
                <strong>{visible(actWords(x.action))}</strong>
                <span class="sub">
                  <code class="wrap">{visible(x.target || x.action)}</code>
                </span>
              </>
            ),
          },
          { title: "Outcome", cell: (x) => <span class={`chip ${x.status < 400 ? "ok" : "bad"}`}>{x.status < 400 ? "done" : `refused, ${x.status}`}</span> },
          { title: "By", as: "wrap", hide: "s", cell: (x) => (team && x.actor_email ? visible(x.actor_email) : visible(nameOf(x.key_id))) },
          { title: "From", hide: "m", cell: (x) => <code>{visible(x.ip)}</code> },
          { title: "Request", hide: "m", cell: (x) => <code class="dim">{visible(x.request_id)}</code> },
        ]}
      >
        {(has_more || befores.length > 0) && (
          <Pager
            newer={befores.length ? () => setBefores(befores.slice(0, -1)) : null}
            older={has_more ? () => setBefores([...befores, entries[entries.length - 1]!.seq]) : null}
          />
        )}
      </Table>
    </div>
  );
}
