// A program without a browser asks to be let in; a person compares the code and decides.
import { useEffect, useState } from "preact/hooks";
import { ApiError, get, send } from "../lib/api";
import { visible } from "../lib/format";
import { place, setParams } from "../lib/router";
import { useStore } from "../lib/store";
import { useTitle } from "../lib/use";
import { Button, Empty, Field } from "../ui/parts";

interface Asker {
  user_agent?: string;
  ip?: string;
}

/** "bcdfghjk" → "BCDF-GHJK" */
function tidy(code: string): string {
  const letters = code.toUpperCase().replace(/[^A-Z0-9]/g, "").slice(0, 8);
  return letters.length > 4 ? `${letters.slice(0, 4)}-${letters.slice(4)}` : letters;
}

export function DevicePage() {
  useTitle("Approve a device");
  const params = useStore(place).params;
  const given = params.get("code") ?? params.get("user_code") ?? "";
  const [code, setCode] = useState(tidy(given));
  const [asker, setAsker] = useState<Asker | null>(null);
  const [error, setError] = useState<string | null>(null);
  const [busy, setBusy] = useState(false);
  const [done, setDone] = useState<"approved" | "refused" | null>(null);

  const look = async (c: string) => {
    setBusy(true);
    setError(null);
    try {
      setAsker(await get<Asker>(`/v1/auth/device/${encodeURIComponent(c)}`));
    } catch (e) {
      setAsker(null);
      setError(e instanceof ApiError && e.status === 404 ? "Nobody waits under this code. It may have run out: codes live for ten minutes." : (e as Error).message);
    }
    setBusy(false);
  };
  useEffect(() => {
    if (given) void look(tidy(given));
  }, [given]);

  const decide = async (approve: boolean) => {
    setBusy(true);
    try {
      await send("POST", "/v1/auth/device/approve", { user_code: code, approve });
      setDone(approve ? "approved" : "refused");
    } catch (e) {
      setError((e as Error).message);
    }
    setBusy(false);
  };

  if (done)
    return (
      <Empty icon={done === "approved" ? "check" : "x"} title={done === "approved" ? "The device is in" : "The device stays outside"}>
        <p>{done === "approved" ? "It gets a key of this account with its next question. You can close this page; the key is listed under Account, and can be taken back there." : "It has been told. Nothing was given out."}</p>
      </Empty>
    );
  return (
    <section class="page narrow">
      <h1>Approve a device</h1>
      <form
        class="card"
        onSubmit={(e) => {
          e.preventDefault();
          setParams({ code });
          void look(code);
        }}
      >
        <div class="in stack">
          <Field label="Code" hint="As the device shows it" error={error}>
            {(id) => (
              <input id={id} class="code-input mono" autocomplete="off" spellcheck={false} value={code} placeholder="BCDF-GHJK" onInput={(e) => { setCode(tidy(e.currentTarget.value)); setAsker(null); }} />
            )}
          </Field>
          {!asker && (
            <Button kind="primary" type="submit" busy={busy} disabled={code.length < 9}>
              Look who asks
            </Button>
          )}
          {asker && (
            <>
              <dl class="facts">
                <dt>Program</dt>
                <dd>{visible(asker.user_agent || "does not say")}</dd>
                <dt>Address</dt>
                <dd>{visible(asker.ip || "unknown")}</dd>
              </dl>
              <p class="note warn">It will be able to do everything that you can. Approve only what you have started yourself, just now.</p>
              <div class="row">
                <Button kind="primary" busy={busy} onClick={() => void decide(true)}>
                  Approve
                </Button>
                <Button kind="danger" busy={busy} onClick={() => void decide(false)}>
                  Refuse
                </Button>
              </div>
            </>
          )}
        </div>
      </form>
    </section>
  );
}
