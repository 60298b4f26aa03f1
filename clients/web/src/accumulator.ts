/**
 * Folds the events of a stream into the answer.
 *
 * Rules, those of the contract: `started` is first; delta numbers rise strictly and are never reused; `retract` drops
 * the deltas after a live one, or all, but never one at or before a checkpoint; checkpoints name a live delta and rise;
 * nothing follows `completed`. Events that break them throw; kinds of a later contract are passed over. Call `finish` at
 * the end: it is what tells a whole answer from a partial. tests/conformance says the same for every language.
 */
import { create } from "@bufbuild/protobuf";

import { digest } from "./digest.js";
import { StreamProtocolError } from "./errors.js";
import type { AttemptEvent, CompletedEvent, DeltaEvent, Event, StartedEvent, SwitchEvent } from "./events.js";
import { AnswerSchema, Outcome, type Answer, type StageRef } from "./gen/gearshift/v1/answer_pb.js";
import { ToolCallSchema, type ToolCall } from "./gen/gearshift/v1/call_pb.js";
import type { ToolCallFragment } from "./gen/gearshift/v1/stream_pb.js";
import type { Piece, Retracted, Snapshot } from "./snapshots.js";

interface Live {
  readonly number: number;
  readonly attempt: number;
  readonly text: string;
  readonly reasoning: string;
  readonly fragments: readonly ToolCallFragment[];
}

/** The answer so far; feed it every event of one stream, in order. */
export class Accumulator {
  #started: StartedEvent | undefined;
  #completed: CompletedEvent | undefined;
  #attempts: readonly AttemptEvent[] = [];
  #switches: readonly SwitchEvent[] = [];
  #retracted: readonly Retracted[] = [];
  #last = 0;
  #checkpoint = 0;
  #passedThrough = 0;
  #live: Live[] = [];
  #text = "";
  #reasoning = "";
  #committed = "";

  /**
   * Takes in one event; returns the text that it appended, undefined if it took text away (look at `text` then).
   *
   * @throws StreamProtocolError the event breaks the contract; the state is as before.
   */
  apply(event: Event): string | undefined {
    if (this.#completed !== undefined) {
      throw new StreamProtocolError("after_completed", `${event.kind} after completed`);
    }
    if (event.kind === "started" && this.#started !== undefined) {
      throw new StreamProtocolError("started_twice", "started twice");
    }
    if (event.kind !== "started" && this.#started === undefined) {
      throw new StreamProtocolError("before_started", `${event.kind} before started`);
    }
    switch (event.kind) {
      case "started":
        this.#started = event;
        return "";
      case "attempt":
        return this.#begin(event);
      case "delta":
        return this.#append(event);
      case "checkpoint":
        return this.#commit(event.through);
      case "retract":
        return this.#retract(event.after, event.reason);
      case "switch":
        this.#switches = [...this.#switches, event];
        return "";
      case "completed":
        this.#completed = event;
        return "";
      case "unknown":
        return "";
    }
  }

  /** The text that stands. */
  get text(): string {
    return this.#text;
  }

  /** The reasoning that stands, apart from the text. */
  get reasoning(): string {
    return this.#reasoning;
  }

  /** The tool calls: a preview until completed, then final. Act on them only when `completed` is set. */
  get toolCalls(): readonly ToolCall[] {
    // Also when it has none: fragments of a failed call are not a call.
    if (this.#completed !== undefined) {
      return this.#completed.toolCalls;
    }
    const calls = new Map<string, ToolCall>();
    for (const { attempt, fragments } of this.#live) {
      for (const fragment of fragments) {
        const place = `${attempt}/${fragment.index}`;
        const found = calls.get(place) ?? create(ToolCallSchema);
        calls.set(place, found);
        found.id ||= fragment.id;
        found.name ||= fragment.name;
        found.arguments += fragment.arguments;
      }
    }
    return [...calls.values()];
  }

  /** What stands, in the pieces that single attempts wrote. */
  get pieces(): readonly Piece[] {
    return this.#piecesOf(this.#live);
  }

  /** What was taken back, oldest first. */
  get retracted(): readonly Retracted[] {
    return this.#retracted;
  }

  /** The numbers of the deltas that stand, rising. */
  get live(): readonly number[] {
    return this.#live.map(({ number }) => number);
  }

  /** The number of the last delta that will never be taken back; 0 is none. */
  get checkpoint(): number {
    return this.#checkpoint;
  }

  /** The text up to the checkpoint: what will never be taken back. */
  get committed(): string {
    return this.#committed;
  }

  /** The opening event, undefined before it. */
  get started(): StartedEvent | undefined {
    return this.#started;
  }

  /** The closing event, undefined before it: until then the text is a partial. */
  get completed(): CompletedEvent | undefined {
    return this.#completed;
  }

  /**
   * Checks what must hold when the stream has ended without an error, and gives its answer.
   *
   * @throws StreamProtocolError there was no `completed` (rule "incomplete": the text is a partial), it says that the
   *   call failed although no status followed ("status_missing"), or its digest is of another text ("digest_mismatch").
   */
  async finish(): Promise<Answer> {
    if (this.#completed === undefined) {
      throw new StreamProtocolError("incomplete", "the stream ended without completed: its text is a partial");
    }
    if (this.#completed.completion?.outcome === Outcome.FAILED) {
      throw new StreamProtocolError("status_missing", "the call failed, and no status followed");
    }
    if (!(await this.digestMatches())) {
      throw new StreamProtocolError("digest_mismatch", "the text is not what the server says that it sent");
    }
    return this.answer();
  }

  /** Says whether the stream is complete and its text (or tool calls) is what the server says that it sent. */
  async digestMatches(): Promise<boolean> {
    return (
      this.#completed !== undefined &&
      this.#completed.completion?.digest === (await digest(this.#text, this.#completed.toolCalls))
    );
  }

  /** Gives the answer as `route` would have; without `completed` it has no completion. */
  answer(): Answer {
    const completion = this.#completed?.completion;
    const resolution = this.#started?.resolution;
    return create(AnswerSchema, {
      requestId: this.#started?.requestId ?? "",
      text: this.#text,
      toolCalls: [...this.toolCalls],
      reasoning: this.#reasoning,
      ...(resolution === undefined ? {} : { resolution }),
      ...(completion === undefined ? {} : { completion }),
    });
  }

  /** Gives the answer as it stands. */
  async snapshot(): Promise<Snapshot> {
    const completion = this.#completed?.completion;
    const lastLive = this.#live.at(-1);
    return {
      text: this.#text,
      reasoning: this.#reasoning,
      committed: this.#committed,
      checkpoint: this.#checkpoint,
      passedThrough: this.#passedThrough,
      toolCalls: this.toolCalls,
      writer: lastLive === undefined ? undefined : this.#stageOf(lastLive.attempt),
      attempt: this.#attempts.at(-1),
      attempts: this.#attempts,
      switches: this.#switches,
      retracted: this.#retracted,
      started: this.#started,
      completion,
      cost: completion?.cost,
      isIntact: this.#completed === undefined ? undefined : await this.digestMatches(),
    };
  }

  #begin(attempt: AttemptEvent): string {
    const last = this.#attempts.at(-1)?.number ?? 0;
    if (attempt.number <= last) {
      throw new StreamProtocolError("attempt_not_rising", `attempt ${attempt.number} after attempt ${last}`);
    }
    this.#attempts = [...this.#attempts, attempt];
    return "";
  }

  #append(delta: DeltaEvent): string {
    if (delta.number <= this.#last) {
      throw new StreamProtocolError("number_not_rising", `delta ${delta.number} after delta ${this.#last}`);
    }
    const fragments = delta.parts.flatMap(({ content }) => (content.case === "toolCall" ? [content.value] : []));
    const { number, text, reasoning } = delta;
    this.#last = number;
    this.#live.push({ number, attempt: this.#attempts.at(-1)?.number ?? 0, text, reasoning, fragments });
    this.#passedThrough = delta.passedThrough;
    this.#text += text;
    this.#reasoning += reasoning;
    return text;
  }

  #commit(through: number): string {
    if (through <= this.#checkpoint) {
      throw new StreamProtocolError("checkpoint_not_rising", `checkpoint ${through} after checkpoint ${this.#checkpoint}`);
    }
    const kept = this.#placeOf(through, "checkpoint") + 1;
    this.#checkpoint = through;
    this.#committed = joined(this.#live.slice(0, kept), "text");
    return "";
  }

  #retract(after: number, reason: string): string | undefined {
    if (after < this.#checkpoint) {
      throw new StreamProtocolError("retract_behind_checkpoint", `retract to ${after} behind checkpoint ${this.#checkpoint}`);
    }
    const kept = after === 0 ? 0 : this.#placeOf(after, "retract") + 1;
    const dropped = this.#live.splice(kept);
    const pieces = this.#piecesOf(dropped).filter(({ text, reasoning }) => text !== "" || reasoning !== "");
    this.#retracted = [...this.#retracted, ...pieces.map((piece) => ({ ...piece, reason }))];
    this.#passedThrough = Math.min(this.#passedThrough, after);
    this.#text = joined(this.#live, "text");
    this.#reasoning = joined(this.#live, "reasoning");
    return dropped.some(({ text }) => text !== "") ? undefined : "";
  }

  /** Finds a live delta by its number. */
  #placeOf(number: number, kind: "checkpoint" | "retract"): number {
    let low = 0;
    let high = this.#live.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.#live[middle]?.number ?? 0) < number) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    if (this.#live[low]?.number !== number) {
      throw new StreamProtocolError(`${kind}_not_live`, `${kind} names delta ${number}, which does not stand`);
    }
    return low;
  }

  #piecesOf(deltas: readonly Live[]): Piece[] {
    const pieces: Piece[] = [];
    let begin = 0;
    deltas.forEach(({ attempt }, place) => {
      if (deltas[place + 1]?.attempt !== attempt) {
        const own = deltas.slice(begin, place + 1);
        pieces.push({ text: joined(own, "text"), reasoning: joined(own, "reasoning"), attempt, stage: this.#stageOf(attempt) });
        begin = place + 1;
      }
    });
    return pieces;
  }

  #stageOf(attempt: number): StageRef | undefined {
    return this.#attempts.find(({ number }) => number === attempt)?.stage;
  }
}

function joined(deltas: readonly Live[], which: "text" | "reasoning"): string {
  return deltas.map((delta) => delta[which]).join("");
}
