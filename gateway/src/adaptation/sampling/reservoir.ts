import { DurableObject } from 'cloudflare:workers'
import type { Bindings } from '../../contracts/bindings.ts'
import { ReservoirStore } from './reservoir-store.ts'
import type {
  ReservoirObject,
  StoredText,
  OfferedSample,
  ReservoirStats,
} from '../../contracts/reservoir-object.ts'

const DAY_MS = 24 * 60 * 60 * 1000

/** About a million tokens to calibrate on, and about six thousand to evaluate on, which two cores score in 30 s. */
const RESERVOIR_OPTIONS = {
  pool: { texts: 2_048, characters: 4 * 1024 * 1024 },
  holdout: { texts: 128, characters: 24 * 1024 },
  holdoutTextCharacters: 4 * 1024,
  timeToLiveMs: 30 * DAY_MS,
  rememberRequestsMs: 60 * 60 * 1000,
}

/** The Durable Object of one domain's samples: redacted texts in a bounded uniform pool and a holdout, for 30 days. */
export class Reservoir extends DurableObject<Bindings> implements ReservoirObject {
  readonly #store: ReservoirStore

  constructor(ctx: DurableObjectState, env: Bindings) {
    super(ctx, env)
    this.#store = new ReservoirStore(ctx.storage, {
      ...RESERVOIR_OPTIONS,
      seed: crypto.randomUUID(),
      nowMs: () => Date.now(),
    })
  }

  async offer(offers: readonly OfferedSample[]): Promise<void> {
    await this.#store.offer(offers)
    await this.#scheduleExpiry()
  }

  texts(maxCharacters: number): StoredText[] {
    return this.#store.texts(maxCharacters)
  }

  holdout(): StoredText[] {
    return this.#store.holdout()
  }

  freezeHoldout(): void {
    this.#store.freezeHoldout()
  }

  thawHoldout(): void {
    this.#store.thawHoldout()
  }

  stats(): ReservoirStats {
    return this.#store.stats()
  }

  deleteTexts(keyId?: string): number {
    return this.#store.delete(keyId)
  }

  clear(): void {
    this.#store.clear()
  }

  /** Deletes the expired texts. */
  override async alarm(): Promise<void> {
    this.#store.expire()
    await this.#scheduleExpiry()
  }

  async #scheduleExpiry(): Promise<void> {
    const nextMs = this.#store.nextExpiryMs()
    if (nextMs === undefined) return
    const setMs = await this.ctx.storage.getAlarm()
    if (setMs === null || nextMs < setMs) await this.ctx.storage.setAlarm(nextMs)
  }
}
