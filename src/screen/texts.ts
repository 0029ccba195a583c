/**
 * Texts under an operator's regular expressions. What an expression sees is bounded, since the time that it
 * takes may be the square of the text or worse: TEXT_BYTES_MAX at a time. A longer text is looked through in
 * parts that overlap, so that whatever matches up to OVERLAP characters is found wherever it stands.
 */
export const TEXT_BYTES_MAX = 8192;
const OVERLAP = 1024;

/** The text at [start, end), at most TEXT_BYTES_MAX of it; what is no UTF-8 reads as U+FFFD. */
export function textWithin(bytes: Buffer, start: number, end: number): string {
  return bytes.toString('utf8', start, Math.min(end, start + TEXT_BYTES_MAX));
}

/** What an operator wants replaced in texts. */
export class Replacer {
  readonly #pattern: RegExp;
  readonly #replacement: string;

  constructor(pattern: string, replacement: string) {
    this.#pattern = new RegExp(pattern, 'g');
    this.#replacement = replacement;
  }

  /**
   * The text with every match replaced, undefined without any. Matches of nothing don't count. A text that
   * would grow to more than twice its length is replaced whole.
   */
  replaced(text: string): string | undefined {
    let result = '';
    let copied = 0;
    let changed = false;
    let from = 0;
    for (;;) {
      const part =
        text.length - from <= TEXT_BYTES_MAX ? text.slice(from) : text.slice(from, from + TEXT_BYTES_MAX);
      const isLast = from + part.length === text.length;
      const settled = isLast ? part.length : part.length - OVERLAP;
      let next = settled;
      this.#pattern.lastIndex = 0;
      for (;;) {
        const match = this.#pattern.exec(part);
        if (match === null || (match.index >= settled && !isLast)) break;
        if (match[0].length === 0) {
          this.#pattern.lastIndex++;
          continue;
        }
        result += text.slice(copied, from + match.index) + this.#replacement;
        copied = from + this.#pattern.lastIndex;
        next = Math.max(next, this.#pattern.lastIndex);
        changed = true;
        if (result.length > 2 * text.length + this.#replacement.length) return this.#replacement;
      }
      if (isLast) break;
      from += next;
    }
    return changed ? result + text.slice(copied) : undefined;
  }
}
