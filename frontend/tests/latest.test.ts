import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { Problem } from "../src/problem";
import { Latest } from "../src/latest.svelte";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

const later = <T>() => {
  let answer!: (value: T) => void;
  let fail!: (error: Error) => void;
  const promise = new Promise<T>((done, wrong) => ([answer, fail] = [done, wrong]));
  return { promise, answer, fail };
};
const settle = () => vi.advanceTimersByTimeAsync(0);

describe("of two questions", () => {
  it("the newest is answered, whichever answer comes first", async () => {
    const [first, second] = [later<string>(), later<string>()];
    const answered: string[] = [];
    const latest = new Latest<string>((answer) => answered.push(answer));
    const signals: AbortSignal[] = [];
    for (const { promise } of [first, second]) latest.ask((signal) => (signals.push(signal), promise));
    expect(signals.map((signal) => signal.aborted)).toEqual([true, false]);
    second.answer("second");
    await settle();
    first.answer("first");
    await settle();
    expect([latest.answer, latest.waiting, answered]).toEqual(["second", false, ["second"]]);
  });
  it("a failure of the older is not shown", async () => {
    const [first, second] = [later<string>(), later<string>()];
    const latest = new Latest<string>();
    latest.ask(() => first.promise);
    latest.ask(() => second.promise);
    first.fail(new Error("old"));
    await settle();
    expect([latest.problem, latest.waiting]).toEqual(["", true]);
  });
  it("the older is never asked where it is overtaken within the delay", async () => {
    const ask = vi.fn(() => Promise.resolve("x"));
    const latest = new Latest<string>();
    latest.ask(ask, 100);
    expect(latest.waiting).toBe(true); // what is shown is old from the first key on
    await vi.advanceTimersByTimeAsync(50);
    latest.ask(ask, 100);
    await vi.advanceTimersByTimeAsync(100);
    expect([ask.mock.calls.length, latest.answer]).toEqual([1, "x"]);
  });
});

describe("a question that fails", () => {
  const gone = new Problem("no server", true);
  it("is asked again by itself, and the answer then replaces the problem", async () => {
    const ask = vi.fn().mockRejectedValueOnce(gone).mockRejectedValueOnce(gone).mockResolvedValue("back");
    const latest = new Latest<string>();
    latest.ask(ask);
    await settle();
    expect([latest.problem, latest.canRetry, latest.waiting]).toEqual(["no server", true, false]);
    await vi.advanceTimersByTimeAsync(3000);
    expect([latest.problem, latest.answer, ask.mock.calls.length]).toEqual(["", "back", 3]);
  });
  it("is given up in the end, and asked again by the button", async () => {
    const ask = vi.fn().mockRejectedValue(gone);
    const latest = new Latest<string>();
    latest.ask(ask);
    await vi.advanceTimersByTimeAsync(600_000);
    expect(ask.mock.calls.length).toBe(7);
    ask.mockResolvedValue("back");
    latest.again();
    await settle();
    expect([latest.problem, latest.answer]).toEqual(["", "back"]);
  });
  it("for a reason that stays is not asked again, and the last answer is kept", async () => {
    const ask = vi.fn().mockResolvedValueOnce("old").mockRejectedValue(new Problem("no feature 9", false));
    const latest = new Latest<string>();
    latest.ask(ask);
    await settle();
    latest.ask(ask);
    await vi.advanceTimersByTimeAsync(600_000);
    expect(ask.mock.calls.length).toBe(2);
    expect([latest.problem, latest.canRetry, latest.answer]).toEqual(["no feature 9", false, "old"]);
  });
  it("and is stopped or cleared is not asked again", async () => {
    const ask = vi.fn().mockRejectedValue(gone);
    const latest = new Latest<string>();
    latest.ask(ask);
    await settle();
    latest.clear();
    await vi.advanceTimersByTimeAsync(600_000);
    latest.again();
    expect([ask.mock.calls.length, latest.problem]).toEqual([1, ""]);
  });
});
