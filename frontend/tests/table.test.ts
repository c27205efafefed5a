import { expect, it } from "vitest";
import { toCsv, toJson, type Table } from "../src/table";

const table: Table = { columns: ["feature", "label"], rows: [[1, 'says "yes", or no'], [2, null], [3, "two\nlines"]] };

it("writes CSV that RFC 4180 reads", () => {
  expect(toCsv(table)).toBe('feature,label\r\n1,"says ""yes"", or no"\r\n2,\r\n3,"two\nlines"\r\n');
});
it("writes JSON of one object a row", () => {
  expect(JSON.parse(toJson(table))).toEqual([
    { feature: 1, label: 'says "yes", or no' }, { feature: 2, label: null }, { feature: 3, label: "two\nlines" },
  ]);
});
