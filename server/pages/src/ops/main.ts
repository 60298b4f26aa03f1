/** The dashboard: what the service does, what it costs and saves, how its stages are, and every attempt as it ends. */
import {
  GearshiftError,
  createClient,
  timestampMs,
  type AttemptChoice,
  type Client,
  type GetCostReportResponse,
  type GetTrafficResponse,
  type MessageStream,
  type WatchAttemptsResponse,
} from "../../../../clients/web/src/web.js";
import "uplot/dist/uPlot.min.css";
import "./ops.css";
import { element, fill, find } from "../shared/dom";
import { count, milliseconds, money, percent, several, share } from "../shared/format";
import { KeyHolder } from "../shared/key";
import { followTheme } from "../shared/theme";
import { Chart, type Line } from "./charts";
import { bars, caches, costs, machines, reasonOf, seenOf, stages, trailRow, type Seen } from "./tables";
import { showTimeline } from "./timeline";

const EVERY_MS = 5000;
const TRAIL_ROWS = 60;
const MOST_LINES = 6;
const AGAIN_MS = 2000;

type Grouping = "" | "task" | "tenant";

/** The page as a whole. */
class Dashboard {
  readonly #keys = new KeyHolder("ops", () => this.#connect());
  readonly #period = find<HTMLSelectElement>("period");
  readonly #group = find<HTMLSelectElement>("group");
  readonly #trail = find("trail-rows");
  readonly #charts = {
    calls: new Chart(find("chart-calls"), (value) => count(Math.round(value * 100) / 100)),
    times: new Chart(find("chart-times"), milliseconds),
    cost: new Chart(find("chart-cost"), money),
    saved: new Chart(find("chart-saved"), money),
  };
  #client: Client = createClient();
  #watch: MessageStream<WatchAttemptsResponse> | undefined;
  #round = 0;
  #timer = 0;

  begin(): void {
    followTheme(find<HTMLButtonElement>("theme"));
    this.#period.addEventListener("change", () => void this.#refresh());
    this.#group.addEventListener("change", () => void this.#refresh());
    find("refresh").addEventListener("click", () => void this.#refresh());
    find("search").addEventListener("submit", (event) => {
      event.preventDefault();
      void this.#search();
    });
    find("live").addEventListener("change", () => this.#follow());
    find("purge-all").addEventListener("click", () => this.#purge(""));
    find("timeline-close").addEventListener("click", () => find<HTMLDialogElement>("timeline").close());
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden) {
        void this.#refresh();
      }
    });
    this.#connect();
  }

  #connect(): void {
    this.#client = createClient({ key: this.#keys.key, plaintextKey: true, deadlineMs: 20_000 });
    void this.#refresh();
    void this.#search();
    this.#follow();
  }

  /** Asks for everything anew; a later round makes an earlier one void. */
  async #refresh(): Promise<void> {
    clearTimeout(this.#timer);
    const round = ++this.#round;
    const ops = this.#client.ops;
    const until = new Date();
    const since = new Date(until.getTime() - Number(this.#period.value) * 1000);
    const groupBy = this.#group.value as Grouping;
    const by = (name: "task" | "tenant" | "position" | "reason" | "model") => ops.getCostReport({ groupBy: [name], since, until });
    try {
      const [status, chains, found, whole, grouped, task, tenant, position, reason, model, held] = await Promise.all([
        ops.getStatus(),
        ops.listChains(),
        ops.listStages(),
        ops.getTraffic({ since, until }),
        groupBy === "" ? undefined : ops.getTraffic({ since, until, groupBy }),
        by("task"),
        by("tenant"),
        by("position"),
        by("reason"),
        by("model"),
        ops.listCacheEntries({ pageSize: 1 }),
      ]);
      if (round !== this.#round) {
        return;
      }
      this.#say("");
      const started = status.startedAt === undefined ? "" : `, up since ${new Date(timestampMs(status.startedAt)).toLocaleString()}`;
      const workers = status.workers.length > 1 ? `, ${status.workers.length} workers` : "";
      find("running").textContent =
        `${status.version}${started}${workers}, configuration ${status.configRevision.slice(0, 12)}, ${several(chains.length, "chain")}; ` +
        `${several(status.callsInFlight, "call")} running, ${count(status.callsEnded)} ended, ${several(status.ledgerPending, "row")} not written yet`;
      fill(find("warnings"), ...status.warnings.map((text) => element("li", {}, text)));
      this.#showTiles(whole, task);
      this.#showCharts(whole, grouped ?? whole, groupBy);
      costs(find("by-task"), task, "task");
      costs(find("by-tenant"), tenant, "tenant");
      costs(find("by-model"), model, "model");
      const byPosition = position.rows.map((row) => [`stage ${Number(row.keys[0]) + 1}`, Number(row.accepted), `${count(row.attempts)} attempts, ${money(row.costUsd)}`] as const);
      bars(find("positions"), [...byPosition].sort(([one], [other]) => one.localeCompare(other)), "No answer was served in this time.");
      const reasons = reason.rows.filter((row) => row.keys[0] !== "").map((row) => [String(row.keys[0]).replaceAll("_", " "), Number(row.attempts), money(row.costUsd)] as const);
      bars(find("reasons"), [...reasons].sort(([, one], [, other]) => other - one), "No attempt was left in this time.");
      stages(find("stages"), found);
      machines(find("machines"), found, task);
      caches(find("caches"), held.stats, (cache) => this.#purge(cache));
      find("updated").textContent = `as of ${new Date().toLocaleTimeString()}`;
      if (this.#isSearched && find<HTMLInputElement>("live").checked) {
        await this.#search();
      }
    } catch (error) {
      if (round === this.#round) {
        this.#fail(error);
      }
    } finally {
      if (round === this.#round && !document.hidden) {
        this.#timer = window.setTimeout(() => void this.#refresh(), EVERY_MS);
      }
    }
  }

  #showTiles(traffic: GetTrafficResponse, report: GetCostReportResponse): void {
    const { total } = report;
    if (total === undefined) {
      return;
    }
    const attempts = Number(total.attempts);
    const unserved = traffic.points.reduce((sum, point) => sum + Number(point.unserved), 0);
    const slowest = Math.max(0, ...traffic.points.map(({ p95Ms }) => p95Ms));
    const poor = total.poor + total.stopped;
    const less = share(total.savedUsd, total.strongestUsd);
    const tiles: [id: string, value: string, more: string][] = [
      ["calls", count(total.calls), several(total.attempts, "attempt")],
      ["cost", money(total.costUsd), total.overheadUsd === "" ? "" : `${money(total.overheadUsd)} not served`],
      ["saved", total.savedUsd === "" ? "unknown" : money(total.savedUsd), less === "" ? "" : `${less} than the strongest`],
      ["unserved", count(unserved), total.calls === 0n ? "" : percent(unserved / Number(total.calls))],
      ["failed", attempts === 0 ? "–" : percent(Number(total.failed) / attempts), several(total.failed, "attempt")],
      ["poor", attempts === 0 ? "–" : percent(Number(poor) / attempts), several(poor, "attempt")],
      ["p95", slowest === 0 ? "–" : milliseconds(slowest), "at the slowest"],
    ];
    find("tile-saved").className = Number(total.savedUsd) < 0 ? "bad" : "good";
    for (const [id, value, more] of tiles) {
      find(`tile-${id}`).textContent = value;
      find(`tile-${id}-more`).textContent = more;
    }
  }

  #showCharts(whole: GetTrafficResponse, grouped: GetTrafficResponse, groupBy: Grouping): void {
    const step = whole.stepSeconds;
    const begin = whole.since === undefined ? 0 : timestampMs(whole.since) / 1000;
    const end = whole.until === undefined ? 0 : timestampMs(whole.until) / 1000;
    const at = Array.from({ length: Math.max(1, Math.ceil((end - begin) / step)) }, (_, place) => begin + place * step);
    const place = (point: { at?: { seconds: bigint; nanos: number } | undefined }): number =>
      Math.round((Number(point.at?.seconds ?? 0n) + (point.at?.nanos ?? 0) / 1e9 - begin) / step);
    const lineOf = (name: string, value: (point: GetTrafficResponse["points"][number]) => number | undefined, key: string | undefined, empty: number | null, from = grouped): Line => {
      const values: (number | null)[] = at.map(() => empty);
      for (const point of from.points) {
        if (key === undefined || point.key === key) {
          values[place(point)] = value(point) ?? null;
        }
      }
      return { name, values, fill: key === undefined };
    };
    const sums = new Map<string, number>();
    for (const { key, calls } of grouped.points) {
      sums.set(key, (sums.get(key) ?? 0) + Number(calls));
    }
    const keys = [...sums].sort(([, one], [, other]) => other - one).slice(0, MOST_LINES).map(([key]) => key);
    const each = (name: string, value: (point: GetTrafficResponse["points"][number]) => number | undefined, empty: number | null): Line[] =>
      groupBy === "" ? [lineOf(name, value, undefined, empty, whole)] : keys.map((key) => lineOf(key === "" ? "–" : key, value, key, empty));
    this.#charts.calls.show(at, each("calls", ({ calls }) => Number(calls), 0));
    this.#charts.times.show(
      at,
      groupBy === ""
        ? [lineOf("median", ({ p50Ms }) => p50Ms, undefined, null, whole), lineOf("95 of 100", ({ p95Ms }) => p95Ms, undefined, null, whole), lineOf("first token, median", ({ firstTokenP50Ms }) => firstTokenP50Ms, undefined, null, whole)].map((line) => ({ ...line, fill: false }))
        : each("p95", ({ p95Ms }) => p95Ms, null),
    );
    this.#charts.cost.show(at, each("cost", ({ costUsd }) => Number(costUsd), 0));
    this.#charts.saved.show(at, each("saved", ({ savedUsd }) => (savedUsd === "" ? 0 : Number(savedUsd)), 0));
  }

  async #search(): Promise<void> {
    const text = find<HTMLInputElement>("search-text").value.trim();
    const outcome = find<HTMLSelectElement>("search-outcome").value as "" | NonNullable<AttemptChoice["outcome"]>;
    const choice: AttemptChoice = { pageSize: TRAIL_ROWS, ...(text === "" ? {} : { text }), ...(outcome === "" ? {} : { outcome }) };
    try {
      const { attempts } = await this.#client.ops.listAttempts(choice);
      fill(this.#trail, ...attempts.map((each) => trailRow(seenOf(each), (id) => void this.#open(id))));
      find("trail-empty").hidden = attempts.length > 0;
    } catch (error) {
      this.#fail(error);
    }
  }

  get #isSearched(): boolean {
    return find<HTMLInputElement>("search-text").value.trim() !== "" || find<HTMLSelectElement>("search-outcome").value !== "";
  }

  /** Shows attempts as they end, while that is wanted; what is searched for is looked up anew with each round. */
  #follow(): void {
    this.#watch?.close();
    this.#watch = undefined;
    if (find<HTMLInputElement>("live").checked) {
      const watch = this.#client.ops.watchAttempts();
      this.#watch = watch;
      void this.#followed(watch);
    }
  }

  async #followed(watch: MessageStream<WatchAttemptsResponse>): Promise<void> {
    try {
      for await (const one of watch) {
        if (this.#isSearched) {
          continue;
        }
        const { requestId, taskId, tenant, attempt } = one;
        const at = new Date(one.endedAt === undefined ? Date.now() : timestampMs(one.endedAt));
        const seen: Seen = { requestId, taskId, tenant, attempt, at, reason: reasonOf(attempt) };
        this.#trail.prepend(trailRow(seen, (id) => void this.#open(id)));
        while (this.#trail.childElementCount > TRAIL_ROWS) {
          this.#trail.lastElementChild?.remove();
        }
        find("trail-empty").hidden = true;
      }
    } catch {
      // The service stops or was started again; the next round tells what is wrong.
    }
    if (this.#watch === watch) {
      setTimeout(() => {
        if (this.#watch === watch) {
          this.#follow();
        }
      }, AGAIN_MS);
    }
  }

  async #open(requestId: string): Promise<void> {
    try {
      showTimeline(requestId, (await this.#client.ops.listAttempts({ requestId, pageSize: 1000 })).attempts);
    } catch (error) {
      this.#fail(error);
    }
  }

  #purge(cache: string): void {
    if (!confirm(cache === "" ? "Empty all caches, of all workers?" : `Empty the ${cache} cache, of all workers?`)) {
      return;
    }
    const choice = cache === "" ? { everything: true } : { cache: cache as "prompt" | "response" | "embedding" };
    void this.#client.ops.purgeCache(choice).then(
      (purged) => {
        this.#say(`${count(purged)} entries were dropped.`);
        return this.#refresh();
      },
      (error: unknown) => this.#fail(error),
    );
  }

  #fail(error: unknown): void {
    if (error instanceof GearshiftError && (error.code === "UNAUTHENTICATED" || error.code === "PERMISSION_DENIED")) {
      this.#keys.ask(error.code === "UNAUTHENTICATED" ? "The dashboard needs a key with the role ops." : "This key has not the role ops.");
    }
    this.#say(error instanceof GearshiftError && error.code === "UNAVAILABLE" ? "The service does not answer; trying again …" : error instanceof Error ? error.message : String(error));
  }

  #say(words: string): void {
    find("said").textContent = words;
  }
}

new Dashboard().begin();
