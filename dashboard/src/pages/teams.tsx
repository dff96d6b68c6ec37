// Teams: who is in them with which role, invitations, and their beginning and end.
import { useState } from "preact/hooks";
import { ApiError, get, send } from "../lib/api";
import { local, plural, visible } from "../lib/format";
import { place, setParams } from "../lib/router";
import { useStore } from "../lib/store";
import { atLeast, loadTeams, roles, roleWords, teams, type Role, type Team } from "../lib/teams";
import { useLoad } from "../lib/use";
import { account } from "../app";
import { attempt, Button, Code, confirmed, Dialog, Empty, Failure, Field, Loading, When } from "../ui/parts";
import { FormDialog, Table } from "../ui/table";

interface Member {
  account_id: string;
  email: string;
  name: string;
  role: Role;
  joined_at: string;
}
interface Invitation {
  id: string;
  email: string;
  role: Role;
  expires_at: string;
}
interface Detail extends Team {
  members: Member[];
  invitations: Invitation[];
}

function RoleSelect({ id, value, mine, set, label }: { id?: string; value: Role; mine: Role; set: (r: Role) => void; label?: string }) {
  // owners are made and unmade by owners
  const open = roles.filter((r) => r !== "owner" || mine === "owner" || value === "owner");
  return (
    <select id={id} aria-label={label} value={value} onChange={(e) => set(e.currentTarget.value as Role)}>
      {open.map((r) => (
        <option key={r} value={r}>
          {label ? r : `${r}: ${roleWords[r]}`}
        </option>
      ))}
    </select>
  );
}

function Invite({ team, mine, close }: { team: string; mine: Role; close: (made: boolean) => void }) {
  const [email, setEmail] = useState("");
  const [role, setRole] = useState<Role>("member");
  const [made, setMade] = useState<{ code: string; expires_at: string } | null>(null);
  const invite = () => attempt(async () => setMade(await send("POST", `/v1/teams/${team}/members`, { email: email.trim(), role })), "The invitation is made");
  if (made)
    return (
      <Dialog title={`The invitation of ${visible(email)}`} onClose={() => close(true)}>
        <p>Give them this code: it is shown this once, nobody is mailed, and it works until {local(made.expires_at)} for this address only.</p>
        <Code label="Code" text={made.code} />
        <p class="dim small">They enter it under Account, Teams; or with:</p>
        <Code label="Command" text={`caged team join ${made.code}`} />
        <footer>
          <Button kind="primary" onClick={() => close(true)}>
            I have it
          </Button>
        </footer>
      </Dialog>
    );
  return (
    <FormDialog title="Invite somebody" submit="Make an invitation" disabled={!/^[^\s@]+@[^\s@]+$/.test(email.trim())} onSubmit={() => void invite()} onClose={() => close(false)}>
      <Field label="E-mail" hint="Of the account that joins, also of one to come">
        {(id) => <input id={id} type="email" maxLength={127} value={email} onInput={(e) => setEmail(e.currentTarget.value)} />}
      </Field>
      <Field label="Role">{(id) => <RoleSelect id={id} value={role} mine={mine} set={setRole} />}</Field>
    </FormDialog>
  );
}

function One({ id }: { id: string }) {
  const loaded = useLoad((signal) => get<Detail>(`/v1/teams/${encodeURIComponent(id)}`, undefined, signal), [id], 15_000);
  const me = useStore(account);
  const [inviting, setInviting] = useState(false);
  const [naming, setNaming] = useState<string | null>(null);
  const back = () => setParams({ team: null });
  const t = loaded.data;
  if (loaded.error) return <Failure error={loaded.error} retry={loaded.reload} />;
  if (!t) return <Loading what="the team" />;
  const runs = atLeast(t.role, "admin");
  const may = (m: Member) => runs && (m.role !== "owner" || t.role === "owner");
  const act = async (run: () => Promise<unknown>, done: string) => {
    if (!(await attempt(run, done))) return false;
    loaded.reload();
    void loadTeams();
    return true;
  };
  const remove = async (m: Member) => {
    if (await confirmed(`Remove ${visible(m.email)}?`, "Their terminals and streams on the team's sandboxes end at once.", "Remove", true))
      await act(() => send("DELETE", `/v1/teams/${t.id}/members/${encodeURIComponent(m.account_id)}`), `${visible(m.email)} is no member any more`);
  };
  const leave = async () => {
    if (!(await confirmed(`Leave ${visible(t.name)}?`, "Only an invitation brings you back.", "Leave", true))) return;
    if (await attempt(() => send("POST", `/v1/teams/${t.id}/leave`, {}), "You are no member any more")) {
      void loadTeams();
      back();
    }
  };
  const end = async () => {
    if (!(await confirmed(`Delete ${visible(t.name)}?`, "Its secrets and keys of access end; its records and its log stay. It must have no sandbox and no snapshot.", "Delete the team", true))) return;
    if (await attempt(() => send("DELETE", `/v1/teams/${t.id}`), "The team is no more")) {
      void loadTeams();
      back();
    }
  };
  return (
    <div class="stack">
      <div class="row wrap-row">
        <Button kind="quiet" icon="left" onClick={back}>
          All teams
        </Button>
        <h2 class="grow wrap">{visible(t.name)}</h2>
        {runs && (
          <>
            <Button onClick={() => setNaming(t.name)}>Rename</Button>
            <Button kind="primary" icon="plus" onClick={() => setInviting(true)}>
              Invite
            </Button>
          </>
        )}
      </div>
      <Table
        label="Members"
        rows={t.members}
        keyOf={(m) => m.account_id}
        columns={[
          {
            title: "Member",
            as: "wrap",
            cell: (m) => (
              <>
                <strong>{visible(m.email || m.account_id)}</strong>
                {m.name && <span class="sub">{visible(m.name)}</span>}
              </>
            ),
          },
          {
            title: "Role",
            cell: (m) =>
              may(m) ? (
                <RoleSelect label={`Role of ${visible(m.email)}`} value={m.role} mine={t.role} set={(role) => void act(() => send("PATCH", `/v1/teams/${t.id}/members/${encodeURIComponent(m.account_id)}`, { role }), `${visible(m.email)} is ${role} now`)} />
              ) : (
                <span title={roleWords[m.role]}>{m.role}</span>
              ),
          },
          { title: "Since", hide: "s", cell: (m) => <When at={m.joined_at} /> },
          {
            title: "Actions",
            as: "acts",
            cell: (m) =>
              may(m) &&
              m.account_id !== me?.id && <Button kind="quiet" class="icon-only danger-hover" icon="trash" aria-label={`Remove ${visible(m.email)}`} onClick={() => void remove(m)} />,
          },
        ]}
      />
      {t.invitations.length > 0 && (
        <div class="card">
          <header>
            <h2>Invitations that wait</h2>
          </header>
          <ul class="plain-list">
            {t.invitations.map((i) => (
              <li key={i.id}>
                <strong class="grow wrap">{visible(i.email)}</strong>
                <span class="dim">{i.role}</span>
                <span class="dim small">
                  ends <When at={i.expires_at} />
                </span>
                <Button class="small" kind="quiet" onClick={() => void act(() => send("DELETE", `/v1/teams/${t.id}/invitations/${i.id}`), "The code is none any more")}>
                  Take back
                </Button>
              </li>
            ))}
          </ul>
        </div>
      )}
      <div class="row wrap-row">
        <p class="dim small grow">
          You are {t.role}: {roleWords[t.role]}. Sandboxes are made for the team in the form for a new one; its secrets, usage and log stand beside yours.
        </p>
        <Button onClick={() => void leave()}>Leave</Button>
        {t.role === "owner" && (
          <Button kind="danger" icon="trash" onClick={() => void end()}>
            Delete the team
          </Button>
        )}
      </div>
      {inviting && (
        <Invite
          team={t.id}
          mine={t.role}
          close={(made) => {
            setInviting(false);
            if (made) loaded.reload();
          }}
        />
      )}
      {naming !== null && (
        <FormDialog
          title="Rename the team"
          submit="Rename"
          disabled={!naming.trim()}
          onSubmit={() => void act(() => send("PATCH", `/v1/teams/${t.id}`, { name: naming.trim() }), "It has another name").then((done) => done && setNaming(null))}
          onClose={() => setNaming(null)}
        >
          <Field label="Name">{(f) => <input id={f} maxLength={99} value={naming} onInput={(e) => setNaming(e.currentTarget.value)} />}</Field>
        </FormDialog>
      )}
    </div>
  );
}

function All() {
  const list = useLoad((signal) => get<Team[]>("/v1/teams", undefined, signal), []);
  const [making, setMaking] = useState<string | null>(null);
  const [joining, setJoining] = useState<string | null>(null);
  if (list.error) return list.error instanceof ApiError && list.error.absent ? <Empty icon="user" title="This server has no teams" /> : <Failure error={list.error} retry={list.reload} />;
  if (!list.data) return <Loading what="teams" />;
  const enter = async (run: () => Promise<Team>, done: string) => {
    await attempt(async () => {
      const t = await run();
      void loadTeams();
      setParams({ team: t.id });
    }, done);
  };
  return (
    <div class="stack">
      <div class="row wrap-row">
        <p class="dim grow">A team has sandboxes, secrets, a budget and a log of its own. Its members act for it, each with a role.</p>
        <Button onClick={() => setJoining("")}>Join with a code</Button>
        <Button kind="primary" icon="plus" onClick={() => setMaking("")}>
          New team
        </Button>
      </div>
      {list.data.length === 0 ? (
        <Empty icon="user" title="You are in no team">
          <p>Make one and invite others, or join with a code that somebody gave you.</p>
        </Empty>
      ) : (
        <Table
          label="Teams"
          rows={list.data}
          keyOf={(t) => t.id}
          columns={[
            {
              title: "Team",
              as: "wrap",
              cell: (t) => (
                <a class="row-link" href={`/account/teams?team=${encodeURIComponent(t.id)}`}>
                  {visible(t.name)}
                </a>
              ),
            },
            { title: "You are", cell: (t) => <span title={roleWords[t.role]}>{t.role}</span> },
            { title: "Members", as: "number", cell: (t) => plural(t.member_count, "member") },
            { title: "Made", hide: "s", cell: (t) => <When at={t.created_at} /> },
          ]}
        />
      )}
      {making !== null && (
        <FormDialog title="New team" submit="Make it" disabled={!making.trim()} onSubmit={() => void enter(() => send<Team>("POST", "/v1/teams", { name: making.trim() }), "The team is made; you own it")} onClose={() => setMaking(null)}>
          <Field label="Name">{(id) => <input id={id} maxLength={99} value={making} onInput={(e) => setMaking(e.currentTarget.value)} />}</Field>
        </FormDialog>
      )}
      {joining !== null && (
        <FormDialog title="Join a team" submit="Join" disabled={!joining.trim()} onSubmit={() => void enter(() => send<Team>("POST", "/v1/teams/join", { code: joining.trim() }), "You are a member now")} onClose={() => setJoining(null)}>
          <Field label="Code" hint="As it was given to you; it is for the address of your account">
            {(id) => <input id={id} class="mono" spellcheck={false} autocapitalize="off" value={joining} onInput={(e) => setJoining(e.currentTarget.value)} />}
          </Field>
        </FormDialog>
      )}
    </div>
  );
}

export function TeamsTab() {
  const team = useStore(place).params.get("team");
  useStore(teams);
  return team ? <One key={team} id={team} /> : <All />;
}
