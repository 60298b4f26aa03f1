/** Where in shown text a checkpoint stands. */
import { element } from "./dom";

const SAYS = "Checkpoint: what stands before it is never taken back";

/**
 * Puts a mark after the first `length` characters of what is shown.
 *
 * @param shown what was made of a text.
 * @param length characters of what was made of its beginning; Markdown that is not closed there may count a few more.
 */
export function mark(shown: Element, length: number): void {
  const texts = document.createTreeWalker(shown, NodeFilter.SHOW_TEXT);
  let left = length;
  let last: Node | undefined;
  while (texts.nextNode() !== null) {
    const node = texts.currentNode as Text;
    last = node;
    if (left <= node.data.length) {
      break;
    }
    left -= node.data.length;
  }
  if (last === undefined) {
    return;
  }
  const place = document.createRange();
  place.setStart(last, Math.min(left, (last as Text).data.length));
  place.collapse(true);
  place.insertNode(element("span.checkpoint", { role: "img", "aria-label": SAYS, title: SAYS }, "⚑"));
}
