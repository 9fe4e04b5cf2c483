import type { Draw, ExampleCounts, ReservoirCounts, ReservoirStats } from './reservoir-counts.ts'

/** The side of a domain that a text is on: calibrated on (the pool), or only evaluated on. */
export type Side = 'pool' | 'holdout'

/** One request that a text came with. Fields that a source from before they were stored lacks are empty, or 0. */
export interface SampleSource {
  requestId: string
  keyId: string
  tenant: string
  /** HMAC of the key and the first message of the conversation. */
  conversation: string
  /** The version of the key's sampling policy under which the text was taken. */
  consentVersion: number
}

/** A redacted text offered to a domain. */
export interface OfferedSample extends SampleSource {
  /** The side of its conversation; if it is left out, the hash of the text decides. */
  side?: Side | undefined
  /** SHA-256 of the beginning of the conversation's first message, see `text-hash.ts`; the text's own if it is left out. */
  opening?: string | undefined
  /** Another hash of that message, under which texts of its conversation may be stored already, see `redact-queued.ts`. */
  earlierOpening?: string | undefined
  text: string
  atMs: number
  /** Mean negative log-likelihood of its beginning under the dense weights, nats a token, where a node has described it. */
  nllMean?: number | undefined
  /** Its dense embedding, by which it may be an example of its domain. */
  description?: DenseDescription | undefined
  /** The classifier put it into the domain, so it is no example of it. */
  found?: boolean | undefined
}

/** The description of a text by the dense weights of a model. */
export interface DenseDescription {
  /** SHA-256 of the model's dense weights. */
  baseSha256: string
  tokens: number
  /** f32. */
  embedding: readonly number[]
  nllMean: number | null
}

/** A stored text without a description. */
export interface TextToDescribe {
  hash: string
  /** Its beginning. */
  text: string
}

/** A stored text with its description. */
export interface DescribedText extends TextToDescribe, Omit<DenseDescription, 'baseSha256'> {
  /** The tenants of its sources. */
  tenants: string[]
  characters: number
  /** The proposed domain that it belongs to. */
  proposal: string | null
}

/** A stored text, and the requests that contained it: the first ones, if there were many. */
export interface StoredText {
  text: string
  sources: SampleSource[]
}

/** A text that is set aside for review. */
export interface ReviewText {
  /** SHA-256 of the text. */
  id: string
  text: string
  keyId: string
  tenant: string
  side: Side
  /** Dense loss, nats a token. */
  nllMean: number
}

/** A kept text, as an operator is shown it. */
export interface KeptText extends Pick<ReviewText, 'id' | 'keyId' | 'tenant' | 'side'> {
  /** Its beginning. */
  preview: string
  characters: number
  /** Whether an update has taken it. */
  isTaken: boolean
  /** Null for a text whose requests are not known any more. */
  lastSeenAtMs: number | null
}

/** Selects sources. A source matches if it matches every given field; without fields all match. */
export interface SourceFilter {
  keyId?: string | undefined
  tenant?: string | undefined
  requestId?: string | undefined
  /** The keys of `tenant`, by which sources are found that name no tenant because they are old. */
  tenantKeyIds?: readonly string[] | undefined
}

/** The texts that an update takes for a model. */
export interface TakeRequest extends Draw {
  model: string
  updateId: string
}

/** Which texts an update would take or hold out, and how many of them are returned. */
export interface LossRequest extends Omit<TakeRequest, 'updateId'> {
  /** The update that would take them, to which nothing is missing once it has; undefined if none has begun. */
  updateId?: string | undefined
  /** SHA-256 of the dense weights under which the losses are. */
  baseSha256: string
  limit: number
}

/** The Durable Object that stores the samples of one domain. Implemented by `adaptation/sampling/reservoir.ts`. */
export interface ReservoirObject extends Rpc.DurableObjectBranded {
  /** Offers redacted texts. A text that was offered before in the same conversation is ignored. */
  offer(offers: readonly OfferedSample[]): Promise<void>

  /**
   * Returns texts of the pool that were not taken for the model before, in a fixed random order and fairly by tenant and key,
   * up to `maxBytes`, and marks them as taken by the update. It returns only the beginning of a text that is longer
   * than what its key may still give. Called again for the same update, it returns the same texts, except deleted ones.
   */
  take(request: TakeRequest): Promise<StoredText[]>

  /** Returns the bytes that {@link take} would take. From then on {@link counts} has them too. */
  available(request: Omit<TakeRequest, 'updateId'>): Promise<number>

  /** Returns the texts that requests brought last, newest first, with their first `previewCharacters`. None is set aside. */
  newest(maxTexts: number, previewCharacters: number): KeptText[]

  /** Returns texts that are set aside for review, the highest loss first. */
  review(maxTexts: number): ReviewText[]

  /** Puts a text that is set aside back for good, or deletes it. Returns false if it is not set aside. */
  resolveReview(id: string, decision: 'keep' | 'drop'): Promise<boolean>

  /** Ends the marks of updates of a model whose texts do not count: they may be taken again. */
  release(model: string, updateIds: readonly string[]): Promise<void>

  /** Marks texts as taken that were calibrated on before the reservoir kept marks. `hashes` are their SHA-256. */
  markTaken(marks: { model: string; updateId: string; hashes: readonly string[] }): Promise<void>

  /** Returns held-out texts in a fixed random order and fairly by tenant and key, up to `maxBytes`. They never enter the pool from then on. */
  holdout(maxBytes: number): StoredText[]

  /**
   * Keeps the texts of a holdout out of the pool for good that was frozen before the reservoir kept marks. `hashes` are
   * their SHA-256, and may be empty. Call it after {@link markTaken} was called for every batch of the domain: until it is
   * called, a reservoir of the version before accepts only texts that were on the same side in that version.
   */
  markHeldOut(hashes: readonly string[]): Promise<void>

  /** Returns the counts of its texts. */
  stats(model?: string): ReservoirStats

  /** Returns the counts that D1 keeps of the domain, counted now. A minute after a change the object stores them itself. */
  counts(): ReservoirCounts

  /**
   * Removes the matching sources, and the texts that no source is left of. Offers of matching texts that were queued
   * before are ignored from now on.
   *
   * @returns the number of texts that lost a source
   */
  deleteTexts(filter?: SourceFilter): Promise<number>

  /** Deletes everything stored for the domain, marks included. */
  clear(): Promise<void>

  /** Returns how many of the first `want` texts have a description under dense weights, and how many lack one; held-out ones too. */
  countDescribed(baseSha256: string, want: number): ExampleCounts

  /**
   * Returns which of the first `want` texts in a fixed random order lack a description, at most `limit`, and how many have one.
   * Texts that the classifier found are left out, and unless `heldOut` is set, so are held-out ones that have none.
   */
  textsToDescribe(request: { baseSha256: string; want: number; limit: number; heldOut?: boolean }): {
    described: number
    texts: TextToDescribe[]
  }

  /**
   * Returns texts that lack a dense loss: those that keys have sent among the ones that {@link take} and {@link holdout} would
   * draw, and others until enough texts have a loss to tell outliers by.
   */
  textsWithoutLoss(request: LossRequest): TextToDescribe[]

  /**
   * Stores descriptions of stored texts by their hashes, and forgets those under other weights than `bases`.
   *
   * @param isPoolOnly whether held-out texts are no examples of the domain
   */
  storeDescriptions(
    descriptions: readonly ({ hash: string } & DenseDescription)[],
    bases: readonly string[],
    isPoolOnly?: boolean,
  ): Promise<void>

  /** Returns described texts in a fixed random order. */
  listDescribed(baseSha256: string, limit: number): DescribedText[]

  /** Sets which proposed domain each described text belongs to; texts that are not named belong to none. */
  propose(baseSha256: string, proposals: Readonly<Record<string, readonly string[]>>): void

  /** Returns how many of the texts that {@link listDescribed} returns {@link propose} has not named. */
  countUngrouped(baseSha256: string, limit: number): number

  /** Returns the number of texts of each proposed domain. */
  proposalSizes(): Record<string, number>

  /** Returns the tenants of the texts of a proposed domain. */
  tenantsOf(proposal: string, limit: number): string[]

  /** Returns the beginnings of some texts of each of some proposed domains, by proposal. */
  previewsOf(
    proposals: readonly string[],
    maximum: { texts: number; characters: number },
  ): Record<string, string[]>

  /** Returns texts of a proposed domain as they were offered, one offer for each source, and their hashes. */
  offersOf(proposal: string, limit: number): { hashes: string[]; offers: OfferedSample[] }

  /** Deletes texts by their hashes. */
  deleteByHash(hashes: readonly string[]): Promise<void>
}
