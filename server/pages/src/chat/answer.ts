/**
 * One answer on the page: the gears that write it, its text, what was taken back, and what it cost.
 *
 * Rules: shows what the accumulator says and nothing else. What is taken back is struck out where it stood, and stays to be
 * looked at; screen readers are told of it once, in words.
 */
import {
  AttemptOutcome,
  AttemptCause,
  FailureKind,
  Outcome,
  TaskType,
  wordOf,
  type Completion,
  type Snapshot,
  type StageRef,
} from "../../../../clients/web/src/web.js";
import { element, fill } from "../shared/dom";
import { count, milliseconds, money, share } from "../shared/format";
import { markdown } from "../shared/markdown";
import { mark } from "../shared/marks";
import { savingOf } from "../shared/saving";

/** What a person may do with an answer. */
export interface AnswerActions {
  readonly retry: () => void;
  readonly judge: (verdict: "accepted" | "rejected") => Promise<void>;
}

/** One answer's element. */
export class AnswerView {
  readonly root: HTMLElement;
  readonly #gears = element("ol.gears", { "aria-label": "Models that wrote this answer" });
  readonly #taken = element("div.taken");
  readonly #text = element("div.text");
  readonly #foot = element("footer");
  readonly #say: (words: string) => void;
  #shownRetracted = 0;
  #shownAttempts = 0;
  #pending: Snapshot | undefined;
  #frame = 0;

  /** @param say tells screen readers. */
  constructor(say: (words: string) => void) {
    this.#say = say;
    this.root = element("article.turn.answer", { "aria-label": "Answer", "aria-busy": "true" });
    this.root.append(this.#gears, this.#taken, this.#text, this.#foot);
    fill(this.#text, element("span.waiting", { role: "img", "aria-label": "waiting" }, "●"));
  }

  /** Shows how far the answer has come; the last of several in one frame wins. */
  show(snapshot: Snapshot): void {
    this.#pending = snapshot;
    if (this.#frame === 0) {
      this.#frame = requestAnimationFrame(() => this.#flush());
    }
  }

  /** Shows the end. */
  end(snapshot: Snapshot | undefined, actions: AnswerActions): void {
    if (snapshot !== undefined) {
      this.#pending = snapshot;
    }
    this.#flush();
    this.root.setAttribute("aria-busy", "false");
    this.root.classList.add("ended");
    const completion = snapshot?.completion;
    if (snapshot !== undefined && completion !== undefined) {
      this.#completed(completion, snapshot, actions);
    }
  }

  /** Shows that the call failed, with what stands of the answer kept. */
  fail(words: string, actions: AnswerActions): void {
    this.#flush();
    this.root.setAttribute("aria-busy", "false");
    this.root.classList.add("ended", "failed");
    this.#text.querySelector(".waiting")?.remove();
    const again = element("button.small", { type: "button" }, "Retry");
    again.addEventListener("click", actions.retry);
    this.#foot.prepend(element("p.error", { role: "alert" }, words), element("div.actions", {}, again));
  }

  /** Shows that the person stopped it. */
  stopped(actions: AnswerActions): void {
    this.#flush();
    this.root.setAttribute("aria-busy", "false");
    this.root.classList.add("ended");
    this.#text.querySelector(".waiting")?.remove();
    const again = element("button.small", { type: "button" }, "Retry");
    again.addEventListener("click", actions.retry);
    fill(this.#foot, element("p.note", {}, "Stopped. What was used is billed."), element("div.actions", {}, again));
    this.#say("Stopped.");
  }

  #flush(): void {
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    const snapshot = this.#pending;
    this.#pending = undefined;
    if (snapshot === undefined) {
      return;
    }
    this.#showGears(snapshot);
    this.#showRetracted(snapshot);
    if (snapshot.text !== "") {
      fill(this.#text, markdown(snapshot.text));
      if (snapshot.checkpoint > 0 && snapshot.completion === undefined) {
        mark(this.#text, markdown(snapshot.committed).textContent.length);
      }
    } else if (snapshot.toolCalls.length > 0) {
      fill(this.#text, element("pre", {}, snapshot.toolCalls.map((call) => `${call.name}(${call.arguments})`).join("\n")));
    }
    // What a model that was left has written stands until its successor writes.
    const isLeft = snapshot.completion === undefined && snapshot.writer !== undefined && snapshot.attempts.at(-1) !== undefined &&
      !sameStage(snapshot.writer, snapshot.attempts.at(-1)?.stage);
    this.#text.classList.toggle("leaving", isLeft);
    this.root.classList.toggle("writing", snapshot.completion === undefined && snapshot.text !== "");
  }

  #showGears({ attempts, switches, completion }: Snapshot): void {
    const told = completion?.attempts ?? [];
    const rows = attempts.map((attempt) => {
      const ended = told.find(({ number }) => number === attempt.number);
      const left = switches.find((change) => sameStage(change.fromStage, attempt.stage));
      const isLast = attempt === attempts.at(-1);
      const state = ended !== undefined ? stateOf(ended.outcome) : isLast ? "running" : "left";
      const cause = attempt.cause === AttemptCause.FIRST ? "" : wordOf(AttemptCause, attempt.cause).replaceAll("_", " ");
      const reason = ended?.failure ? wordOf(FailureKind, ended.failure).replaceAll("_", " ") : (left?.reason ?? "");
      const label = `${nameOf(attempt.stage)}: ${state}${reason === "" ? "" : `, ${reason}`}`;
      return element(
        `li.gear.${state}` as "li",
        { "aria-label": label, title: `${attempt.stage?.provider ?? ""}/${attempt.stage?.model ?? ""} ${reason}`.trim() },
        element("span.cog", { "aria-hidden": "true" }, { running: "⚙", served: "✓", left: "✕" }[state]),
        element("span.name", { "aria-hidden": "true" }, nameOf(attempt.stage)),
        cause !== "" && element("span.cause", { "aria-hidden": "true" }, cause),
        state === "left" && reason !== "" && element("span.reason", { "aria-hidden": "true" }, reason),
      );
    });
    fill(this.#gears, ...rows);
    if (attempts.length > this.#shownAttempts) {
      const latest = attempts.at(-1);
      if (this.#shownAttempts > 0) {
        this.root.classList.remove("shifted");
        void this.root.offsetWidth; // begins the movement anew
        this.root.classList.add("shifted");
        this.#say(`Shifted to ${nameOf(latest?.stage)}.`);
      }
      this.#shownAttempts = attempts.length;
    }
  }

  #showRetracted({ retracted }: Snapshot): void {
    for (const piece of retracted.slice(this.#shownRetracted)) {
      const why = piece.reason === "" ? "it was not good enough" : piece.reason;
      const who = nameOf(piece.stage);
      this.#taken.append(
        element(
          "details.retracted",
          { open: true },
          element("summary", {}, `Taken back from ${who}: ${why}`),
          element("del", {}, piece.text === "" ? piece.reasoning : piece.text),
        ),
      );
      this.#say(`The text of ${who} was taken back: ${why}.`);
    }
    this.#shownRetracted = retracted.length;
  }

  #completed(completion: Completion, snapshot: Snapshot, actions: AnswerActions): void {
    this.#text.querySelector(".waiting")?.remove();
    for (const details of this.#taken.querySelectorAll("details")) {
      details.open = false; // the answer comes first; a look back is one press away
    }
    const { cost, usageTotal, servedBy, outcome, confidence, totalMs, cached } = completion;
    const facts = [
      outcome === Outcome.ACCEPTED ? "" : outcome === Outcome.FAILED ? "failed" : "not accepted by its gates",
      cached ? "from the cache" : servedBy === undefined ? "" : `by ${nameOf(servedBy)}`,
      confidence === undefined ? "" : `confidence ${confidence.toFixed(2)}`,
      usageTotal === undefined ? "" : `${count(usageTotal.inputTokens)} → ${count(usageTotal.outputTokens)} tokens`,
      milliseconds(totalMs),
      cost === undefined ? "" : cost.totalUsd === "" ? "cost unknown" : money(cost.totalUsd),
    ].filter((fact) => fact !== "");
    const saving = savingOf(cost);
    const saved = share(saving, cost?.strongestUsd ?? "");
    const copy = copyButton(snapshot.text);
    const retry = element("button.small", { type: "button" }, "Retry");
    retry.addEventListener("click", actions.retry);
    const verdicts = (["accepted", "rejected"] as const).map((verdict) => {
      const button = element(
        "button.small",
        { type: "button", "aria-label": verdict === "accepted" ? "This answer was right" : "This answer was of no use" },
        verdict === "accepted" ? "Right" : "Wrong",
      );
      button.addEventListener("click", () => {
        void actions.judge(verdict).then(
          () => {
            for (const each of verdicts) {
              each.disabled = true;
            }
            button.classList.add("chosen");
            this.#say("Thank you: the gates learn from it.");
          },
          (error: unknown) => this.#say(`It could not be kept: ${String(error)}`),
        );
      });
      return button;
    });
    const resolution = snapshot.started?.resolution;
    const gates = completion.verdicts.map(({ gate }) => gate).join(", ");
    fill(
      this.#foot,
      element("p.facts", {}, facts.join(" · "), saved !== "" && element(Number(saving) < 0 ? "span.loss" : "span.saving", {}, ` · ${saved} than the strongest model`)),
      element(
        "div.actions",
        {},
        copy,
        retry,
        ...verdicts,
        element(
          "details.why",
          {},
          element("summary", {}, "Why"),
          element(
            "p",
            {},
            `Task ${resolution?.taskId ?? ""}, ${resolution === undefined ? "" : wordOf(TaskType, resolution.type)}; gates: ${gates === "" ? "none" : gates}; ` +
              `request ${snapshot.started?.requestId ?? ""}; ${snapshot.isIntact === true ? "digest checked" : "digest not checked"}.`,
          ),
        ),
      ),
    );
    if (outcome !== Outcome.FAILED) {
      this.#say(`The answer is complete${servedBy === undefined ? "" : `, by ${nameOf(servedBy)}`}.`);
    }
  }
}

/** Gives none where browsers give no clipboard: to pages that came over plain HTTP from elsewhere. */
function copyButton(text: string): HTMLButtonElement | undefined {
  if (!("clipboard" in navigator)) {
    return undefined;
  }
  const copy = element("button.small", { type: "button" }, "Copy");
  copy.addEventListener("click", () => {
    void navigator.clipboard.writeText(text).then(() => {
      copy.textContent = "Copied";
      setTimeout(() => (copy.textContent = "Copy"), 1500);
    });
  });
  return copy;
}

function nameOf(stage: StageRef | undefined): string {
  return stage === undefined ? "a model" : stage.label === "" ? stage.model : `${stage.model} (${stage.label})`;
}

function sameStage(one: StageRef | undefined, other: StageRef | undefined): boolean {
  return one?.position === other?.position && one?.model === other?.model;
}

function stateOf(outcome: AttemptOutcome): "served" | "left" {
  return outcome === AttemptOutcome.ACCEPTED ? "served" : "left";
}
