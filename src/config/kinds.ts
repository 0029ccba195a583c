/** The kinds of values that settings have: how text becomes a value, and what is wanted in words. */
import { z } from 'zod';
import { type LogFormat, LOG_FORMATS, LOG_LEVELS } from '../base/log.ts';
import { LIMITS, type Limit } from '../model/outcome.ts';
import { SIGNALS, type Signal } from '../model/signal.ts';
import type { Kind } from './kind.ts';
import { rulesKind } from './rules.ts';
import { type Address, DURABILITIES } from './settings.ts';
import { tenantsKind, tokenHashesKind } from './tenants.ts';

export type { Kind } from './kind.ts';

const text = (value: unknown) => (typeof value === 'string' ? value.trim() : value);

export function integer(min: number, max: number): Kind<number> {
  return {
    schema: z.preprocess(
      (value) => (typeof value === 'string' && /^\s*-?\d+\s*$/.test(value) ? Number(value) : value),
      z.number().int().min(min).max(max),
    ),
    wanted: `a whole number from ${min} to ${max}`,
    show: String,
  };
}

export function decimal(min: number, max: number): Kind<number> {
  return {
    schema: z.preprocess(
      (value) => (typeof value === 'string' && /^\s*\d+(\.\d+)?\s*$/.test(value) ? Number(value) : value),
      z.number().min(min).max(max),
    ),
    wanted: `a number from ${min} to ${max}`,
    show: String,
  };
}

const BYTE_UNITS: Readonly<Record<string, number>> = { '': 1, KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30 };

export function bytes(min: number, max: number): Kind<number> {
  const parse = (value: unknown) => {
    const match = typeof value === 'string' ? /^\s*(\d+)\s*(KiB|MiB|GiB|)\s*$/.exec(value) : null;
    return match ? Number(match[1]) * (BYTE_UNITS[match[2] ?? ''] ?? 1) : value;
  };
  return {
    schema: z.preprocess(parse, z.number().int().min(min).max(max)),
    wanted: `bytes from ${min} to ${max}, or with a unit: 512KiB, 64MiB, 2GiB`,
    show: String,
  };
}

/** One of a kind's values, or a word. */
export function orWord<T, W extends string>(kind: Kind<T>, word: W): Kind<T | W> {
  return {
    schema: z.union([z.preprocess(text, z.literal(word)), kind.schema]),
    wanted: `${kind.wanted}, or "${word}"`,
    show: (value) => (value === word ? word : kind.show(value as T)),
  };
}

export function oneOf<const W extends readonly string[]>(...words: W): Kind<W[number]> {
  return {
    schema: z.preprocess(text, z.enum(words)) as z.ZodType<W[number]>,
    wanted: `one of ${words.join(', ')}`,
    show: String,
  };
}

export const tenants = tenantsKind;
export const tokenHashes = tokenHashesKind;
export const rules = rulesKind;
export const logLevel = oneOf(...LOG_LEVELS);
export const logFormat: Kind<LogFormat> = oneOf(...LOG_FORMATS);
export const durability = oneOf(...DURABILITIES);

/** `host:port`, `[v6]:port`, or `:port` for every address of the machine. */
export const address: Kind<Address> = {
  schema: z.string().transform((value, context): Address => {
    const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]\s]*)):(\d{1,5})$/.exec(value.trim());
    const port = Number(match?.[3]);
    if (!match || port > 65_535) {
      context.addIssue({ code: 'custom', message: 'not an address' });
      return z.NEVER;
    }
    return { host: match[1] ?? (match[2] || '0.0.0.0'), port };
  }),
  wanted: 'host:port with a port from 0 to 65535 (0 is any free one)',
  show: showAddress,
};

export function showAddress({ host, port }: Address): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}

/** Comma separated text or a YAML list. */
export function list(wanted: string): Kind<string[]> {
  const split = (value: unknown) =>
    typeof value === 'string'
      ? value
          .split(',')
          .map((part) => part.trim())
          .filter((part) => part !== '')
      : value;
  return { schema: z.preprocess(split, z.array(z.string())), wanted, show: (value) => value.join(',') };
}

export function string(wanted: string, pattern = /^/): Kind<string> {
  return { schema: z.preprocess(text, z.string().regex(pattern)), wanted, show: (value) => value };
}

/** Never shown. */
export const secret: Kind<string> = {
  schema: z.preprocess(text, z.string()),
  wanted: 'a text',
  show: (value) => (value === '' ? '' : '***'),
  holdsSecret: true,
};

/** `name=seconds`, separated by commas, or a mapping in the file. */
export const windows: Kind<ReadonlyMap<string, number>> = {
  schema: z
    .preprocess(
      (value) => (typeof value === 'string' ? pairsOf(value) : value),
      z.record(z.string().min(1), integer(0, 86_400).schema),
    )
    .transform((pairs): ReadonlyMap<string, number> => new Map(Object.entries(pairs))),
  wanted:
    'name=seconds, several separated by commas, with seconds from 0 to 86400, ' +
    'for example batch-jobs=3600',
  show: (value) => [...value].map(([name, seconds]) => `${name}=${seconds}`).join(','),
};

/** `on` or `off`; `true` and `false` of YAML too. */
export const flag: Kind<boolean> = {
  schema: z.preprocess(
    (value) => ({ on: true, true: true, off: false, false: false })[String(value).trim()] ?? value,
    z.boolean(),
  ),
  wanted: 'on or off',
  show: (value) => (value ? 'on' : 'off'),
};

const names = (value: unknown) =>
  typeof value === 'string' ? value.split(',').flatMap((part) => part.trim() || []) : value;

export const signals: Kind<Signal[]> = {
  schema: z.preprocess(names, z.array(z.enum(SIGNALS))) as z.ZodType<Signal[]>,
  wanted: `signals separated by commas: ${SIGNALS.join(', ')}`,
  show: (value) => value.join(','),
};

export const limits: Kind<ReadonlySet<Limit>> = {
  schema: z
    .preprocess(names, z.array(z.enum(LIMITS)))
    .transform((list): ReadonlySet<Limit> => new Set(list)),
  wanted: `limits separated by commas: ${LIMITS.join(', ')}`,
  show: (value) => [...value].join(','),
};

/** `traces=24,logs=48`, or a mapping in the file. */
export const hoursBySignal: Kind<ReadonlyMap<Signal, number>> = {
  schema: z
    .preprocess(
      (value) => (typeof value === 'string' ? pairsOf(value) : value),
      z.partialRecord(z.enum(SIGNALS), integer(0, 876_000).schema),
    )
    .transform((pairs) => new Map(Object.entries(pairs)) as ReadonlyMap<Signal, number>),
  wanted: 'signal=hours, several separated by commas, for example traces=24,logs=48',
  show: (value) => [...value].map(([signal, hours]) => `${signal}=${hours}`).join(','),
};

function isUrlOf(protocols: readonly string[], value: string): boolean {
  const url = URL.parse(value);
  return url !== null && protocols.includes(url.protocol) && url.hostname !== '';
}

/**
 * URLs may carry passwords, before the host or as parameters: they are shown without. Takes any text with any
 * number of URLs inside. A password that isn't encoded may have any character, so what is hidden reaches to
 * the last @ before the next URL.
 */
export function hidePassword(text: string): string {
  return text
    .replace(/(:\/\/[^:@/?\s]*):(?:(?!:\/\/)\S)*@/g, '$1:***@')
    .replace(/(:\/\/[^?\s]*)\?(?:(?!,\w+:\/\/)[^\s"])+/g, '$1?***');
}

export const clickhouseUrls: Kind<string[]> = {
  schema: z.preprocess(
    (value) => (typeof value === 'string' ? value.split(',').map((part) => part.trim()) : value),
    z.array(z.string().refine((value) => isUrlOf(['http:', 'https:'], value))).min(1),
  ),
  wanted: 'http(s)://user:password@host:port, several separated by commas',
  show: (value) => value.map(hidePassword).join(','),
  holdsSecret: true,
};

/** `host:port=URL`, separated by commas, or a mapping in the file. */
export const addresses: Kind<ReadonlyMap<string, string>> = {
  schema: z
    .preprocess(
      (value) => (typeof value === 'string' ? pairsOf(value) : value),
      z.record(
        z.string().regex(/^(\[[^\]]+\]|[^:\s]+):\d{1,5}$/),
        z.string().refine((value) => isUrlOf(['http:', 'https:'], value)),
      ),
    )
    .transform((pairs): ReadonlyMap<string, string> => new Map(Object.entries(pairs))),
  wanted:
    'host:port=http(s)://host:port, several separated by commas, with host and port as in system.clusters, ' +
    'for example chi-0-0:9000=http://127.0.0.1:8123,chi-0-1:9000=http://127.0.0.1:8124',
  show: (value) => [...value].map(([from, to]) => `${from}=${hidePassword(to)}`).join(','),
  holdsSecret: true,
};

function pairsOf(text: string): Record<string, string> {
  const parts = text.split(',').map((part) => part.trim());
  const pairs = parts.filter((part) => part !== '').map((part): [string, string] => {
    const equals = part.indexOf('=');
    return equals < 0 ? [part, ''] : [part.slice(0, equals).trim(), part.slice(equals + 1).trim()];
  });
  return Object.fromEntries(pairs);
}

export const redisUrl: Kind<string> = {
  schema: z.preprocess(text, z.string().regex(/^rediss?(\+sentinel|\+cluster)?:\/\/[^/\s]+/)),
  wanted:
    'redis://, redis+sentinel://h1:26379,h2:26379/name or redis+cluster://h1:6379,h2:6379; ' +
    'with TLS rediss://, rediss+sentinel:// or rediss+cluster://',
  show: hidePassword,
  holdsSecret: true,
};
