/** The contract's enums as lower-case words ("classify", "half_open"), and back. */

/** An enum as the generated code has it: names to numbers and back. */
export type WordEnum = Readonly<Record<string, string | number>>;

/** The words of an enum: its names in lower case, without "unspecified". */
export type WordOf<Names> = Exclude<Lowercase<Extract<keyof Names, string>>, "unspecified">;

/**
 * Gives the word for a value of an enum, such as `wordOf(Outcome, completion.outcome)`; "" is unspecified.
 *
 * A value of a later contract gives its number, as text.
 */
export function wordOf(names: WordEnum, value: number | undefined): string {
  if (value === undefined || value === 0) {
    return "";
  }
  return String(names[value] ?? value).toLowerCase();
}

/**
 * Gives the value of a word.
 *
 * @throws RangeError it is none of the enum's.
 */
export function valueOf<Names extends WordEnum>(names: Names, word: string): Extract<Names[keyof Names], number> {
  const value = names[word.toUpperCase()];
  if (typeof value !== "number" || word !== word.toLowerCase() || value === 0) {
    const known = Object.keys(names).filter((name) => Number.isNaN(Number(name)) && names[name] !== 0);
    throw new RangeError(`${JSON.stringify(word)} is not one of ${known.join(", ").toLowerCase()}`);
  }
  return value as Extract<Names[keyof Names], number>;
}
