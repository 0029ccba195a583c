/** What tests of TLS share: files of a port, as the program opens them. */
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
