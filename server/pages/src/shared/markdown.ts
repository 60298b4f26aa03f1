/**
 * Markdown to elements.
 *
 * Rules: what a model writes is a stranger's text: it is made safe before it is shown, links open elsewhere and tell nobody
 * where they were followed, and nothing is loaded from anywhere.
 */
import DOMPurify from "dompurify";
import { Marked } from "marked";

// HTML in a text is shown as it was written: a reader should see it, and no parser needs to look at it.
const marked = new Marked({ gfm: true, breaks: true, async: false, renderer: { html: ({ text }) => escaped(text) } });

const ALLOWED = [
  "a", "b", "blockquote", "br", "code", "del", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "i", "li", "ol", "p", "pre",
  "s", "strong", "sub", "sup", "table", "tbody", "td", "th", "thead", "tr", "ul",
];

/** Gives a text's elements; what is no Markdown is text. */
export function markdown(text: string): DocumentFragment {
  const html = marked.parse(text) as string;
  const made = DOMPurify.sanitize(html, {
    ALLOWED_TAGS: ALLOWED,
    ALLOWED_ATTR: ["href", "start", "align"],
    ALLOWED_URI_REGEXP: /^(?:https?:|mailto:)/i,
    RETURN_DOM_FRAGMENT: true,
  });
  for (const link of made.querySelectorAll("a")) {
    link.target = "_blank";
    link.rel = "noopener noreferrer nofollow";
  }
  for (const block of made.querySelectorAll("pre")) {
    block.tabIndex = 0; // so that a wide one can be scrolled by keys
  }
  for (const table of made.querySelectorAll("table")) {
    const frame = document.createElement("div");
    frame.className = "wide";
    frame.tabIndex = 0;
    table.replaceWith(frame);
    frame.append(table);
  }
  return made;
}

function escaped(text: string): string {
  return text.replace(/[&<>"]/g, (character) => `&#${character.charCodeAt(0)};`);
}
