import { describe, expect, it } from "vitest";
import grammar from "../../tests/grammar.json";
import { formatEdit, parseEdit } from "../src/edits";
import { formatRange, parseRange } from "../src/ranges";

type Case = { text: string; canonical?: string };

describe("edits are read and printed as in Python", () => {
  it.each<Case & { edit: object }>(grammar.edits)("$text", ({ text, canonical, edit }) => {
    expect(parseEdit(text)).toEqual(edit);
    expect(formatEdit(parseEdit(text)!)).toBe(canonical ?? text);
    expect(parseEdit(formatEdit(parseEdit(text)!))).toEqual(edit);
  });
  it.each(grammar.refused)("%j is refused", (text) => expect(parseEdit(text)).toBeNull());
  it("a slider at zero is an ablation", () => {
    expect(formatEdit({ op: "clamp", feature: 3, value: 0, unit: "max", where: "all" })).toBe("feature:3=0");
  });
});

describe("ranges are read and printed as in Python", () => {
  it.each<Case & { range: (number | null)[] }>(grammar.ranges)("$text", ({ text, canonical, range }) => {
    expect(parseRange(text)).toEqual(range);
    expect(formatRange(parseRange(text)!)).toBe(canonical ?? text);
  });
  it.each(grammar.refused_ranges)("%j is refused", (text) => expect(parseRange(text)).toBeNull());
});
