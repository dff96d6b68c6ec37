import { describe, expect, test } from "vitest";
import { checkRecipe } from "../src/lib/check";
import { price } from "../src/lib/format";
import { bodyOf, commandOf, emptyRecipe, yamlOf } from "../src/lib/recipe";

describe("a recipe", () => {
  test("what is chosen for the network is what is asked for: none is never left out", () => {
    expect(bodyOf({ ...emptyRecipe, network_mode: "none" })["network_mode"]).toBe("none");
    expect(bodyOf({ ...emptyRecipe })["network_mode"]).toBeUndefined(); // full is the server's default
    expect(commandOf({ ...emptyRecipe, network_mode: "none" })).toBe("caged run --template minimal --network none");
    expect(commandOf({ ...emptyRecipe, network_mode: "allowlist", allowlist: ["a.com", "*.b.org"] })).toBe("caged run --template minimal --network allowlist --allowlist 'a.com,*.b.org'");
    expect(yamlOf({ ...emptyRecipe, network_mode: "allowlist", allowlist: ["*.b.org"], denylist: ["c.com"] })).toBe(
      'template: minimal\nnetwork:\n  mode: allowlist\n  allow:\n    - "*.b.org"\n  deny:\n    - c.com\n',
    );
  });
  test("0 seconds of idling is said, nothing is left to the default", () => {
    expect(bodyOf({ ...emptyRecipe, timeout: 0 })["timeout"]).toBe(0);
    expect(commandOf({ ...emptyRecipe, timeout: 0 })).toContain("--timeout 0");
    expect(checkRecipe({ ...emptyRecipe, timeout: Number.NaN })["timeout"]).toBeTruthy();
  });
  test("a commit is a text in YAML, whatever it looks like", () => {
    expect(yamlOf({ ...emptyRecipe, repo: "https://x.org/p.git", repo_commit: "1234567" })).toContain('commit: "1234567"');
  });
});

test("prices at a glance", () => {
  expect([0, 0.0000521, 0.0123, 0.05, 1.5, 2, null].map(price)).toEqual(["$0.00", "<$0.001", "$0.012", "$0.05", "$1.50", "$2.00", "–"]);
});
