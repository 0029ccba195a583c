/** What tests of TLS share: files of a port, as the program opens them. */
import { renameSync, writeFileSync } from 'node:fs';
import { createLogger } from '../../src/base/log.ts';
import { type TlsFiles, type TlsSettings, openTls } from '../../src/base/tls.ts';
import { Authority, type Issued } from './authority.ts';
import type { Served } from './support.ts';

export interface OpenedTls extends Served {
  readonly authority: Authority;
  readonly own: Issued;
}

/** Files of a port in `dir`, signed by an authority of their own. */
export function tlsOf(dir: string, more: Partial<TlsSettings> = {}): OpenedTls {
  const authority = new Authority(dir, 'farm');
  const own = authority.issue('server');
  const tls = open({ ...own, ...more });
  return { tls, authority, own, ca: authority.pem };
}

/** In one step: nobody who looks meanwhile sees a part of it. */
export function replace(file: string, bytes: Buffer): void {
  writeFileSync(`${file}.next`, bytes);
  renameSync(`${file}.next`, file);
}

export function open(
  settings: Partial<TlsSettings>,
  onCertificate: (notAfterSeconds: number) => void = () => undefined,
  logger = createLogger('silent', 'json'),
): TlsFiles {
  const { certFile = '', keyFile = '', clientCaFile = '', clientAuth = 'off' } = settings;
  const opened = openTls({
    port: 'OTLP',
    env: 'SLUICE_RECEIVE_TLS',
    settings: { certFile, keyFile, clientCaFile, clientAuth },
    logger,
    onCertificate,
    pollMs: 20,
  });
  if (opened === undefined) throw new Error('no TLS in these settings');
  return opened;
}
