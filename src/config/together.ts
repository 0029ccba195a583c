/** Rules between settings, where each of them alone is in order. */
import { ConfigurationError } from '../base/errors.ts';
import { DEFAULT_TENANT } from '../model/tenant.ts';
import type { Settings } from './settings.ts';

/** What stands before each gRPC message. */
const GRPC_PREFIX_BYTES = 5;
/** Headers with a meaning of their own in which no tenant can be named. */
const CREDENTIAL_HEADERS = ['authorization', 'x-api-key'];

/** @throws ConfigurationError that names the settings; never with a token or its hash */
export function checkTogether(settings: Settings): void {
  const { receive, write, pressure, tenants } = settings;
  if (receive.bytesInFlightMax < receive.requestBytesMax + GRPC_PREFIX_BYTES) {
    throw new ConfigurationError(
      `SLUICE_RECEIVE_BYTES_IN_FLIGHT_MAX: ${receive.bytesInFlightMax} is below SLUICE_REQUEST_BYTES_MAX ` +
        `(${receive.requestBytesMax}), so the largest request could never be taken; ` +
        `wanted: at least ${GRPC_PREFIX_BYTES} bytes more`,
    );
  }
  if (write.retryMsMin > write.retryMsMax) {
    throw new ConfigurationError(
      `SLUICE_WRITE_RETRY_MS_MIN: ${write.retryMsMin} is above ` +
        `SLUICE_WRITE_RETRY_MS_MAX (${write.retryMsMax})`,
    );
  }
  if (pressure.retryMsMin > pressure.retryMsMax) {
    throw new ConfigurationError(
      `SLUICE_PRESSURE_RETRY_MS_MIN: ${pressure.retryMsMin} is above ` +
        `SLUICE_PRESSURE_RETRY_MS_MAX (${pressure.retryMsMax})`,
    );
  }
  checkTenants(tenants);
}

/** Whatever a client shows belongs to one tenant only, and nobody gets one with tokens without any. */
function checkTenants({ list, header, anonymous, unlisted }: Settings['tenants']): void {
  const names = new Set<string>();
  const owners = { token: new Map<string, string>(), certificate: new Map<string, string>() };
  for (const { name, tokens, certificates } of list) {
    if (names.has(name)) {
      throw new ConfigurationError(`SLUICE_TENANTS: ${name} is in the list twice; wanted: each name once`);
    }
    names.add(name);
    const isProven = tokens.length + certificates.length > 0;
    if (name === DEFAULT_TENANT && isProven && [anonymous, unlisted].includes('default')) {
      const variable = anonymous === 'default' ? 'SLUICE_TENANTS_ANONYMOUS' : 'SLUICE_TENANTS_UNLISTED';
      throw new ConfigurationError(
        `SLUICE_TENANTS: ${name} has tokens or certificates, but ${variable}=default gives it to clients ` +
          `without any; wanted: another name, or ${variable}=refuse`,
      );
    }
    for (const token of tokens) claim(owners.token, token, name, 'a token');
    for (const shown of certificates) claim(owners.certificate, shown, name, `the certificate ${shown}`);
  }
  if (CREDENTIAL_HEADERS.includes(header)) {
    throw new ConfigurationError(
      `SLUICE_TENANTS_HEADER: ${header} is where tokens are shown; wanted: a header of its own, ` +
        'for example x-tenant',
    );
  }
}

function claim(owners: Map<string, string>, shown: string, name: string, what: string): void {
  const owner = owners.get(shown);
  owners.set(shown, name);
  if (owner === undefined) return;
  const both = owner === name ? `twice at ${name}` : `at ${owner} and at ${name}`;
  throw new ConfigurationError(`SLUICE_TENANTS: ${what} stands ${both}; wanted: once in the whole list`);
}
