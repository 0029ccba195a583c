/**
 * Who lets requests in, before anything of their bodies is read: whose they are, whether more may come in at
 * all, whether their tenant had its share, and whether there is room in this process. The first that says no
 * answers; what comes first is cheapest or most lasting.
 */
import { Door } from '../admit/door.ts';
import { Shares, type Taken } from '../admit/shares.ts';
import { Tenants } from '../admit/tenants.ts';
import type { Verdict } from '../model/outcome.ts';
import type { Signal } from '../model/signal.ts';
import type { Admission, Asking, CredentialHeaders, Ticket } from '../receive/ingest.ts';
import type { RedisCommands } from '../redis/client.ts';
import type { Pressure } from './pressure.ts';
import type { RoleContext } from './roles.ts';

export class GatewayAdmission implements Admission {
  readonly #tenants: Tenants;
  readonly #pressure: Pressure;
  readonly #shares: Shares;
  readonly #door: Door;

  /** Nobody has limits before `start`. */
  constructor({ live, instruments, logger }: RoleContext, pressure: Pressure, redis: RedisCommands) {
    const { tenants, receive } = live.current;
    this.#tenants = new Tenants(tenants, (reason) => instruments.authFailures.inc({ reason }));
    this.#door = new Door(receive, instruments);
    this.#pressure = pressure;
    this.#shares = new Shares({
      settings: () => live.current,
      redis,
      instruments,
      logger,
      capacity: () => pressure.capacity(),
      others: () => pressure.board,
      id: pressure.id,
    });
    pressure.demand = () => this.#shares.demand();
    pressure.inside = () => ({
      requests: this.#door.requestsInFlight,
      requestsMax: this.#door.limits.requestsInFlightMax,
      bytes: this.#door.bytesInFlight,
      bytesMax: this.#door.limits.bytesInFlightMax,
    });
    live.onChange((settings) => {
      this.#tenants.update(settings.tenants);
      this.#door.limits = settings.receive;
    });
  }

  get credentialHeaders(): CredentialHeaders | undefined {
    return this.#tenants.credentialHeaders;
  }

  enter({ signal, declaredBytes, credentials }: Asking): Ticket | Verdict {
    const who = this.#tenants.identify(credentials);
    if (who.kind !== 'tenant') return who;
    const pressed = this.#pressure.verdict();
    if (pressed !== undefined) {
      // Else nobody would seem to want anything when it ends, and everything would come in at once.
      this.#shares.asked(who.name, signal, declaredBytes);
      return pressed;
    }
    const refusal = this.#shares.refusal(who.name, signal, declaredBytes);
    return refusal ?? this.#door.enter(declaredBytes, who.name);
  }

  /** What was taken of a request that was let in, once it is stored. */
  charge(tenant: string, signal: Signal, taken: Taken): void {
    this.#shares.charge(tenant, signal, taken);
    this.#pressure.note(taken);
  }

  /** Under which name a tenant is counted. */
  nameOf(tenant: string): string {
    return this.#shares.nameOf(tenant);
  }

  /** Redis is there. */
  start(): void {
    this.#shares.start();
  }

  /** From now on every request is turned away; those inside finish. */
  close(): void {
    this.#door.close();
  }

  /** Resolves when what was taken ahead of tenants' shares is given back. Never rejects. */
  stop(): Promise<void> {
    return this.#shares.stop();
  }
}
