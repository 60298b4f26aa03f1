/** Light or dark: as the system says, until somebody chooses. */

const KEY = "gearshift-theme";
const THEMES = ["auto", "light", "dark"] as const;
type Theme = (typeof THEMES)[number];

/** Has a button go through the themes, and keeps the choice. */
export function followTheme(button: HTMLButtonElement): void {
  const show = (theme: Theme): void => {
    document.documentElement.dataset["theme"] = theme;
    button.textContent = { auto: "◐", light: "☀", dark: "☾" }[theme];
    button.setAttribute("aria-label", `Colours: ${theme === "auto" ? "as the system" : theme}`);
    button.title = button.getAttribute("aria-label") ?? "";
  };
  let theme = kept();
  show(theme);
  button.addEventListener("click", () => {
    theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length] ?? "auto";
    keep(theme);
    show(theme);
  });
}

function kept(): Theme {
  try {
    const said = localStorage.getItem(KEY);
    return THEMES.find((theme) => theme === said) ?? "auto";
  } catch {
    return "auto"; // storage is closed to us
  }
}

function keep(theme: Theme): void {
  try {
    localStorage.setItem(KEY, theme);
  } catch {
    // It lasts as long as the page, then.
  }
}
