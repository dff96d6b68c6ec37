/* Objects of the contract that api/openapi.yaml does not describe (yet); the others come from it. Times are RFC 3339. */

export interface Session {
  id: string;
  sandbox_id: string;
  persona_id: string | null;
  status: "active" | "completed" | "failed";
  agent_type: string | null;
  model: string | null;
  tokens_in: number;
  tokens_out: number;
  cost_usd: number;
  llm_cost: number;
  compute_cost: number;
  total_cost: number;
  trust_score: number | null;
  event_count: number;
  duration_ms: number | null;
  started_at: string;
  ended_at: string | null;
}

export interface SessionPage {
  data: Session[];
  pagination: { page: number; per_page: number; total: number; total_pages: number };
}

export interface ReplayEvent {
  id: string;
  session_id: string;
  sequence: number;
  type: string;
  timestamp: string;
  duration_ms: number;
  data: unknown;
}

export interface Replay {
  events: ReplayEvent[];
  has_more: boolean;
  next_seq: number;
  total: number;
}

export interface ReplaySummary {
  session_id: string;
  event_count: number;
  start_time: string | null;
  end_time: string | null;
  duration_ms: number;
  types: Record<string, number>;
}

export interface TrustScore {
  session_id: string;
  score: number;
  updated_at: string;
}

export interface IngestEvent {
  type: string;
  /** Now, when absent. */
  timestamp?: string;
  id?: string;
  sandbox_id?: string;
  session_id?: string;
  process_id?: string;
  duration_ns?: number;
  meta?: Record<string, string>;
  payload?: Record<string, unknown>;
}

export interface Ingested {
  accepted: number;
  errors: unknown;
}

export interface Alert {
  id: string;
  account_id: string;
  rule_id: string | null;
  rule_type: string;
  severity: "info" | "warning" | "critical";
  state: "open" | "resolved" | "muted";
  title: string;
  message: string;
  sandbox_id: string | null;
  session_id: string | null;
  meta: Record<string, string> | null;
  created_at: string;
  resolved_at: string | null;
}

export interface AlertList {
  alerts: Alert[];
  total: number;
  limit: number;
  offset: number;
}

export interface AlertRuleConfig {
  threshold_percent?: number;
  multiplier_threshold?: number;
  idle_minutes?: number;
  error_count_threshold?: number;
  window_minutes?: number;
  score_threshold?: number;
}

export interface AlertRule {
  id: string;
  account_id: string;
  type: string;
  enabled: boolean;
  config: AlertRuleConfig;
  created_at: string;
}

export interface Notification {
  id: string;
  account_id: string;
  alert_id: string | null;
  channel: string;
  title: string;
  message: string;
  read: boolean;
  created_at: string;
}

export interface NotificationList {
  notifications: Notification[];
  unread_count: number;
}

export interface NotificationConfig {
  account_id: string;
  enabled_channels: string[];
  slack_channel_id: string | null;
  email_address: string | null;
  slack_webhook_configured: boolean;
  slack_webhook_hint: string | null;
  slack_bot_token_configured: boolean;
  slack_bot_token_hint: string | null;
  discord_webhook_configured: boolean;
  discord_webhook_hint: string | null;
}

/** Absent members stay as they are; "__clear__" removes one. */
export interface NotificationConfigUpdate {
  enabled_channels?: string[];
  slack_channel_id?: string;
  email_address?: string;
  slack_webhook_url?: string;
  discord_webhook_url?: string;
}
