import { describe, expect, it } from "vitest";
import {
  axisEnd, bound, breaksAfter, buttonText, date, density, grouped, isSpecial, orDash, percent, rounded, shortStart,
  significant, visible, withBreaks,
} from "../src/format";
import { glow, veil } from "../src/shading";

it.each([
  [grouped(1234567), "1,234,567"], [rounded(4, 1), "4"], [rounded(4.25, 1), "4.3"], [significant(1234.5), "1,230"],
  [significant(0.012345), "0.0123"], [percent(0.257), "26 %"], [percent(0.257, 1), "25.7 %"],
  [orDash(null), "-"], [orDash(0.5), "0.50"],
])("%s", (text, expected) => expect(text).toBe(expected));

it.each([[0, "-"], [0.01234, "1.234 %"], [2e-6, "2e-4 %"]])("a density of %d is %s", (share, text) => {
  expect(density(share)).toBe(text);
});

it.each([[0, "0.00", "0"], [0.5, "0.50", "0.5"], [0.0002, "2.0e-4", "2.0e-4"], [20000, "20000.00", "2.0e+4"]])(
  "%d in a plot",
  (value, inTitle, atEnd) => expect([bound(value), axisEnd(value)]).toEqual([inTitle, atEnd]),
);

it("tokens of white space are quoted", () => {
  expect([" the", "\n", ""].map(visible)).toEqual(["the", '"\\n"', '""']);
});
it("breaks of lines are seen where they are shaded or can be chosen", () => {
  const spaces = "\u00a0\u00a0"; // spaces at the end of a line would have no width
  expect([" the", "\n", ".\n\n", "  "].map(withBreaks)).toEqual([" the", "↵\n", ".\n\n", spaces]);
  const tokens = [" the", "\n\n", ".\n", "\n  ", "\t", ""];
  expect(tokens.map(buttonText)).toEqual([" the", "↵↵", ".", `↵${spaces}`, "⇥", ""]);
  expect(tokens.map(breaksAfter)).toEqual(["", "\n\n", "\n", "\n", "", ""]);
});
it("special tokens are told from text", () => {
  const special = ["<|im_start|>", "<|endoftext|>", "<s>", "</s>", "<bos>", "[CLS]"];
  expect([...special, "<html>", "<", "a|b", "[1]", "|"].map(isSpecial)).toEqual(
    [...special.map(() => true), false, false, false, false, false],
  );
});
it("a short example begins a few words before its strongest token", () => {
  const words = Array.from({ length: 30 }, () => " seven..");
  expect([0, 2, 20].map((peak) => shortStart(words, peak))).toEqual([0, 0, 17]);
  expect(shortStart(Array.from({ length: 30 }, () => "a"), 20)).toBe(11);
  expect(shortStart(["an exceedingly long token of forty letters", "b"], 1)).toBe(1);
});
it("dates are those of seconds since 1970", () => expect(date(86400 * 365.5)).toBe("Jan 1, 1971"));

describe("shading", () => {
  it("is visible from the weakest activation on, and full at the maximum and beyond", () => {
    expect([0.001, 1, 2, 9].map((value) => Number(glow(value, 2)))).toEqual([0.12, 0.46, 0.8, 0.8]);
    expect(glow(1, 0)).toBe("0.120");
  });
  it("veils patches where nothing fires, and not the strongest", () => {
    expect([0, 1, 2].map((value) => Number(veil(value, 2)))).toEqual([0.78, 0.25, 0]);
    expect(veil(1, 0)).toBe("0.780");
  });
});
