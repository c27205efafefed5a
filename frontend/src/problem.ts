// What goes wrong between the page and its server.

// An error whose message can be shown; `passes` where the same request may be answered later.
export class Problem extends Error {
  constructor(message: string, readonly passes: boolean) {
    super(message);
  }
}
export const canPass = (error: Error): boolean => error instanceof Problem && error.passes;
// Of a request that was given up, by the page or by a person.
export const isStop = (error: unknown): boolean => error instanceof DOMException && error.name === "AbortError";
