// Whose things a page shows: the person's own, or a team's.
import { atLeast, teams, type Role } from "../lib/teams";
import { useStore } from "../lib/store";
import { visible } from "../lib/format";

export function Whose({ team, least, set }: { team: string; least: Role; set: (team: string) => void }) {
  const list = useStore(teams).filter((t) => atLeast(t.role, least));
  if (!list.length) return null;
  return (
    <label class="row small">
      <span class="dim">of</span>
      <select class="tight" value={team} onChange={(e) => set(e.currentTarget.value)}>
        <option value="">myself</option>
        {list.map((t) => (
          <option key={t.id} value={t.id}>
            {visible(t.name)}
          </option>
        ))}
      </select>
    </label>
  );
}
