/** Names and texts as SQL writes them. */
export const IDENTIFIER = /^[A-Za-z_][A-Za-z0-9_]*$/;

/** A name, in backquotes only where it needs them: statements are shown to people. */
export function quote(name: string): string {
  return IDENTIFIER.test(name) ? name : `\`${name.replace(/[\\`]/g, '\\$&')}\``;
}

export function literal(text: string): string {
  return `'${text.replace(/[\\']/g, '\\$&')}'`;
}
