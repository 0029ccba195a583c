/**
 * A step at which a proxy stops the world. The test waits until it is reached, does there what it wants (kills
 * somebody, restarts a server, sends again), and then lets it go on or cuts the connection.
 */

/**
 * `before`: nothing of the request has passed. `half sent`: half of its bytes have. `sent`: all of them, but
 * not the end of a body. `half answered`: it was carried out, and half of the answer has passed. `after`: it
 * was carried out, and nothing of the answer has passed.
 */
export type Place = 'before' | 'half sent' | 'sent' | 'half answered' | 'after';

type Decision = 'on' | 'cut';

/** On a loaded machine a role takes a while to get anywhere. */
const REACHED_MS_MAX = 120_000;

/** One step of one connection; made by a proxy, kept by the test. */
export class Stop {
  readonly place: Place;
  readonly #what: string;
  readonly #arrival = Promise.withResolvers<void>();
  readonly #decision = Promise.withResolvers<Decision>();

  constructor(what: string, place: Place) {
    this.#what = what;
    this.place = place;
  }

  /** Resolves when the world stands still there. */
  async reached(): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      const error = new Error(`not reached within ${REACHED_MS_MAX} ms: ${this.place} ${this.#what}`);
      timer = setTimeout(() => reject(error), REACHED_MS_MAX);
    });
    try {
      await Promise.race([this.#arrival.promise, late]);
    } finally {
      clearTimeout(timer);
    }
  }

  /** It goes on as if nothing had been. */
  release(): void {
    this.#decision.resolve('on');
  }

  /** The connection breaks; what was held is never passed on. */
  cut(): void {
    this.#decision.resolve('cut');
  }

  /** For the proxy: it is there, and wants to know how to go on. */
  arrive(): Promise<Decision> {
    this.#arrival.resolve();
    return this.#decision.promise;
  }
}

/** A stop that was asked for, and for what. */
export interface Asked<Seen> {
  readonly stop: Stop;
  readonly fits: (seen: Seen) => boolean;
  /** Of the answer, where that has to fit too. */
  readonly answerFits: (answer: Buffer) => boolean;
}

/** The stops that a proxy was asked for; each is taken by the first request that it fits. */
export class Stops<Seen> {
  #asked: Asked<Seen>[] = [];

  /** @param asked `fits` is asked for each request until it says yes */
  add(asked: Asked<Seen>): Stop {
    this.#asked.push(asked);
    return asked.stop;
  }

  take(seen: Seen): Asked<Seen> | undefined {
    const found = this.#asked.find(({ fits }) => fits(seen));
    this.#asked = this.#asked.filter((asked) => asked !== found);
    return found;
  }

  /** Nobody is stopped any more who isn't already. */
  clear(): void {
    this.#asked = [];
  }
}

/** For stops that any answer fits. */
export const ANY_ANSWER = () => true;
