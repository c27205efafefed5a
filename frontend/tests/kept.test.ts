import { describe, expect, it } from "vitest";
import { Kept } from "../src/kept";

const storage = () => {
  const items: Record<string, string> = {};
  const own = {
    getItem: (key: string) => items[key] ?? null,
    setItem: (key: string, text: string) => (items[key] = text),
  };
  return { items, own: own as unknown as Storage };
};

describe("what is kept", () => {
  it("is there after a reload, for its own index alone", () => {
    const { own } = storage();
    const first = new Kept(() => own);
    first.open("a");
    first.set("reading", { text: "the bridge" });
    let turns = ["who?"];
    first.keep("talk", () => turns);
    turns = ["who?", "why?"];
    first.write();
    const again = new Kept(() => own);
    again.open("a");
    expect([again.get("reading", null), again.get("talk", [])]).toEqual([{ text: "the bridge" }, ["who?", "why?"]]);
    again.open("b");
    expect(again.get("talk", [])).toEqual([]);
  });
  it("of visits is that of the last fifty", () => {
    const kept = new Kept(() => null);
    for (let n = 0; n < 60; n++) kept.remember(`v${n}`, "scrolled", n);
    kept.remember("v59", "by", "random");
    expect([9, 10, 59].map((n) => kept.recall(`v${n}`, "scrolled", -1))).toEqual([-1, 10, 59]);
    expect(kept.recall("v59", "by", "top")).toBe("random");
  });
  it("is kept in memory where the browser has no storage, or none left, or holds nonsense", () => {
    const full = { getItem: () => "{", setItem: () => { throw new Error("full"); } } as unknown as Storage;
    for (const own of [null, full]) {
      const kept = new Kept(() => own);
      kept.open("a");
      kept.set("x", 1);
      kept.write();
      expect(kept.get("x", 0)).toBe(1);
    }
  });
});
