/** Whose data a request is, and what a client shows to say so. */

/** Of every client that shows nothing, where that is allowed. */
export const DEFAULT_TENANT = 'default';

/** A client's certificate whose chain was verified. */
export interface ClientCertificate {
  /** CN of the subject; empty without. */
  readonly commonName: string;
  /** DNS names, URIs and e-mail addresses of subjectAltName, as they stand there. */
  readonly names: readonly string[];
}

/** What a client shows of itself; empty for what it doesn't show. */
export interface Credentials {
  /** The header `authorization`, whole. */
  readonly authorization: string;
  /** The header `x-api-key`. */
  readonly apiKey: string;
  /** The header in which trusted clients name a tenant (`tenants.header`). */
  readonly tenant: string;
  readonly certificate: ClientCertificate | undefined;
}

export const NO_CREDENTIALS: Credentials = {
  authorization: '',
  apiKey: '',
  tenant: '',
  certificate: undefined,
};
