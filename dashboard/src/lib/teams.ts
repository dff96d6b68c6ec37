// The teams that a person is in, and whose things a page is about.
import { get, onToken } from "./api";
import { Store } from "./store";

export type Role = "viewer" | "member" | "admin" | "owner";
export const roles: Role[] = ["viewer", "member", "admin", "owner"];

export interface Team {
  id: string;
  name: string;
  role: Role;
  member_count: number;
  created_at: string;
}

export const teams = new Store<Team[]>([]);

/** A server that has no teams has none to tell of. */
export async function loadTeams(): Promise<void> {
  teams.value = await get<Team[]>("/v1/teams").catch(() => []);
}
onToken(() => (teams.value = []));

export function atLeast(role: Role, least: Role): boolean {
  return roles.indexOf(role) >= roles.indexOf(least);
}

export const roleWords: Record<Role, string> = {
  viewer: "reads",
  member: "makes and uses sandboxes",
  admin: "also secrets, budget, rules, members",
  owner: "also owners, and the end of the team",
};
