/**
 * TLS of a port that listens: its certificate, its key and the authorities of clients, from files that may
 * change while the program runs. In: names of files. Out: the options of a server of node:tls, and a new
 * secure context for each such server when the files have changed. What is wrong at the start is a
 * ConfigurationError; what is wrong later is logged, and the old certificate stays.
 */
import { X509Certificate, createPrivateKey } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { type SecureContextOptions, type TlsOptions, createSecureContext } from 'node:tls';
import { nowMs } from './clock.ts';
import { ConfigurationError, messageOf } from './errors.ts';
import type { Logger } from './log.ts';

/** As the settings have it; without a certificate there is no TLS. */
export interface TlsSettings {
  readonly certFile: string;
  readonly keyFile: string;
  readonly clientCaFile: string;
  readonly clientAuth: 'off' | 'optional' | 'required';
}

export interface TlsFilesOptions {
  /** Which port it is of, for the log. */
  readonly port: string;
  /** What the settings' names in the environment begin with, such as SLUICE_RECEIVE_TLS. */
  readonly env: string;
  readonly settings: TlsSettings;
  readonly logger: Logger;
  /** Told when the certificate in use ends, seconds since 1970: at once, and after each change. */
  readonly onCertificate: (notAfterSeconds: number) => void;
  /** How often the files are looked at. */
  readonly pollMs?: number;
}

/** What takes a new certificate: a server of node:tls. */
export interface TlsServer {
  setSecureContext(options: SecureContextOptions): void;
}

/** What became of a look at the files; `refused` is why the new ones can't be used. */
export type TlsReload =
  | { readonly kind: 'same' | 'changed' }
  | { readonly kind: 'refused'; readonly why: string };

type FileSetting = 'CERT_FILE' | 'KEY_FILE' | 'CLIENT_CA_FILE';

interface Material {
  readonly cert: Buffer;
  readonly key: Buffer;
  /** Only where clients show certificates. */
  readonly ca: Buffer | undefined;
}

/** Five seconds after a certificate was replaced new connections have it. */
const POLL_MS = 5_000;
/** A certificate that ends sooner is warned of at the start. */
const SOON_MS = 7 * 86_400_000;
const PEM_CERTIFICATE = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g;

/** @returns undefined where no TLS is wanted. @throws ConfigurationError that names the setting */
export function openTls(options: TlsFilesOptions): TlsFiles | undefined {
  const { env, settings } = options;
  const { certFile, keyFile, clientCaFile, clientAuth } = settings;
  if (certFile === '' && keyFile === '' && clientCaFile === '' && clientAuth === 'off') return undefined;
  if (certFile === '' || keyFile === '') {
    const missing = certFile === '' ? 'CERT_FILE' : 'KEY_FILE';
    throw new ConfigurationError(`${env}_${missing} is empty: TLS needs a certificate and its key, both`);
  }
  if (clientAuth === 'off' && clientCaFile !== '') {
    throw new ConfigurationError(
      `${env}_CLIENT_CA_FILE is set, but ${env}_CLIENT_AUTH is off, so that no client is asked for a ` +
        'certificate; set it to optional or required',
    );
  }
  if (clientAuth !== 'off' && clientCaFile === '') {
    throw new ConfigurationError(
      `${env}_CLIENT_AUTH is ${clientAuth}, but ${env}_CLIENT_CA_FILE is empty: name the authorities that ` +
        "sign your clients' certificates",
    );
  }
  return new TlsFiles(options);
}

export class TlsFiles {
  readonly #options: TlsFilesOptions;
  readonly #servers = new Set<TlsServer>();
  readonly #timer: NodeJS.Timeout;
  #material: Material;
  /** The last ones that couldn't be used. */
  #refused: Material | undefined;
  /** Whether that was logged. */
  #isSaid = false;
  #looking: Promise<TlsReload> | undefined;

  /** @throws ConfigurationError when a file can't be read or used */
  constructor(options: TlsFilesOptions) {
    this.#options = options;
    const { certFile, keyFile, clientCaFile } = options.settings;
    this.#material = {
      cert: this.#read('CERT_FILE', certFile),
      key: this.#read('KEY_FILE', keyFile),
      ca: clientCaFile === '' ? undefined : this.#read('CLIENT_CA_FILE', clientCaFile),
    };
    const certificate = this.#judge(this.#material);
    this.#tellOf(certificate);
    this.#timer = setInterval(() => void this.reload(), options.pollMs ?? POLL_MS).unref();
  }

  /** For the making of a server; `serve` keeps it up to date afterwards. */
  get serverOptions(): TlsOptions {
    const { clientAuth } = this.#options.settings;
    return {
      ...this.#context(),
      requestCert: clientAuth !== 'off',
      rejectUnauthorized: clientAuth === 'required',
    };
  }

  /** From now on the server gets each new certificate. @returns ends that */
  serve(server: TlsServer): () => void {
    this.#servers.add(server);
    return () => this.#servers.delete(server);
  }

  /**
   * Looks at the files now. Connections that are open keep what they began with. One look at a time. Never
   * rejects.
   */
  reload(): Promise<TlsReload> {
    this.#looking ??= this.#look().finally(() => {
      this.#looking = undefined;
    });
    return this.#looking;
  }

  close(): void {
    clearInterval(this.#timer);
    this.#servers.clear();
  }

  async #look(): Promise<TlsReload> {
    const { certFile, keyFile, clientCaFile } = this.#options.settings;
    try {
      const [cert, key, ca] = await Promise.all([
        readFile(certFile),
        readFile(keyFile),
        clientCaFile === '' ? undefined : readFile(clientCaFile),
      ]);
      const found = { cert, key, ca };
      if (isSame(found, this.#material)) {
        this.#refused = undefined;
        return { kind: 'same' };
      }
      return this.#take(found);
    } catch (error) {
      return this.#refuse(messageOf(error), undefined);
    }
  }

  #take(found: Material): TlsReload {
    let certificate: X509Certificate;
    try {
      certificate = this.#judge(found);
    } catch (error) {
      return this.#refuse(messageOf(error), found);
    }
    this.#material = found;
    this.#refused = undefined;
    const context = this.#context();
    for (const server of this.#servers) server.setSecureContext(context);
    const { port, logger } = this.#options;
    logger.info({ port, serial: certificate.serialNumber, until: certificate.validTo }, 'new certificate');
    this.#tellOf(certificate);
    return { kind: 'changed' };
  }

  /**
   * Said at the second look that finds the same: whoever replaces two files does so one after the other.
   */
  #refuse(why: string, found: Material | undefined): TlsReload {
    const { port, logger } = this.#options;
    const refused = found ?? NOTHING_READ;
    const again = this.#refused !== undefined && isSame(this.#refused, refused);
    if (!again) this.#isSaid = false;
    else if (!this.#isSaid) {
      this.#isSaid = true;
      logger.error({ port, reason: why }, 'the new certificate can not be used; the old one stays in use');
    }
    this.#refused = refused;
    return { kind: 'refused', why };
  }

  #context(): SecureContextOptions {
    const { cert, key, ca } = this.#material;
    return { cert, key, minVersion: 'TLSv1.2', ...(ca === undefined ? {} : { ca }) };
  }

  #read(setting: FileSetting, file: string): Buffer {
    try {
      return readFileSync(file);
    } catch (error) {
      throw this.#wrong(setting, `can't be read: ${messageOf(error)}`);
    }
  }

  /** @returns the port's own certificate. @throws ConfigurationError when the three can't be used together */
  #judge({ cert, key, ca }: Material): X509Certificate {
    const certificate = this.#certificatesIn('CERT_FILE', cert)[0] as X509Certificate;
    if (ca !== undefined) this.#certificatesIn('CLIENT_CA_FILE', ca);
    let fits: boolean;
    try {
      fits = certificate.checkPrivateKey(createPrivateKey(key));
    } catch (error) {
      const why = messageOf(error);
      throw this.#wrong('KEY_FILE', `holds no key that can be used (PEM, without a passphrase): ${why}`);
    }
    if (!fits) {
      throw this.#wrong('KEY_FILE', `is not the key of the certificate in ${this.#fileOf('CERT_FILE')}`);
    }
    try {
      createSecureContext({ cert, key, ...(ca === undefined ? {} : { ca }) });
    } catch (error) {
      throw this.#wrong('CERT_FILE', `can't be used for TLS: ${messageOf(error)}`);
    }
    return certificate;
  }

  #certificatesIn(setting: FileSetting, pem: Buffer): X509Certificate[] {
    const blocks = pem.toString('latin1').match(PEM_CERTIFICATE) ?? [];
    if (blocks.length === 0) throw this.#wrong(setting, 'holds no certificate in PEM');
    try {
      return blocks.map((block) => new X509Certificate(block));
    } catch (error) {
      throw this.#wrong(setting, `holds a certificate that can't be read: ${messageOf(error)}`);
    }
  }

  #wrong(setting: FileSetting, what: string): ConfigurationError {
    const name = `${this.#options.env}_${setting}`;
    return new ConfigurationError(`${name} is ${this.#fileOf(setting)}, which ${what}`);
  }

  #fileOf(setting: FileSetting): string {
    const { certFile, keyFile, clientCaFile } = this.#options.settings;
    if (setting === 'CERT_FILE') return certFile;
    return setting === 'KEY_FILE' ? keyFile : clientCaFile;
  }

  #tellOf({ validFrom, validTo }: X509Certificate): void {
    const { port, env, logger, onCertificate } = this.#options;
    const notAfterMs = Date.parse(validTo);
    onCertificate(Math.floor(notAfterMs / 1000));
    const now = nowMs();
    const file = this.#fileOf('CERT_FILE');
    if (notAfterMs < now) {
      logger.warn({ port, file, until: validTo }, `the certificate in ${env}_CERT_FILE has ended`);
    } else if (notAfterMs - now < SOON_MS) {
      logger.warn({ port, file, until: validTo }, `the certificate in ${env}_CERT_FILE ends soon`);
    }
    if (Date.parse(validFrom) > now) {
      logger.warn({ port, file, from: validFrom }, `the certificate in ${env}_CERT_FILE begins later`);
    }
  }
}

/** In the place of files that couldn't be read. */
const NOTHING_READ: Material = { cert: Buffer.alloc(0), key: Buffer.alloc(0), ca: undefined };

function isSame(one: Material, other: Material): boolean {
  const sameCa =
    one.ca === undefined || other.ca === undefined ? one.ca === other.ca : one.ca.equals(other.ca);
  return sameCa && one.cert.equals(other.cert) && one.key.equals(other.key);
}
