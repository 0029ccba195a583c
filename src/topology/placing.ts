/**
 * Which URL leads to which member of the cluster. Pure: from what was answered it draws what is proven, and
 * only then what is left over. In order:
 * 1. the mapping of the settings, unless whoever answers there proves to be another server;
 * 2. what was found before, as long as nothing speaks against it;
 * 3. the member's own name with scheme, port and user of the first URL, where that proves to be the member: a
 *    URL of the settings may be a load balancer, which is another server tomorrow;
 * 4. a URL of the settings whose server proves to be the member: by the only row that it takes for itself, or
 *    by the identity that other servers hear from the member;
 * 5. the member's own name again, where nothing can be proven either way;
 * 6. the one URL that is left for the one member that is left.
 */
import { type Member, nameOf } from './definition.ts';
import type { Answer } from './endpoint.ts';
import { type NativeAnswer, type ServerIdentity, sameServer } from './identity.ts';

export interface Evidence {
  readonly members: readonly Member[];
  /** URLs of the settings. */
  readonly given: readonly string[];
  /** Each of the maps below is by the member's `host:port`. */
  readonly mapped: ReadonlyMap<string, string>;
  readonly remembered: ReadonlyMap<string, Remembered>;
  readonly derived: ReadonlyMap<string, string>;
  readonly natives: ReadonlyMap<string, NativeAnswer>;
  /** By URL. */
  readonly answers: ReadonlyMap<string, Answer>;
}

export interface Remembered {
  readonly url: string;
  /** Undefined where nothing was ever proven. */
  readonly identity: ServerIdentity | undefined;
}

export interface Placing {
  /** By the member's `host:port`. */
  readonly urls: ReadonlyMap<string, string>;
  /** URLs that lead to a server which has a URL already. */
  readonly aliases: readonly { readonly url: string; readonly of: string }[];
  /** Mappings that lead to another server. */
  readonly wrong: readonly { readonly member: Member; readonly url: string }[];
  /** Different servers that prove to be the same member. */
  readonly rivals: readonly { readonly member: Member; readonly urls: readonly string[] }[];
  /** Members that prove to be one and the same server. */
  readonly twins: readonly (readonly Member[])[];
  /** URLs of the settings whose server is no member. */
  readonly strangers: readonly string[];
  /** URLs of the settings that could be any of the members without an address. */
  readonly open: readonly string[];
}

type Verdict = 'is' | 'is not' | 'unknown';

export function place(evidence: Evidence): Placing {
  const placer = new Placer(evidence);
  placer.byMapping();
  placer.byMemory(true);
  placer.byProvenName();
  placer.byProof();
  placer.byMemory(false);
  placer.byName();
  placer.byElimination();
  return placer.result();
}

/** The server at the URL is the member for sure. */
export function isProven(evidence: Evidence, url: string, member: Member): boolean {
  return verdict(evidence, url, member) === 'is';
}

/** Members that still have to be asked over the native protocol for `place` to know all that can be known. */
export function unproven(evidence: Evidence, { urls }: Placing): Member[] {
  return evidence.members.filter((member) => {
    const url = urls.get(nameOf(member));
    if (url === undefined) return true;
    return evidence.answers.get(url)?.reachable === true && !isProven(evidence, url, member);
  });
}

class Placer {
  readonly #evidence: Evidence;
  readonly #urls = new Map<string, string>();
  readonly #wrong: Placing['wrong'][number][] = [];
  /** By the member's name: URLs of different servers. */
  readonly #rivals = new Map<string, Set<string>>();

  constructor(evidence: Evidence) {
    this.#evidence = evidence;
  }

  byMapping(): void {
    const { members, mapped } = this.#evidence;
    for (const member of members) {
      const url = mapped.get(nameOf(member));
      if (url === undefined) continue;
      if (verdict(this.#evidence, url, member) === 'is not') this.#wrong.push({ member, url });
      else this.#urls.set(nameOf(member), url);
    }
  }

  /**
   * Whoever answers comes first; an address where nobody answers is kept unless the host turned up
   * elsewhere. What was never proven has to be found again once it answers.
   */
  byMemory(answering: boolean): void {
    const { remembered, answers } = this.#evidence;
    for (const member of this.#unplaced()) {
      const { url, identity } = remembered.get(nameOf(member)) ?? {};
      if (url === undefined || this.#used(url)) continue;
      const found = answers.get(url)?.reachable === true;
      if (found !== answering || (found && identity === undefined)) continue;
      if (verdict(this.#evidence, url, member) !== 'is not') this.#urls.set(nameOf(member), url);
    }
  }

  byProvenName(): void {
    for (const { member, url } of this.#byOwnName()) {
      if (verdict(this.#evidence, url, member) === 'is') this.#urls.set(nameOf(member), url);
    }
  }

  byProof(): void {
    const { members, given } = this.#evidence;
    for (const url of given) {
      for (const member of members.filter((one) => verdict(this.#evidence, url, one) === 'is')) {
        const name = nameOf(member);
        const holder = this.#urls.get(name);
        if (holder === undefined && !this.#used(url)) this.#urls.set(name, url);
        else if (holder !== undefined && compare(this.#evidence, url, holder) === 'two') {
          this.#rivals.set(name, (this.#rivals.get(name) ?? new Set([holder])).add(url));
        }
      }
    }
  }

  byName(): void {
    const { members, given, answers } = this.#evidence;
    for (const { member, url } of this.#byOwnName()) {
      const shared = members.some((other) => other !== member && other.host === member.host);
      // Whoever doesn't answer is believed only where the operator named that host.
      const silent = answers.get(url)?.reachable !== true;
      if (shared || (silent && !given.includes(url)) || this.#placedTwin(url) !== undefined) continue;
      if (verdict(this.#evidence, url, member) === 'unknown') this.#urls.set(nameOf(member), url);
    }
  }

  byElimination(): void {
    const [member, ...others] = this.#unplaced();
    const [url, ...further] = this.#open();
    if (member === undefined || url === undefined || others.length + further.length > 0) return;
    this.#urls.set(nameOf(member), url);
  }

  result(): Placing {
    const { members, answers } = this.#evidence;
    const open = this.#open();
    const left = this.#left();
    return {
      urls: this.#urls,
      aliases: this.#aliases(),
      wrong: this.#wrong,
      rivals: members.flatMap((member) => {
        const urls = this.#rivals.get(nameOf(member));
        return urls === undefined ? [] : [{ member, urls: [...urls] }];
      }),
      twins: this.#twins(),
      strangers: left.filter((url) => answers.get(url)?.reachable === true && !open.includes(url)),
      open,
    };
  }

  /** Each member without a URL, and that of its own name as long as nobody else has it. */
  *#byOwnName(): Generator<{ member: Member; url: string }> {
    for (const member of this.#unplaced()) {
      const url = this.#evidence.derived.get(nameOf(member));
      if (url !== undefined && !this.#used(url)) yield { member, url };
    }
  }

  #unplaced(): Member[] {
    return this.#evidence.members.filter((member) => !this.#urls.has(nameOf(member)));
  }

  #used(url: string): boolean {
    return [...this.#urls.values()].includes(url);
  }

  /** The placed URL under which the same server answers. */
  #placedTwin(url: string): string | undefined {
    return [...this.#urls.values()].find((other) => compare(this.#evidence, url, other) === 'one');
  }

  #aliases(): Placing['aliases'] {
    return this.#evidence.given.flatMap((url) => {
      const of = this.#used(url) ? undefined : this.#placedTwin(url);
      return of === undefined ? [] : [{ url, of }];
    });
  }

  /** URLs of the settings that nothing was found out about. */
  #left(): string[] {
    return this.#evidence.given.filter((url) => !this.#used(url) && this.#placedTwin(url) === undefined);
  }

  /** Of these, the ones that may be a member without an address. */
  #open(): string[] {
    return this.#left().filter((url) =>
      this.#unplaced().some((member) => mayBe(this.#evidence, url, member)),
    );
  }

  /** Groups of members behind which one and the same server answers. */
  #twins(): Member[][] {
    const groups: { identity: ServerIdentity; members: Member[] }[] = [];
    for (const member of this.#evidence.members) {
      const identity = this.#identityOf(member);
      if (identity === undefined) continue;
      const group = groups.find((one) => sameServer(one.identity, identity));
      if (group === undefined) groups.push({ identity, members: [member] });
      else group.members.push(member);
    }
    return groups.filter((group) => group.members.length > 1).map((group) => group.members);
  }

  #identityOf(member: Member): ServerIdentity | undefined {
    const native = this.#evidence.natives.get(nameOf(member));
    if (native?.state === 'up') return native.identity;
    const url = this.#urls.get(nameOf(member));
    const sure = url !== undefined && verdict(this.#evidence, url, member) === 'is';
    return sure ? identityAt(this.#evidence, url) : undefined;
  }
}

/** Whether the server at the URL is that member, by what it says and what others say. */
function verdict(evidence: Evidence, url: string, member: Member): Verdict {
  const answer = evidence.answers.get(url);
  if (answer?.reachable !== true) return 'unknown';
  const { identity, balanced, definition = [] } = answer.facts;
  if (balanced) return 'is not';
  const name = nameOf(member);
  const own = definition.filter((row) => row.isLocal).map(nameOf);
  if (own.length === 1) return own[0] === name ? 'is' : 'is not';
  const native = evidence.natives.get(name);
  if (native?.state === 'up') return sameServer(native.identity, identity) ? 'is' : 'is not';
  const before = evidence.remembered.get(name);
  if (before?.url === url && before.identity !== undefined && sameServer(before.identity, identity))
    return 'is';
  return own.length > 0 && !own.includes(name) ? 'is not' : 'unknown';
}

/** For what is decided by what is left over: nobody answers, or the server takes the member for its own. */
function mayBe(evidence: Evidence, url: string, member: Member): boolean {
  const answer = evidence.answers.get(url);
  if (answer?.reachable !== true) return true;
  if (verdict(evidence, url, member) === 'is not') return false;
  return answer.facts.definition?.some((row) => row.isLocal && nameOf(row) === nameOf(member)) === true;
}

/** Whether two URLs lead to one server or to two, where that is known of both. */
function compare(evidence: Evidence, url: string, other: string): 'one' | 'two' | 'unknown' {
  const [a, b] = [identityAt(evidence, url), identityAt(evidence, other)];
  if (url === other || a === undefined || b === undefined) return 'unknown';
  return sameServer(a, b) ? 'one' : 'two';
}

function identityAt({ answers, remembered }: Evidence, url: string): ServerIdentity | undefined {
  const answer = answers.get(url);
  if (answer?.reachable) return answer.facts.balanced ? undefined : answer.facts.identity;
  return [...remembered.values()].find((before) => before.url === url)?.identity;
}
