// Signing in: an API key, or e-mail and password; and signing up where the operator opened it.
import { useState } from "preact/hooks";
import { ApiError, request, setToken } from "../lib/api";
import { useTitle } from "../lib/use";
import { Logo } from "../ui/icons";
import { Button, Code, Field } from "../ui/parts";

type Way = "key" | "password" | "signup";

async function tokenOf(way: Way, key: string, email: string, password: string): Promise<string> {
  if (way === "key") {
    await request("GET", "/v1/account", { token: key });
    return key;
  }
  const path = way === "signup" ? "/v1/auth/signup" : "/v1/auth/login";
  const answer = await request("POST", path, { json: { email, password }, token: null });
  return ((await answer.json()) as { token: string }).token;
}

function explain(e: Error, way: Way): string {
  if (!(e instanceof ApiError)) return e.message;
  if (e.offline) return "The server does not answer. Is it running? caged server status tells.";
  if (e.status === 401) return way === "key" ? "This key is not known here. Is it whole, and of this server?" : "E-mail or password is wrong.";
  return e.message;
}

export function SignInPage() {
  const initial: Way = location.pathname === "/signup" ? "signup" : "key";
  const [way, setWay] = useState<Way>(initial);
  const [key, setKey] = useState("");
  const [email, setEmail] = useState("");
  const [password, setPassword] = useState("");
  const [remember, setRemember] = useState(false);
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<string | null>(null);
  useTitle(way === "signup" ? "Sign up" : "Sign in");

  const submit = async (e: Event) => {
    e.preventDefault();
    const typed = key.trim();
    if (way === "key" && !typed) return setError("The key is missing.");
    // a header cannot carry more than printable ASCII
    if (way === "key" && !/^[\x21-\x7e]+$/.test(typed)) return setError("This does not look like an API key: they begin with caged_sk_.");
    if (way !== "key" && (!email.trim() || !password)) return setError("E-mail and password are both needed.");
    setBusy(true);
    setError(null);
    try {
      setToken(await tokenOf(way, typed, email.trim(), password), remember);
    } catch (cause) {
      setError(explain(cause as Error, way));
    }
    setBusy(false);
  };

  const choose = (w: Way) => {
    setWay(w);
    setError(null);
  };

  return (
    <main class="signin">
      <div class="signin-card">
        <div class="signin-head">
          <Logo size={40} />
          <h1>{way === "signup" ? "Sign up" : "Sign in to Caged"}</h1>
          <p class="dim">Coding agents in microVMs, watched.</p>
        </div>
        <div class="segments" role="group" aria-label="How to sign in">
          <button type="button" aria-pressed={way === "key"} onClick={() => choose("key")}>
            API key
          </button>
          <button type="button" aria-pressed={way !== "key"} onClick={() => choose("password")}>
            E-mail
          </button>
        </div>
        <form onSubmit={submit} noValidate>
          {way === "key" ? (
            <Field label="API key" hint="Begins with caged_sk_">
              {(id) => (
                <input id={id} type="password" name="key" autocomplete="off" spellcheck={false} value={key} onInput={(e) => setKey(e.currentTarget.value)} />
              )}
            </Field>
          ) : (
            <>
              <Field label="E-mail">
                {(id) => <input id={id} type="email" name="email" autocomplete="username" value={email} onInput={(e) => setEmail(e.currentTarget.value)} />}
              </Field>
              <Field label="Password" hint={way === "signup" ? "At least 8 characters" : undefined}>
                {(id) => (
                  <input
                    id={id}
                    type="password"
                    name="password"
                    autocomplete={way === "signup" ? "new-password" : "current-password"}
                    value={password}
                    onInput={(e) => setPassword(e.currentTarget.value)}
                  />
                )}
              </Field>
            </>
          )}
          <label class="check">
            <input type="checkbox" checked={remember} onChange={(e) => setRemember(e.currentTarget.checked)} />
            <span>Stay signed in on this device</span>
          </label>
          {error && (
            <p class="failure" role="alert">
              {error}
            </p>
          )}
          <Button kind="primary" type="submit" busy={busy} class="full">
            {way === "signup" ? "Sign up" : "Sign in"}
          </Button>
        </form>
        {way === "key" ? (
          <div class="signin-help">
            <p class="dim small">Whoever started the server finds the owner's key in its state directory:</p>
            <Code label="Command that shows the owner's key" text={'cat "${CAGED_STATE_DIR:-/var/lib/caged}/owner.key"'} />
          </div>
        ) : (
          <p class="dim small center">
            {way === "signup" ? "There is an account already? " : "No account yet? "}
            <button type="button" class="as-link" onClick={() => choose(way === "signup" ? "password" : "signup")}>
              {way === "signup" ? "Sign in" : "Sign up"}
            </button>
            {way !== "signup" && ", where the operator of this server allows it."}
          </p>
        )}
      </div>
    </main>
  );
}
