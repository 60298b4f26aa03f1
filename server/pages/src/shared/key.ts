/**
 * The key that calls show, where the service has keys.
 *
 * Rules: it stays in this tab (sessionStorage), is sent to this service alone, and is never shown again.
 */
import { find } from "./dom";

/** Asks for a key by a dialog of the page, and keeps it. */
export class KeyHolder {
  readonly #name: string;
  readonly #changed: () => void;

  /**
   * @param name under which it is kept: callers' and operators' keys differ.
   * @param changed told when there is another one.
   */
  constructor(name: string, changed: () => void) {
    this.#name = `gearshift-key-${name}`;
    this.#changed = changed;
    const dialog = find<HTMLDialogElement>("key-dialog");
    const field = find<HTMLInputElement>("key-field");
    find("key-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#keep(field.value.trim());
      field.value = "";
      dialog.close();
      this.#changed();
    });
    find("key-cancel").addEventListener("click", () => dialog.close());
    find("key-button").addEventListener("click", () => this.ask());
  }

  /** The key; empty when there is none. */
  get key(): string {
    try {
      return sessionStorage.getItem(this.#name) ?? "";
    } catch {
      return "";
    }
  }

  /** Opens the dialog, saying why. */
  ask(why = ""): void {
    find("key-why").textContent = why;
    const dialog = find<HTMLDialogElement>("key-dialog");
    if (!dialog.open) {
      dialog.showModal();
    }
  }

  #keep(key: string): void {
    try {
      if (key === "") {
        sessionStorage.removeItem(this.#name);
      } else {
        sessionStorage.setItem(this.#name, key);
      }
    } catch {
      // Without storage there is no key.
    }
  }
}
