// The one rule of every view that asks the server: the newest question is the one that counts. An answer that comes
// after it was overtaken is dropped; one that fails because the server is gone or busy is asked again by itself, for a
// while, and then by a button.
import { canPass } from "./problem";

const RETRIES_MS = [1000, 2000, 4000, 8000, 15_000, 30_000]; // waits before it is asked again

type Ask<T> = (signal: AbortSignal) => Promise<T>;

export class Latest<T> {
  answer = $state.raw<T | null>(null); // to the newest question that was answered
  problem = $state(""); // of the newest question
  waiting = $state(false); // for its answer; until it comes, `answer` is of an older question
  canRetry = $state(false); // whether the same question may be answered later
  #question: Ask<T> | null = null;
  #stop = new AbortController();
  #timer: ReturnType<typeof setTimeout> | undefined;
  #failures = 0;

  constructor(private readonly answered: (answer: T) => void = () => {}) {}

  // Gives up the question before, and asks this one after a time in which it can be overtaken.
  ask(question: Ask<T>, delay_ms = 0): void {
    this.stop();
    this.#question = question;
    this.#failures = 0;
    this.waiting = true;
    if (delay_ms) this.#timer = setTimeout(() => void this.#run(), delay_ms);
    else void this.#run();
  }
  again = (): void => {
    if (this.#question) this.ask(this.#question);
  };
  stop(): void {
    clearTimeout(this.#timer);
    this.#stop.abort();
    this.waiting = false;
  }
  clear(): void {
    this.stop();
    this.#question = null;
    this.answer = null;
    this.problem = "";
  }

  async #run(): Promise<void> {
    const stop = (this.#stop = new AbortController());
    try {
      const answer = await this.#question!(stop.signal);
      if (stop.signal.aborted) return;
      this.answer = answer;
      this.problem = "";
      this.waiting = false;
      this.answered(answer);
    } catch (error) {
      if (!stop.signal.aborted) this.#fail(error as Error);
    }
  }
  #fail(error: Error): void {
    this.waiting = false;
    this.problem = error.message;
    this.canRetry = canPass(error);
    const wait = this.canRetry ? RETRIES_MS[this.#failures++] : undefined;
    if (wait !== undefined) this.#timer = setTimeout(() => void this.#run(), wait);
  }
}
