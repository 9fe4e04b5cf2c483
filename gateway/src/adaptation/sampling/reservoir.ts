import { DurableObject } from 'cloudflare:workers'
import type { Bindings } from '../../contracts/bindings.ts'
import { ReservoirDescriptions } from './reservoir-descriptions.ts'
import { ReservoirStore } from './reservoir-store.ts'
import type {
  KeptText,
  DenseDescription,
  DescribedText,
  LossRequest,
  ReservoirObject,
  StoredText,
  OfferedSample,
  ReservoirStats,
  ReviewText,
  SourceFilter,
  TakeRequest,
  TextToDescribe,
} from '../../contracts/reservoir-object.ts'

const DAY_MS = 24 * 60 * 60 * 1000

/** About a million tokens to calibrate on, and 32,768 to evaluate on, the maximum of a holdout. */
const RESERVOIR_OPTIONS = {
  pool: { texts: 2_048, characters: 4 * 1024 * 1024 },
  holdout: { texts: 512, characters: 128 * 1024 },
  sourcesPerText: 16,
  timeToLiveMs: 30 * DAY_MS,
  rememberOffersMs: 60 * 60 * 1000,
}

/** The Durable Object of one domain's samples: redacted texts in a bounded pool and a holdout, for 30 days. */
export class Reservoir extends DurableObject<Bindings> implements ReservoirObject {
  readonly #store: ReservoirStore
  readonly #descriptions: ReservoirDescriptions

  constructor(ctx: DurableObjectState, env: Bindings) {
    super(ctx, env)
    this.#store = new ReservoirStore(ctx.storage, {
      ...RESERVOIR_OPTIONS,
      seed: crypto.randomUUID(),
      nowMs: () => Date.now(),
    })
    this.#descriptions = new ReservoirDescriptions(ctx.storage)
    // Hashing is asynchronous. No call is delivered before it ends.
    void ctx.blockConcurrencyWhile(() => this.#store.migrate())
  }

  async offer(offers: readonly OfferedSample[]): Promise<void> {
    await this.#store.offer(offers)
    await this.#descriptions.addOffered(offers)
    await this.#scheduleExpiry()
  }

  take(request: TakeRequest): StoredText[] {
    return this.#store.take(request)
  }

  available(request: Omit<TakeRequest, 'updateId'>): number {
    return this.#store.available(request)
  }

  newest(maxTexts: number, previewCharacters: number): KeptText[] {
    return this.#store.newest(maxTexts, previewCharacters)
  }

  review(maxTexts: number): ReviewText[] {
    return this.#store.review(maxTexts)
  }

  resolveReview(id: string, decision: 'keep' | 'drop'): boolean {
    return this.#store.resolveReview(id, decision)
  }

  release(model: string, updateIds: readonly string[]): void {
    this.#store.release(model, updateIds)
  }

  markTaken(marks: { model: string; updateId: string; hashes: readonly string[] }): void {
    this.#store.markTaken(marks)
  }

  holdout(maxBytes: number): StoredText[] {
    return this.#store.holdout(maxBytes)
  }

  markHeldOut(hashes: readonly string[]): void {
    this.#store.markHeldOut(hashes)
  }

  stats(model?: string): ReservoirStats {
    return this.#store.stats(model)
  }

  deleteTexts(filter?: SourceFilter): number {
    return this.#store.delete(filter)
  }

  clear(): void {
    this.#store.clear()
  }

  textsToDescribe(request: Parameters<ReservoirDescriptions['textsToDescribe']>[0]): {
    described: number
    texts: TextToDescribe[]
  } {
    return this.#descriptions.textsToDescribe(request)
  }

  textsWithoutLoss(request: LossRequest): TextToDescribe[] {
    return this.#descriptions.textsWithoutLoss(this.#store.drawable(request), request)
  }

  storeDescriptions(
    descriptions: readonly ({ hash: string } & DenseDescription)[],
    bases: readonly string[],
    isPoolOnly = false,
  ): void {
    this.#descriptions.storeDescriptions(descriptions, bases, isPoolOnly)
  }

  listDescribed(baseSha256: string, limit: number): DescribedText[] {
    return this.#descriptions.listDescribed(baseSha256, limit)
  }

  propose(baseSha256: string, proposals: Readonly<Record<string, readonly string[]>>): void {
    this.#descriptions.propose(baseSha256, proposals)
  }

  countUngrouped(baseSha256: string, limit: number): number {
    return this.#descriptions.countUngrouped(baseSha256, limit)
  }

  proposalSizes(): Record<string, number> {
    return this.#descriptions.proposalSizes()
  }

  tenantsOf(proposal: string, limit: number): string[] {
    return this.#descriptions.tenantsOf(proposal, limit)
  }

  offersOf(proposal: string, limit: number): { hashes: string[]; offers: OfferedSample[] } {
    return this.#descriptions.offersOf(proposal, limit)
  }

  deleteByHash(hashes: readonly string[]): void {
    this.#store.deleteByHash(hashes)
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
