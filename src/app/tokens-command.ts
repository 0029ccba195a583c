/** `sluice tokens …`: makes tokens, and the hashes under which the settings know them. */
import type { Command } from 'commander';
import { hashToken, newToken, TOKEN_LENGTH_MAX } from '../admit/tokens.ts';
import { ConfigurationError } from '../base/errors.ts';

interface JsonOption {
  readonly json?: boolean;
}

/** @param tokens `sluice tokens` */
export function addTokens(tokens: Command): void {
  tokens
    .command('new')
    .description('a new token and its hash; the token is shown this once and kept nowhere')
    .option('--json', 'as JSON')
    .action(({ json }: JsonOption) => {
      const token = newToken();
      const hash = hashToken(token);
      if (json) console.log(JSON.stringify({ token, hash }));
      else console.log(`token  ${token}  (for the client, shown only now)\nhash   ${hash}`);
    });
  tokens
    .command('hash')
    .description('the hash of the token on standard input, for the settings')
    .option('--json', 'as JSON')
    .action(async ({ json }: JsonOption) => {
      const hash = hashToken(await readLine());
      console.log(json ? JSON.stringify({ hash }) : hash);
    });
}

/** From standard input and not from an argument, since those are seen in the list of processes. */
async function readLine(): Promise<string> {
  let text = '';
  process.stdin.setEncoding('utf8');
  for await (const chunk of process.stdin) {
    text += chunk;
    if (text.trim().length > TOKEN_LENGTH_MAX) break;
  }
  if (text.trim() === '') throw new ConfigurationError('there is no token on standard input');
  return text.trim();
}
