/** What the conversation has cost, and what it has saved; the numbers run up to where they stand. */
import { find } from "../shared/dom";
import { money } from "../shared/format";

const RUN_MS = 600;

/** The two numbers at the top. */
export class Totals {
  #cost = 0;
  #saved = 0;
  #shown = { cost: 0, saved: 0 };
  #running = 0;

  /** Adds a call. */
  add(costUsd: string, savedUsd: string): void {
    this.#cost += Number(costUsd) || 0;
    this.#saved += Number(savedUsd) || 0;
    this.#run();
  }

  /** Begins anew. */
  reset(): void {
    this.#cost = this.#saved = 0;
    this.#run();
  }

  #run(): void {
    cancelAnimationFrame(this.#running);
    const from = { ...this.#shown };
    const began = performance.now();
    const isStill = matchMedia("(prefers-reduced-motion: reduce)").matches;
    const step = (now: number): void => {
      const part = isStill ? 1 : Math.min(1, (now - began) / RUN_MS);
      this.#shown = {
        cost: from.cost + (this.#cost - from.cost) * part,
        saved: from.saved + (this.#saved - from.saved) * part,
      };
      find("cost").textContent = money(part < 1 ? Number(this.#shown.cost.toPrecision(3)) : this.#cost);
      find("saved").textContent = money(part < 1 ? Number(this.#shown.saved.toPrecision(3)) : this.#saved);
      find("totals").classList.toggle("loss", this.#saved < 0);
      if (part < 1) {
        this.#running = requestAnimationFrame(step);
      }
    };
    this.#running = requestAnimationFrame(step);
  }
}
