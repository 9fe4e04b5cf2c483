import { DurableObject } from 'cloudflare:workers'
import type { Bindings } from '../../deps.ts'
import { ReservoirStore, type KeptText, type Offer, type ReservoirStats } from './reservoir-store.ts'

const DAY_MS = 24 * 60 * 60 * 1000

/** About a million tokens to calibrate on, about six thousand to evaluate on: as much as two cores score in half a minute. */
const OPTIONS = {
  pool: { texts: 2_048, characters: 4 * 1024 * 1024 },
  holdout: { texts: 128, characters: 24 * 1024 },
  holdoutTextCharacters: 4 * 1024,
  timeToLiveMs: 30 * DAY_MS,
  rememberRequestsMs: 60 * 60 * 1000,
}

/** Keeps one domain's samples: redacted texts in a bounded uniform sample and a holdout, for 30 days. */
export class Reservoir extends DurableObject<Bindings> {
  readonly #store: ReservoirStore

  constructor(ctx: DurableObjectState, env: Bindings) {
    super(ctx, env)
    this.#store = new ReservoirStore(ctx.storage, {
      ...OPTIONS,
      seed: crypto.randomUUID(),
      nowMs: () => Date.now(),
    })
  }

  /** Offers redacted texts; those whose request was offered before are ignored. */
  async offer(offers: readonly Offer[]): Promise<void> {
    await this.#store.offer(offers)
    await this.#schedule()
  }

  /** Texts to calibrate on, in a fixed random order, until `maxCharacters` are together. */
  texts(maxCharacters: number): KeptText[] {
    return this.#store.texts(maxCharacters)
  }

  /** The held-out texts, in a fixed random order; none once the holdout is frozen. */
  holdout(): KeptText[] {
    return this.#store.holdout()
  }

  /** The holdout is stored elsewhere: nothing is added to it from now on. */
  freezeHoldout(): void {
    this.#store.freezeHoldout()
  }

  /** There is no frozen holdout any more: one is gathered again. */
  thawHoldout(): void {
    this.#store.thawHoldout()
  }

  stats(): ReservoirStats {
    return this.#store.stats()
  }

  /**
   * Deletes the texts of one key, or all.
   *
   * @returns how many texts there were.
   */
  deleteTexts(keyId?: string): number {
    return this.#store.delete(keyId)
  }

  /** Forgets the domain. */
  clear(): void {
    this.#store.clear()
  }

  /** Deletes the texts whose time is over. */
  override async alarm(): Promise<void> {
    this.#store.expire()
    await this.#schedule()
  }

  async #schedule(): Promise<void> {
    const nextMs = this.#store.nextExpiryMs()
    if (nextMs === undefined) return
    const setMs = await this.ctx.storage.getAlarm()
    if (setMs === null || nextMs < setMs) await this.ctx.storage.setAlarm(nextMs)
  }
}
