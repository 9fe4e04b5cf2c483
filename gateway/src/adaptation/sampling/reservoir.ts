import { DurableObject } from 'cloudflare:workers'
import { DAY_MS } from '@copal/shared/day.ts'
import type { Bindings } from '../../contracts/bindings.ts'
import { openDatabase } from '../../storage/db/open-database.ts'
import { putReservoirCounts } from '../../storage/db/queries/reservoir-count-queries.ts'
import { CountsPublisher } from './counts-publisher.ts'
import { ReservoirDescriptions } from './reservoir-descriptions.ts'
import { ReservoirFacts } from './reservoir-facts.ts'
import { ReservoirStore } from './reservoir-store.ts'
import type { ExampleCounts, ReservoirCounts, ReservoirStats } from '../../contracts/reservoir-counts.ts'
import type {
  KeptText,
  DenseDescription,
  DescribedText,
  LossRequest,
  ReservoirObject,
  StoredText,
  OfferedSample,
  ReviewText,
  SourceFilter,
  TakeRequest,
  TextToDescribe,
} from '../../contracts/reservoir-object.ts'

/** About a million tokens to calibrate on, and 32,768 to evaluate on, the maximum of a holdout. */
const RESERVOIR_OPTIONS = {
  pool: { texts: 2_048, characters: 4 * 1024 * 1024 },
  holdout: { texts: 512, characters: 128 * 1024 },
  sourcesPerText: 16,
  timeToLiveMs: 30 * DAY_MS,
  rememberOffersMs: 60 * 60 * 1000,
}

/**
 * The Durable Object of one domain's samples: redacted texts in a bounded pool and a holdout, for 30 days. After a change it
 * writes its counts to D1.
 */
export class Reservoir extends DurableObject<Bindings> implements ReservoirObject {
  readonly #store: ReservoirStore
  readonly #descriptions: ReservoirDescriptions
  readonly #publisher: CountsPublisher

  constructor(ctx: DurableObjectState, env: Bindings) {
    super(ctx, env)
    this.#store = new ReservoirStore(ctx.storage, {
      ...RESERVOIR_OPTIONS,
      seed: crypto.randomUUID(),
      nowMs: () => Date.now(),
    })
    this.#descriptions = new ReservoirDescriptions(ctx.storage)
    this.#publisher = new CountsPublisher(new ReservoirFacts(ctx.storage.sql), {
      name: ctx.id.name,
      nowMs: () => Date.now(),
      count: () => this.counts(),
      write: (domain, counts) => putReservoirCounts(openDatabase(env.DB), new Map([[domain, counts]])),
    })
    // Hashing is asynchronous. No call is delivered before it ends.
    void ctx.blockConcurrencyWhile(() => this.#store.migrate())
  }

  async offer(offers: readonly OfferedSample[]): Promise<void> {
    await this.#store.offer(offers)
    await this.#descriptions.addOffered(offers)
    await this.#afterChange()
  }

  async take(request: TakeRequest): Promise<StoredText[]> {
    const texts = this.#store.take(request)
    await this.#afterChange()
    return texts
  }

  async available(request: Omit<TakeRequest, 'updateId'>): Promise<number> {
    if (this.#store.rememberDraw(request)) await this.#afterChange()
    return this.#store.available(request)
  }

  newest(maxTexts: number, previewCharacters: number): KeptText[] {
    return this.#store.newest(maxTexts, previewCharacters)
  }

  review(maxTexts: number): ReviewText[] {
    return this.#store.review(maxTexts)
  }

  async resolveReview(id: string, decision: 'keep' | 'drop'): Promise<boolean> {
    const isResolved = this.#store.resolveReview(id, decision)
    await this.#afterChange()
    return isResolved
  }

  async release(model: string, updateIds: readonly string[]): Promise<void> {
    this.#store.release(model, updateIds)
    await this.#afterChange()
  }

  async markTaken(marks: { model: string; updateId: string; hashes: readonly string[] }): Promise<void> {
    this.#store.markTaken(marks)
    await this.#afterChange()
  }

  holdout(maxBytes: number): StoredText[] {
    return this.#store.holdout(maxBytes)
  }

  async markHeldOut(hashes: readonly string[]): Promise<void> {
    this.#store.markHeldOut(hashes)
    await this.#afterChange()
  }

  stats(model?: string): ReservoirStats {
    return this.#store.stats(model)
  }

  counts(): ReservoirCounts {
    return { ...this.#store.counts(), examples: this.#descriptions.exampleCounts() }
  }

  async deleteTexts(filter?: SourceFilter): Promise<number> {
    const deleted = this.#store.delete(filter)
    // A deletion in all domains asks each reservoir, and most have no such text.
    if (deleted > 0) await this.#afterDeletion()
    return deleted
  }

  async clear(): Promise<void> {
    this.#store.clear()
    await this.#afterDeletion()
  }

  textsToDescribe(request: Parameters<ReservoirDescriptions['textsToDescribe']>[0]): {
    described: number
    texts: TextToDescribe[]
  } {
    return this.#descriptions.textsToDescribe(request)
  }

  countDescribed(baseSha256: string, want: number): ExampleCounts {
    return this.#descriptions.countDescribed(baseSha256, want)
  }

  textsWithoutLoss(request: LossRequest): TextToDescribe[] {
    return this.#descriptions.textsWithoutLoss(this.#store.drawable(request), request)
  }

  async storeDescriptions(
    descriptions: readonly ({ hash: string } & DenseDescription)[],
    bases: readonly string[],
    isPoolOnly = false,
  ): Promise<void> {
    this.#descriptions.storeDescriptions(descriptions, bases, isPoolOnly)
    await this.#afterChange()
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

  previewsOf(
    proposals: readonly string[],
    maximum: { texts: number; characters: number },
  ): Record<string, string[]> {
    return this.#descriptions.previewsOf(proposals, maximum)
  }

  offersOf(proposal: string, limit: number): { hashes: string[]; offers: OfferedSample[] } {
    return this.#descriptions.offersOf(proposal, limit)
  }

  async deleteByHash(hashes: readonly string[]): Promise<void> {
    this.#store.deleteByHash(hashes)
    await this.#afterChange()
  }

  /** Deletes the expired texts, and writes the counts to D1. */
  override async alarm(): Promise<void> {
    if ((this.#store.nextExpiryMs() ?? Infinity) <= Date.now()) {
      this.#store.expire()
      this.#publisher.changed()
    }
    await this.#publisher.publishDue()
    await this.#scheduleAlarm()
  }

  async #afterChange(): Promise<void> {
    this.#publisher.changed()
    await this.#scheduleAlarm()
  }

  /** Writes the counts at once, so that no list shows texts after a deletion has reported that they are gone. */
  async #afterDeletion(): Promise<void> {
    await this.#afterChange()
    await this.#publisher.publish()
    await this.#scheduleAlarm()
  }

  async #scheduleAlarm(): Promise<void> {
    const nextMs = Math.min(this.#store.nextExpiryMs() ?? Infinity, this.#publisher.dueMs() ?? Infinity)
    if (nextMs === Infinity) return
    const setMs = await this.ctx.storage.getAlarm()
    if (setMs === null || nextMs < setMs) await this.ctx.storage.setAlarm(nextMs)
  }
}
