/** Whether what a claim sent is stored, each item once. */
import type { Window } from '../../identity.ts';
import { Accounting } from '../../measure/accounting.ts';
import { waitForItems } from '../../measure/arrival.ts';
import type { Audit, Ledger } from '../../send/ledger.ts';
import type { Figure } from '../claim.ts';

/** Traces, of one run. */
export interface SentTraces {
  readonly ledger: Ledger;
  readonly run: number;
  readonly window: Window;
}

/** What of it is stored, once nothing accepted is missing, or the time is over. @throws Fault */
export async function auditOf(sent: SentTraces, url: string, database: string, msMax: number): Promise<Audit> {
  const accounting = new Accounting(url, database);
  try {
    const { ledger, run, window } = sent;
    const wanted = { sent: [{ signal: 'traces', ledger }], run, window, rowsBefore: 0, probeRows: () => 0 } as const;
    const { audits } = await waitForItems(accounting, wanted, msMax);
    const [audit] = audits;
    if (audit === undefined) throw new Error('one signal was sent');
    return audit;
  } finally {
    await accounting.close();
  }
}

/** All of them must be 0. @param prefix of their names */
export function auditFigures(prefix: string, { missing, doubled, refusedStored }: Audit): Figure[] {
  const none = { better: 'less', must: 0, aim: undefined, unit: 'items' } as const;
  return [
    { ...none, name: `${prefix}accepted and not stored`, value: missing },
    { ...none, name: `${prefix}stored twice`, value: doubled },
    { ...none, name: `${prefix}refused and stored`, value: refusedStored },
  ];
}
