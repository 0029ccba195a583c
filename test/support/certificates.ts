/** Certificates for tests, made by openssl. */
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** An authority, and one certificate for 127.0.0.1 that serves on both sides; files in this folder. */
export function makeCertificates(dir: string): {
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
} {
  const file = (name: string) => join(dir, name);
  const openssl = (...args: string[]) => execFileSync('openssl', args, { stdio: 'pipe' });
  const fresh = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
  const days = ['-days', '2'];
  const authority = ['-subj', '/CN=farm', '-keyout', file('ca.key'), '-out', file('ca.pem')];
  openssl('req', '-x509', ...fresh, ...days, ...authority);
  openssl('req', ...fresh, '-subj', '/CN=redis', '-keyout', file('redis.key'), '-out', file('redis.csr'));
  writeFileSync(file('names'), `subjectAltName=IP:127.0.0.1,DNS:localhost\n`);
  const signed = ['-CA', file('ca.pem'), '-CAkey', file('ca.key'), '-CAcreateserial'];
  const names = ['-extfile', file('names'), '-out', file('redis.pem')];
  openssl('x509', '-req', '-in', file('redis.csr'), ...signed, ...days, ...names);
  return { ca: file('ca.pem'), cert: file('redis.pem'), key: file('redis.key') };
}
