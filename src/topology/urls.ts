/** Addresses of members made from what the settings say. Pure; a service name is never made up. */
import type { Settings } from '../config/settings.ts';
import { type Member, nameOf } from './definition.ts';

type Given = Pick<Settings['clickhouse'], 'urls' | 'addresses'>;

/**
 * The mapping of the settings, for members of the cluster; user and password of the first URL where it has
 * none.
 */
export function mappedUrls({ urls, addresses }: Given): Map<string, string> {
  const [first = ''] = urls;
  return new Map([...addresses].map(([name, url]) => [name, withCredentials(url, first)]));
}

/**
 * Where a member would be under its own name: the one URL of the settings with that host, else scheme, port,
 * path and credentials of the first.
 */
export function derivedUrl(urls: readonly string[], { host }: Member): string | undefined {
  const named = urls.filter((url) => hostOf(url) === host);
  if (named.length === 1) return named[0];
  const [first = ''] = urls;
  const url = URL.parse(first);
  if (url === null) return undefined;
  url.hostname = host.includes(':') ? `[${host}]` : host;
  return urls.find((one) => URL.parse(one)?.host === url.host) ?? url.href;
}

/** Whether the URL is to the host that the definition names, whatever the port. */
export function isOwnName(url: string, member: Member): boolean {
  return hostOf(url) === member.host;
}

/** Mappings of what is no member. */
export function unusedMappings({ addresses }: Given, members: readonly Member[]): string[] {
  const names = members.map(nameOf);
  return [...addresses.keys()].filter((name) => !names.includes(name));
}

function hostOf(url: string): string | undefined {
  return URL.parse(url)?.hostname.replace(/^\[|\]$/g, '');
}

function withCredentials(text: string, from: string): string {
  const [url, source] = [URL.parse(text), URL.parse(from)];
  if (url === null || source === null || url.username !== '' || url.password !== '') return text;
  if (source.username === '' && source.password === '') return text;
  url.username = source.username;
  url.password = source.password;
  return url.href;
}
