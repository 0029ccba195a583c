/**
 * `sluice config check --request`: tries limits and rules on a captured request and says what each of them
 * did. Nothing is stored and nobody is asked, so the limit of time series isn't tried: it depends on what
 * came before.
 */
import { readFileSync } from 'node:fs';
import { ConfigurationError, messageOf } from '../base/errors.ts';
import type { Encoding } from '../compress/inflate.ts';
import type { Settings } from '../config/settings.ts';
import { Malformed } from '../model/block.ts';
import { type Outcome, sumOutcomes } from '../model/outcome.ts';
import { ITEM_NAMES, SIGNALS, type Signal } from '../model/signal.ts';
import { recordNames } from '../screen/names.ts';
import { type Screened, compileScreen } from '../screen/screen.ts';
import { createOpenBlocks } from '../transcode/open-blocks.ts';
import { decodeRequest, tooLargeMessage } from './decode.ts';

export interface RequestCheck {
  /** A file: protobuf or JSON, as it is or compressed by gzip or zstd. */
  readonly request: string;
  readonly signal?: string;
  readonly tenant: string;
  readonly json: boolean;
}

const NAMES_SHOWN = 5;
const JSON_FIELDS: Readonly<Record<Signal, string>> = {
  traces: 'resourceSpans',
  metrics: 'resourceMetrics',
  logs: 'resourceLogs',
};

/** @throws ConfigurationError when the file can't be used. @returns the exit code */
export async function checkRequest(settings: Settings, check: RequestCheck): Promise<number> {
  const body = readBody(check.request);
  const encoding = encodingOf(body);
  const { requestBytesMax, nestingMax } = settings.receive;
  const decode = (signal: Signal, format: 'json' | 'protobuf') =>
    decodeRequest(
      {
        signal,
        format,
        encoding,
        tenant: check.tenant,
        source: '',
        requestId: undefined,
        body,
        isKept: true,
      },
      requestBytesMax,
      nestingMax,
    );
  const plain = decode('traces', 'protobuf');
  if (plain.kind === 'too_large') throw new ConfigurationError(tooLargeMessage(requestBytesMax));
  if (plain.kind === 'never') throw new ConfigurationError(`${check.request}: ${plain.message}`);
  const text = Buffer.from(plain.bytes.subarray(0, 4096))
    .toString('utf8')
    .replace(/^\ufeff/, '')
    .trimStart();
  const format = text.startsWith('{') ? 'json' : 'protobuf';
  const signal = signalOf(check, format === 'json' ? text : undefined);
  const decoded = decode(signal, format);
  if (decoded.kind !== 'ok') {
    throw new ConfigurationError(
      `${check.request}: ${decoded.kind === 'never' ? decoded.message : 'too large'}`,
    );
  }
  const request = Uint8Array.from(decoded.bytes);
  const sent = await outcomeOf(signal, request, nestingMax, check);
  const screened = compileScreen(settings).apply(signal, request, {
    tenant: check.tenant,
    nowMs: Date.now(),
  });
  const stored = await outcomeOf(signal, screened.bytes, nestingMax, check);
  const report = reportOf(signal, sent, stored, screened);
  console.log(check.json ? JSON.stringify(report, null, 2) : lines(report).join('\n'));
  return 0;
}

function readBody(path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (error) {
    throw new ConfigurationError(`--request: ${path} can't be read: ${messageOf(error)}`);
  }
}

/** By the first bytes. */
function encodingOf(body: Buffer): Encoding {
  if (body[0] === 0x1f && body[1] === 0x8b) return 'gzip';
  return body.length >= 4 && body.readUInt32LE(0) === 0xfd2fb528 ? 'zstd' : 'identity';
}

/** @param json the beginning of a request in JSON */
function signalOf({ signal }: RequestCheck, json: string | undefined): Signal {
  const named = SIGNALS.find((one) => one === signal);
  if (named !== undefined) return named;
  if (signal !== undefined) {
    throw new ConfigurationError(
      `--signal: there is no signal ${signal}; wanted: one of ${SIGNALS.join(', ')}`,
    );
  }
  const found = SIGNALS.find((one) => json?.includes(`"${JSON_FIELDS[one]}"`));
  if (found !== undefined) return found;
  throw new ConfigurationError(`--signal is needed for this request; wanted: one of ${SIGNALS.join(', ')}`);
}

/** What the transcoder makes of a request. */
async function outcomeOf(
  signal: Signal,
  request: Uint8Array,
  nestingMax: number,
  check: RequestCheck,
): Promise<Outcome> {
  const blocks = await createOpenBlocks(signal, 'plain', { nestingMax });
  try {
    return blocks.append(request);
  } catch (error) {
    if (!(error instanceof Malformed)) throw error;
    throw new ConfigurationError(`${check.request} is no valid request of ${signal}: ${error.message}`);
  }
}

function reportOf(signal: Signal, sent: Outcome, stored: Outcome, screened: Screened) {
  const { reasons } = sumOutcomes([
    stored,
    { accepted: 0, rejected: 0, reasons: screened.rejected, warnings: new Map() },
  ]);
  return {
    signal,
    sent: sent.accepted + sent.rejected,
    stored: stored.accepted,
    refused: Object.fromEntries(reasons),
    trimmed: Object.fromEntries(screened.trimmed),
    overInDryRun: Object.fromEntries(screened.over),
    filtered: Object.fromEntries(screened.filtered),
    redacted: Object.fromEntries(screened.redacted),
    first: recordNames(signal, screened.bytes, NAMES_SHOWN),
  };
}

function lines(report: ReturnType<typeof reportOf>): string[] {
  const items = ITEM_NAMES[report.signal];
  const part = (counts: Readonly<Record<string, number>>, what: (name: string) => string) =>
    Object.entries(counts).map(([name, count]) => `  ${what(name)}: ${count}`);
  return [
    `${report.sent} ${items} were sent, ${report.stored} would be stored`,
    ...part(report.filtered, (name) => `rule ${name} dropped, or did not sample`),
    ...part(report.redacted, (name) => `rule ${name} replaced something in`),
    ...part(report.refused, (reason) => `refused, ${reason}`),
    ...part(report.trimmed, (limit) => `limit ${limit} cut something off of`),
    ...part(report.overInDryRun, (limit) => `beyond limit ${limit}, stored since this is a dry run`),
    ...(report.first.length > 0 ? [`the first that remain: ${report.first.join(', ')}`] : []),
  ];
}
