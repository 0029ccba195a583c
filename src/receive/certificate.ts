/**
 * What a client's certificate says of it, once its chain was verified in the handshake. In: a connection.
 * Out: the names that tenants are found by (docs/security.md).
 */
import type { Socket } from 'node:net';
import { type PeerCertificate, TLSSocket } from 'node:tls';
import type { ClientCertificate } from '../model/tenant.ts';

/**
 * undefined without TLS, without a certificate, and with one that isn't signed by the authorities of the
 * settings. Costs a parse: once per connection.
 */
export function clientCertificateOf(socket: Socket): ClientCertificate | undefined {
  if (!(socket instanceof TLSSocket) || !socket.authorized) return undefined;
  const certificate = socket.getPeerX509Certificate();
  if (certificate === undefined) return undefined;
  const { CN } = (certificate.toLegacyObject() as unknown as PeerCertificate).subject as { CN?: unknown };
  return {
    // Of several nobody knows which one is meant: then it has none.
    commonName: typeof CN === 'string' ? CN : '',
    names: namesOf(certificate.subjectAltName ?? ''),
  };
}

/** Whether the client showed a certificate, whatever it is worth. */
export function showsCertificate(socket: TLSSocket): boolean {
  return socket.getPeerX509Certificate() !== undefined;
}

const ENTRY = /([A-Za-z ]+):("(?:[^"\\]|\\.)*"|[^,"]*)(?:, |$)/y;
const TAKEN: ReadonlySet<string> = new Set(['DNS', 'URI', 'email']);

/**
 * The names in node's text of a subjectAltName: `DNS:a.example, URI:spiffe://x/y`, where what could be taken
 * for the end of an entry is quoted as in JSON. A text that isn't that way says nothing.
 */
export function namesOf(text: string): readonly string[] {
  const names: string[] = [];
  let at = 0;
  while (at < text.length) {
    ENTRY.lastIndex = at;
    const [whole, type = '', value = ''] = ENTRY.exec(text) ?? [];
    if (whole === undefined || whole === '') return [];
    if (TAKEN.has(type)) names.push(value.startsWith('"') ? String(JSON.parse(value)) : value);
    at += whole.length;
  }
  return names;
}
