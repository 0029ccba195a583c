/** Authorities for tests, and the certificates that they sign: made by openssl, in a folder of the test's. */
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

export interface Issued {
  readonly certFile: string;
  readonly keyFile: string;
  readonly cert: Buffer;
  readonly key: Buffer;
}

export interface Wanted {
  readonly commonName?: string;
  /** As openssl wants them: `DNS:a.example,URI:spiffe://x`. */
  readonly names?: string;
  /** Negative: it has ended. */
  readonly days?: number;
}

const KEY = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];

export class Authority {
  readonly #dir: string;
  readonly #name: string;
  readonly file: string;
  readonly pem: Buffer;

  /** @param dir of the test; names of files begin with `name` */
  constructor(dir: string, name: string) {
    this.#dir = dir;
    this.#name = name;
    this.file = this.#path('ca.pem');
    const keyFile = this.#path('ca.key');
    openssl('req', '-x509', ...KEY, '-days', '2', '-subj', `/CN=${name}`, '-keyout', keyFile, '-out', this.file);
    this.pem = readFileSync(this.file);
  }

  /** For both sides of a connection to 127.0.0.1. */
  issue(file: string, { commonName = 'sluice', names, days = 2 }: Wanted = {}): Issued {
    const [certFile, keyFile] = [this.#path(`${file}.pem`), this.#path(`${file}.key`)];
    const [request, extensions] = [this.#path(`${file}.csr`), this.#path(`${file}.ext`)];
    openssl('req', ...KEY, '-subj', `/CN=${commonName}`, '-keyout', keyFile, '-out', request);
    writeFileSync(extensions, `subjectAltName=${names ?? 'IP:127.0.0.1,DNS:localhost'}\n`);
    const signed = ['-CA', this.file, '-CAkey', this.#path('ca.key'), '-CAcreateserial', '-days', `${days}`];
    openssl('x509', '-req', '-in', request, ...signed, '-extfile', extensions, '-out', certFile);
    return { certFile, keyFile, cert: readFileSync(certFile), key: readFileSync(keyFile) };
  }

  #path(file: string): string {
    return join(this.#dir, `${this.#name}-${file}`);
  }
}

function openssl(...args: string[]): void {
  execFileSync('openssl', args, { stdio: 'pipe' });
}
