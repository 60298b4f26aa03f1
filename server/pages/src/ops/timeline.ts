/** One request's whole way: its attempts on a common time line, with verdicts. */
import { AttemptCause, TaskType, VerdictResult, timestampMs, wordOf, type RecordedAttempt } from "../../../../clients/web/src/web.js";
import { element, fill, find } from "../shared/dom";
import { count, milliseconds, money } from "../shared/format";
import { outcome, stageName } from "./tables";

/** Shows it in the page's dialog. */
export function showTimeline(requestId: string, found: readonly RecordedAttempt[]): void {
  const dialog = find<HTMLDialogElement>("timeline");
  fill(find("timeline-title"), `Request ${requestId}`);
  const attempts = [...found].sort((one, other) => (one.attempt?.number ?? 0) - (other.attempt?.number ?? 0));
  const first = attempts[0];
  if (first === undefined) {
    fill(find("timeline-body"), element("p", {}, "Nothing of it is in the ledger yet."));
  } else {
    const begin = Math.min(...attempts.map(beganMs));
    const took = Math.max(...attempts.map((each) => beganMs(each) + (each.attempt?.totalMs ?? 0))) - begin;
    const about = `Task ${first.taskId} (${wordOf(TaskType, first.taskType)}) of ${first.tenant}, chain ${first.chain}, ` +
      `${first.stream ? "streamed" : "whole"}, ${new Date(begin).toLocaleString()}, ${milliseconds(took)} in all.`;
    fill(find("timeline-body"), element("p", {}, about), element("ol.timeline", {}, ...attempts.map((each) => row(each, begin, Math.max(took, 0.001)))));
  }
  if (!dialog.open) {
    dialog.showModal();
  }
}

function row(each: RecordedAttempt, begin: number, took: number): HTMLElement {
  const made = each.attempt;
  const total = made?.totalMs ?? 0;
  const first = made?.firstTokenMs ?? total;
  const offset = beganMs(each) - begin;
  // A picture by attributes alone: style attributes are not allowed by the page's policy.
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 1000 14");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  for (const [kind, from, length] of [["wait", offset, first], ["write", offset + first, total - first]] as const) {
    const bar = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    bar.setAttribute("class", kind);
    bar.setAttribute("x", String((from / took) * 1000));
    bar.setAttribute("width", String(Math.max(2, (Math.max(0, length) / took) * 1000)));
    bar.setAttribute("height", "14");
    svg.append(bar);
  }
  const verdicts = (made?.verdicts ?? []).map(({ gate, result, confidence }) =>
    element("li", {}, `${gate}: ${wordOf(VerdictResult, result)}${confidence === undefined ? "" : ` ${confidence.toFixed(2)}`}`),
  );
  return element(
    "li",
    {},
    element("div.what", {}, `#${made?.number ?? 0} ${stageName(made?.stage)} · ${made === undefined ? "" : wordOf(AttemptCause, made.cause).replaceAll("_", " ")} · `, outcome(each), each.served ? " · served" : ""),
    svg,
    element(
      "p.note",
      {},
      `began at ${milliseconds(offset)}, first token after ${milliseconds(first)}, ended after ${milliseconds(total)} · ` +
        `${count(made?.usage?.inputTokens ?? 0)} → ${count(made?.usage?.outputTokens ?? 0)} tokens · ${money(made?.costUsd ?? "")}`,
    ),
    verdicts.length > 0 && element("ul.verdicts", {}, ...verdicts),
  );
}

function beganMs({ startedAt }: RecordedAttempt): number {
  return startedAt === undefined ? 0 : Number(startedAt.seconds) * 1000 + startedAt.nanos / 1e6 || timestampMs(startedAt);
}
