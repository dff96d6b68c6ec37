/* The client of Caged for TypeScript and JavaScript: Node 20 and later, and browsers. */
export { Caged } from "./client.js";
export type { ClientOptions } from "./transport.js";
export * from "./errors.js";
export type * from "./api.js";
// by name: one that the OpenAPI document gains does not clash with it
export type {
  Alert, AlertList, AlertRule, AlertRuleConfig, IngestEvent, Ingested, Notification, NotificationConfig,
  NotificationConfigUpdate, NotificationList, Replay, ReplayEvent, ReplaySummary, Session, SessionPage,
  TrustScore,
} from "./models.js";
export type { LiveEvent } from "./sse.js";
export type { StreamOptions } from "./events.js";
export type { Upload } from "./files.js";
export type { CreateOptions, ExecOptions, ExecStreamOptions } from "./sandboxes.js";
export type { WebSocketConstructor, WebSocketLike } from "./socket.js";
export { MCPClient, type MCPResult, type MCPTool } from "./mcp.js";
export { ExecStream, TerminalSession, type OutputPart } from "./streams.js";
export { VERSION } from "./wire.js";
