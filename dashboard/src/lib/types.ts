// What the API answers, as far as the dashboard reads it. Members that a server may lack are optional.

export type Status = "pending" | "running" | "paused" | "error" | "destroyed";

export interface Sandbox {
  id: string;
  /** The team whose it is, where it is a team's. */
  team?: string;
  name?: string;
  status: Status;
  template: string;
  cpus: number;
  memory_mb: number;
  disk_gb: number;
  network_mode: string;
  allowlist?: string[];
  denylist?: string[];
  timeout?: number;
  repo_url?: string;
  repo_branch?: string;
  init_script?: string;
  secrets?: string[];
  created_at: string;
  started_at?: string;
  stopped_at?: string;
  cost: number;
  llm_cost: number;
  total_cost: number;
  budget?: number;
  phase?: string;
  percent?: number;
  trust_score?: number | null;
  agent_type?: string | null;
  /** Coding agents that are in it. */
  agents?: string[];
  isolation: { vmm: string; accel: string | null; rootless: boolean; started_from?: string; warnings: string[] };
  init?: { status: string; exit_code?: number; output_tail?: string };
  error?: { code: string; text: string; console?: string };
}

export interface Metrics {
  cpu_percent: number;
  memory_used_mb: number;
  memory_total_mb: number;
  disk_used_mb: number;
  disk_total_mb: number;
  num_processes: number;
  load1?: number;
  timestamp?: string;
}

export interface WardenStatus {
  state: string;
  boot_ms: number | null;
  kernel: string | null;
  seq: number;
  execs: number;
  exec_count: number;
  idle_ms: number;
  metrics: Metrics | null;
  network?: Record<string, number>;
  observed?: { told: number; lost: number };
  record?: { bytes: number; quota_bytes: number; degraded: boolean; lost: Record<string, number> };
}

export interface Template {
  name: string;
  aliases: string[];
  description: string | null;
  state: string;
  reason: string | null;
  size_bytes?: number;
}

export interface Entry {
  name: string;
  path: string;
  type: "file" | "directory";
  size: number;
  mod_time: string;
  mode?: number;
  target?: string;
}

export interface Account {
  id: string;
  email: string;
  name: string;
  tier: string;
  created_at: string;
}

export interface ApiKey {
  id: string;
  name: string;
  prefix: string;
  scope: string;
  last_used: string | null;
  expires_at: string | null;
  created_at: string;
}

export interface Secret {
  name: string;
  hosts: string[];
  created_at: string;
  updated_at: string;
  last_used: string | null;
}

export interface LoginSession {
  id: string;
  user_agent: string;
  ip: string;
  expires_at: string;
  created_at: string;
}

/** A line of the record, as the event stream gives it. */
export interface Line {
  sandbox_id: string;
  seq: number;
  t: number;
  ts: string;
  type: string;
  src: string;
  session: string | null;
  data: Record<string, unknown>;
}
