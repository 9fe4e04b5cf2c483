/** A redacted text offered to a domain. */
export interface OfferedSample {
  requestId: string
  keyId: string
  text: string
  atMs: number
}

/** A text that is kept, and the id of the key whose request it was of. */
export interface StoredText {
  text: string
  keyId: string
}

/** What is kept of a domain. */
export interface ReservoirStats {
  samples: number
  characters: number
  /** Texts ever offered, duplicates included. */
  seen: number
  holdoutSamples: number
  holdoutCharacters: number
  holdoutFrozen: boolean
  lastSampleAtMs: number | null
}

/** The Durable Object that keeps the samples of one domain. Implemented by `adaptation/sampling/reservoir.ts`. */
export interface ReservoirObject extends Rpc.DurableObjectBranded {
  /** Offers redacted texts; those whose request was offered before are ignored. */
  offer(offers: readonly OfferedSample[]): Promise<void>

  /** Texts to calibrate on, in a fixed random order, until `maxCharacters` are together. */
  texts(maxCharacters: number): StoredText[]

  /** The held-out texts, in a fixed random order; none once the holdout is frozen. */
  holdout(): StoredText[]

  /** The holdout is stored elsewhere: nothing is added to it from now on. */
  freezeHoldout(): void

  /** There is no frozen holdout any more: one is gathered again. */
  thawHoldout(): void

  /** The counts of its texts. */
  stats(): ReservoirStats

  /**
   * Deletes the texts of one key, or all.
   *
   * @returns how many texts there were.
   */
  deleteTexts(keyId?: string): number

  /** Forgets the domain. */
  clear(): void
}
