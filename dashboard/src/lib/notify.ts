// How many notifications wait to be read: asked for at times, and soon after a record tells of an alert.
import { ApiError, get, onToken, signedIn } from "./api";
import { onLine } from "./live";
import { Store } from "./store";

/** null: this server has none, or has not answered yet. */
export const unread = new Store<number | null>(null);

const EVERY_MS = 30_000;
const SOON_MS = 1_500;
let timer: ReturnType<typeof setTimeout> | undefined;
let soon: ReturnType<typeof setTimeout> | undefined;
let absent = false;

export async function countUnread(): Promise<void> {
  clearTimeout(timer);
  if (!signedIn() || absent) return;
  try {
    if (document.visibilityState === "visible") unread.value = (await get<{ unread_count: number }>("/v1/notifications/unread-count")).unread_count;
  } catch (e) {
    absent = e instanceof ApiError && e.absent;
    if (absent) unread.value = null;
  }
  if (!absent) timer = setTimeout(() => void countUnread(), EVERY_MS);
}

export function followNotifications(): void {
  onToken(() => {
    absent = false;
    unread.value = null;
    void countUnread();
  });
  onLine((type) => {
    if ((type !== "budget" && type !== "trust" && type !== "error") || soon) return;
    soon = setTimeout(() => {
      soon = undefined;
      void countUnread();
    }, SOON_MS);
  });
  void countUnread();
}
