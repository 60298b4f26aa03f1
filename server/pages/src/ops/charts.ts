/** Charts over time, drawn by uPlot, each with its figures as a table for those who do not see it. */
import uPlot from "uplot";

import { element, fill } from "../shared/dom";

/** One line of a chart. */
export interface Line {
  readonly name: string;
  /** One value a moment; null where there is none. */
  readonly values: readonly (number | null)[];
  readonly fill?: boolean;
}

const HEIGHT = 190;
const COLOURS = ["--line-1", "--line-2", "--line-3", "--line-4", "--line-5", "--line-6"];

/** A chart that is drawn anew when its figures change, and fits its place. */
export class Chart {
  readonly #place: HTMLElement;
  readonly #format: (value: number) => string;
  readonly #table = element("table.unseen");
  readonly #drawing = element("div", { "aria-hidden": "true" });
  #plot: uPlot | undefined;
  #names = "";
  #last: [readonly number[], readonly Line[]] | undefined;

  /**
   * @param place where it goes.
   * @param format gives a value as text.
   */
  constructor(place: HTMLElement, format: (value: number) => string) {
    this.#place = place;
    this.#format = format;
    place.append(this.#drawing, this.#table);
    new ResizeObserver(() => this.#plot?.setSize({ width: place.clientWidth, height: HEIGHT })).observe(place);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#again());
    new MutationObserver(() => this.#again()).observe(document.documentElement, { attributeFilter: ["data-theme"] });
  }

  /** @param at moments, seconds since the epoch, rising. */
  show(at: readonly number[], lines: readonly Line[]): void {
    this.#last = [at, lines];
    const data = [[...at], ...lines.map(({ values }) => [...values])] as uPlot.AlignedData;
    const names = lines.map(({ name }) => name).join("\n");
    if (this.#plot === undefined || names !== this.#names) {
      this.#names = names;
      this.#plot?.destroy();
      this.#plot = new uPlot(this.#options(lines), data, this.#drawing);
      this.#plot.root.classList.add("idle");
    } else {
      this.#plot.setData(data);
    }
    this.#tell(at, lines);
  }

  #again(): void {
    if (this.#last !== undefined) {
      this.#names = "\0";
      this.show(...this.#last);
    }
  }

  #options(lines: readonly Line[]): uPlot.Options {
    const style = getComputedStyle(document.documentElement);
    const colour = (name: string): string => style.getPropertyValue(name).trim();
    const axis = { stroke: colour("--soft"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false }, font: "12px system-ui" };
    return {
      width: Math.max(200, this.#place.clientWidth),
      height: HEIGHT,
      legend: { show: true, live: true },
      // Without a pointer over it there is nothing that the legend could tell but names.
      hooks: { setLegend: [(plot) => plot.root.classList.toggle("idle", plot.legend.idx == null)] },
      cursor: { y: false },
      scales: { y: { range: (_plot, low, high) => [Math.min(0, low * 1.1), high > 0 ? high * 1.1 : low < 0 ? 0 : 1] } },
      axes: [{ ...axis, values: (_plot, moments) => timesOf(moments) }, { ...axis, size: 82, values: (_plot, values) => values.map((value) => this.#format(value)) }],
      series: [
        { value: (_plot: uPlot, moment: number | null) => (moment === null ? "" : new Date(moment * 1000).toLocaleString()) },
        ...lines.map((line, place) => ({
          label: line.name,
          stroke: colour(COLOURS[place % COLOURS.length] ?? ""),
          width: 2,
          spanGaps: false,
          points: { show: true, size: 4 },
          ...(line.fill === true ? { fill: `${colour(COLOURS[place % COLOURS.length] ?? "")}22` } : {}),
          value: (_plot: uPlot, value: number | null) => (value === null ? "–" : this.#format(value)),
        })),
      ],
    };
  }

  #tell(at: readonly number[], lines: readonly Line[]): void {
    const caption = element("caption", {}, this.#place.getAttribute("aria-label") ?? "");
    const head = element("tr", {}, element("th", { scope: "col" }, "time"), ...lines.map(({ name }) => element("th", { scope: "col" }, name)));
    const rows = at.flatMap((moment, place) => {
      if (lines.every(({ values }) => values[place] === null || values[place] === 0)) {
        return [];
      }
      const cells = lines.map(({ values }) => {
        const value = values[place];
        return element("td", {}, value === null || value === undefined ? "–" : this.#format(value));
      });
      return [element("tr", {}, element("th", { scope: "row" }, new Date(moment * 1000).toLocaleString()), ...cells)];
    });
    fill(this.#table, caption, element("thead", {}, head), element("tbody", {}, ...rows));
  }
}

/** Gives moments, seconds since the epoch, as the reader's country writes them, each new day with its date. */
function timesOf(moments: readonly number[]): string[] {
  let day = "";
  return moments.map((moment) => {
    const at = new Date(moment * 1000);
    const time = at.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
    const date = at.toLocaleDateString([], { month: "short", day: "numeric" });
    if (date === day) {
      return time;
    }
    day = date;
    return `${time}\n${date}`;
  });
}
