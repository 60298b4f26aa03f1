/** Tables of what OpsService says. */
import {
  AttemptCause,
  AttemptOutcome,
  BreakerState,
  FailureKind,
  VerdictResult,
  timestampMs,
  wordOf,
  type CacheStats,
  type CostRow,
  type GetCostReportResponse,
  type RecordedAttempt,
  type StageRef,
  type StageStatus,
} from "../../../../clients/web/src/web.js";
import { element, fill } from "../shared/dom";
import { count, milliseconds, money, percent, share } from "../shared/format";

type Cell = Node | string;

/** Fills a table; columns whose heading begins with ">" are aligned to the right. */
export function table(place: HTMLElement, headings: readonly string[], rows: readonly (readonly Cell[])[], nothing: string): void {
  if (rows.length === 0) {
    fill(place, element("p.note", {}, nothing));
    return;
  }
  const isRight = headings.map((heading) => heading.startsWith(">"));
  const cell = (content: Cell, index: number): HTMLElement =>
    index === 0 ? element("th", { scope: "row" }, content) : element(isRight[index] === true ? "td.right" : "td", {}, content);
  fill(
    place,
    element(
      "table",
      {},
      element("thead", {}, element("tr", {}, ...headings.map((heading, index) => element(isRight[index] === true ? "th.right" : "th", { scope: "col" }, heading.replace(/^>/, ""))))),
      element("tbody", {}, ...rows.map((row) => element("tr", {}, ...row.map(cell)))),
    ),
  );
}

/** Shows cost by whatever it is grouped by. */
export function costs(place: HTMLElement, report: GetCostReportResponse, what: string): void {
  const rows = report.rows.map((row) => costCells(row, row.keys[0] ?? ""));
  table(place, [what, ">calls", ">attempts", ">failed", ">poor", ">tokens", ">cost", ">not served", ">saved"], rows, "No call in this time.");
}

function costCells(row: CostRow, name: string): Cell[] {
  const part = share(row.savedUsd, row.strongestUsd);
  const saving = row.savedUsd === "" ? "–" : `${money(row.savedUsd)}${part === "" ? "" : ` (${part})`}`;
  return [
    name === "" ? "–" : name,
    count(row.calls),
    count(row.attempts),
    count(row.failed),
    count(row.poor + row.stopped),
    `${count(row.usage?.inputTokens ?? 0)} → ${count(row.usage?.outputTokens ?? 0)}`,
    row.attempts > 0 && row.unpriced >= row.attempts ? "unknown" : money(row.costUsd),
    row.overheadUsd === "" ? "–" : money(row.overheadUsd),
    saving,
  ];
}

/** Shows shares as bars: who served, why attempts were left. */
export function bars(place: HTMLElement, parts: readonly (readonly [name: string, value: number, title: string])[], nothing: string): void {
  const whole = parts.reduce((sum, [, value]) => sum + value, 0);
  if (whole === 0) {
    fill(place, element("p.note", {}, nothing));
    return;
  }
  fill(
    place,
    element(
      "ul.bars",
      {},
      ...parts.map(([name, value, title]) => {
        const meter = element("meter", { min: 0, max: whole, value, "aria-label": `${name}: ${percent(value / whole)}` });
        return element("li", { title }, element("span.name", {}, name), meter, element("span.value", {}, `${percent(value / whole)} · ${count(value)}`));
      }),
    ),
  );
}

/** Shows the health of stages: breaker, limits, figures. */
export function stages(place: HTMLElement, found: readonly StageStatus[]): void {
  const rows = found.map((one) => [
    `${one.provider}/${one.model}`,
    one.account,
    breaker(one),
    String(one.inFlight),
    count(one.attempts),
    count(one.failures),
    count(one.poor),
    one.firstTokenMs > 0 ? milliseconds(one.firstTokenMs) : "–",
    one.totalMs > 0 ? milliseconds(one.totalMs) : "–",
    limits(one),
  ]);
  table(place, ["stage", "account", "breaker", ">running", ">attempts", ">failed", ">poor", ">first token", ">total", "limits"], rows, "No stage.");
}

function breaker(one: StageStatus): Node {
  const word = wordOf(BreakerState, one.breaker).replaceAll("_", " ");
  const why = one.breaker === BreakerState.CLOSED ? "" : `${one.breakerReason === "" ? "" : `: ${one.breakerReason}`}${one.probeInSeconds > 0 ? `, probe in ${one.probeInSeconds.toFixed(0)} s` : ""}`;
  return element(one.breaker === BreakerState.CLOSED ? "span.good" : "span.bad", {}, `${word}${why}`);
}

function limits(one: StageStatus): Node {
  if (one.buckets.length === 0) {
    return document.createTextNode("–");
  }
  return element(
    "ul.limits",
    {},
    ...one.buckets.map((bucket) => {
      const label = `${bucket.period === "" ? "" : `${bucket.period}'s `}${bucket.unit}`;
      const left = `${round(bucket.level)} of ${round(bucket.capacity)}${bucket.waiting > 0 ? `, ${bucket.waiting} wait` : ""}`;
      return element("li", {}, element("meter", { min: 0, max: bucket.capacity, value: Math.max(0, bucket.level), low: bucket.capacity * 0.1, "aria-label": `${label}: ${left}` }), ` ${label} ${left}`);
    }),
  );
}

function round(value: number): string {
  return value >= 100 ? count(Math.round(value)) : String(Math.round(value * 100) / 100);
}

/** Shows own machines: pressure and what they cost. */
export function machines(place: HTMLElement, found: readonly StageStatus[], report: GetCostReportResponse): void {
  const seen = new Map<string, Cell[]>();
  for (const one of found) {
    const said = one.pressure;
    const cost = report.machines.find(({ provider }) => provider === one.provider);
    if (said === undefined && cost === undefined) {
      continue;
    }
    seen.set(`${one.provider}/${one.account}`, [
      `${one.provider}/${one.account}`,
      said?.running === undefined ? "–" : String(said.running),
      said?.queued === undefined ? "–" : `${said.queued}${said.maxQueued === undefined ? "" : ` of ${said.maxQueued}`}`,
      said?.cacheUsed === undefined ? "–" : percent(said.cacheUsed),
      one.parallelism > 0 ? one.parallelism.toFixed(1) : "–",
      cost === undefined ? "–" : money(cost.paidUsd),
      cost === undefined ? "–" : money(cost.idleUsd),
      said === undefined ? "–" : said.error !== "" ? said.error : said.ageSeconds === undefined ? "nothing yet" : `${said.ageSeconds.toFixed(0)} s ago`,
    ]);
  }
  table(place, ["machine", ">running", ">queued", ">cache", ">at once", ">paid", ">idle", "said"], [...seen.values()], "No own machine.");
}

/** Shows caches, each with its button to empty it. */
export function caches(place: HTMLElement, found: readonly CacheStats[], purge: (cache: string) => void): void {
  const rows = found.map((one) => {
    const asked = Number(one.hits + one.misses);
    const button = element("button.small", { type: "button", "data-cache": one.cache }, "Purge");
    button.setAttribute("aria-label", `Purge the ${one.cache} cache`);
    button.addEventListener("click", () => purge(one.cache));
    return [one.cache, count(one.entries), bytes(Number(one.bytes)), count(one.hits), count(one.misses), asked === 0 ? "–" : percent(Number(one.hits) / asked), count(one.evictions), button];
  });
  table(place, ["cache", ">entries", ">size", ">hits", ">misses", ">hit rate", ">evicted", ""], rows, "No cache.");
}

function bytes(size: number): string {
  return size < 1024 ? `${size} B` : size < 1024 ** 2 ? `${(size / 1024).toFixed(1)} KiB` : `${(size / 1024 ** 2).toFixed(1)} MiB`;
}

/** What the trail shows of an attempt, recorded or just ended. */
export interface Seen {
  readonly requestId: string;
  readonly taskId: string;
  readonly tenant: string;
  readonly at: Date;
  readonly reason: string;
  readonly attempt: RecordedAttempt["attempt"];
}

/** Gives a recorded attempt for the trail. */
export function seenOf(one: RecordedAttempt): Seen {
  const { requestId, taskId, tenant, reason, attempt } = one;
  return { requestId, taskId, tenant, reason, attempt, at: new Date(one.startedAt === undefined ? 0 : timestampMs(one.startedAt)) };
}

/** Gives the time of today, with its day for any other. */
function moment(at: Date): string {
  return at.toDateString() === new Date().toDateString() ? at.toLocaleTimeString() : at.toLocaleString();
}

/** Gives one line of the trail; its request opens as a time line. */
export function trailRow(seen: Seen, open: (requestId: string) => void): HTMLTableRowElement {
  const { attempt } = seen;
  const link = element("button.link", { type: "button" }, seen.requestId.slice(0, 12));
  link.title = `The whole way of ${seen.requestId}`;
  link.addEventListener("click", () => open(seen.requestId));
  return element(
    "tr",
    {},
    element("td", {}, moment(seen.at)),
    element("td", {}, link),
    element("td", {}, seen.taskId),
    element("td", {}, seen.tenant),
    element("td", {}, `#${attempt?.number ?? 0} ${stageName(attempt?.stage)}`),
    element("td", {}, attempt === undefined ? "" : wordOf(AttemptCause, attempt.cause).replaceAll("_", " ")),
    element("td", {}, outcome(seen)),
    element("td.right", {}, milliseconds(attempt?.totalMs ?? 0)),
    element("td.right", {}, money(attempt?.costUsd ?? "")),
  );
}

/** Gives in one word why an attempt was left, as the ledger will; empty when it was accepted. */
export function reasonOf(attempt: Seen["attempt"]): string {
  if (attempt?.failure) {
    return wordOf(FailureKind, attempt.failure);
  }
  const low = attempt?.verdicts.find(({ result }) => result === VerdictResult.FAIL || result === VerdictResult.LOW);
  return low === undefined ? "" : low.reason || low.gate;
}

/** Gives how an attempt ended, in its colour. */
export function outcome({ attempt, reason }: { attempt?: Seen["attempt"]; reason: string }): HTMLElement {
  const word = attempt === undefined ? "" : wordOf(AttemptOutcome, attempt.outcome);
  const good = attempt?.outcome === AttemptOutcome.ACCEPTED;
  return element(good ? "span.good" : "span.bad", {}, `${word}${reason === "" ? "" : ` (${reason.replaceAll("_", " ")})`}`);
}

/** Gives a stage as provider/model. */
export function stageName(stage: StageRef | undefined): string {
  return stage === undefined ? "" : `${stage.provider}/${stage.model}`;
}
