/** A place in a list of tokens, as the parsers of statements move it. Nothing here throws: see ddl.ts. */
import { type Token, depthChange, spell } from './lexer.ts';

export class Cursor {
  readonly #tokens: readonly Token[];
  #at = 0;

  constructor(tokens: readonly Token[]) {
    this.#tokens = tokens;
  }

  get done(): boolean {
    return this.#at >= this.#tokens.length;
  }

  peek(ahead = 0): Token | undefined {
    return this.#tokens[this.#at + ahead];
  }

  next(): Token | undefined {
    const token = this.#tokens[this.#at];
    this.#at += 1;
    return token;
  }

  /** Whether these words come next, in any case of letters. */
  at(...words: readonly string[]): boolean {
    return words.every((word, ahead) => isWord(this.peek(ahead), word));
  }

  /** Steps over these words if they come next. */
  skip(...words: readonly string[]): boolean {
    const found = this.at(...words);
    if (found) this.#at += words.length;
    return found;
  }

  skipOperator(value: string): boolean {
    const found = this.atOperator(value);
    if (found) this.#at += 1;
    return found;
  }

  atOperator(value: string): boolean {
    const token = this.peek();
    return token?.kind === 'operator' && token.value === value;
  }

  /** What is inside the brackets that open here, and steps behind them; undefined where none open. */
  brackets(): Token[] | undefined {
    if (!this.atOperator('(')) return undefined;
    const inside: Token[] = [];
    let depth = 0;
    while (!this.done) {
      const token = this.next() as Token;
      depth += depthChange(token);
      if (depth === 0) break;
      inside.push(token);
    }
    return inside.slice(1);
  }

  /** Everything up to where `stop` says so at depth 0; the first token is never asked about. */
  until(stop: (cursor: Cursor) => boolean): Token[] {
    const taken: Token[] = [];
    let depth = 0;
    while (!this.done && (taken.length === 0 || depth > 0 || !stop(this))) {
      const token = this.next() as Token;
      depth += depthChange(token);
      taken.push(token);
    }
    return taken;
  }

  rest(): Token[] {
    const rest = this.#tokens.slice(this.#at);
    this.#at = this.#tokens.length;
    return rest;
  }

  restText(): string {
    return spell(this.rest());
  }

  /** A name, also of several parts (`Events.Name`): their dots are kept. Undefined where none comes next. */
  dottedName(): string | undefined {
    const parts: string[] = [];
    while (isName(this.peek())) {
      parts.push(this.next()?.value ?? '');
      if (!this.atOperator('.') || !isName(this.peek(1))) break;
      this.next();
    }
    return parts.length === 0 ? undefined : parts.join('.');
  }
}

export function isWord(token: Token | undefined, word: string): boolean {
  return token?.kind === 'word' && token.value.toUpperCase() === word;
}

export function isName(token: Token | undefined): boolean {
  return token?.kind === 'word' || token?.kind === 'name';
}
