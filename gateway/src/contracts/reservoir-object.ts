/** A redacted text offered to a domain. */
export interface OfferedSample {
  requestId: string
  keyId: string
  text: string
  atMs: number
}

/** A stored text, and the id of the key whose request contained it. */
export interface StoredText {
  text: string
  keyId: string
}

/** Counts of the stored texts of a domain. */
export interface ReservoirStats {
  samples: number
  characters: number
  /** The number of texts ever offered, including duplicates. */
  seen: number
  holdoutSamples: number
  holdoutCharacters: number
  holdoutFrozen: boolean
  lastSampleAtMs: number | null
}

/** The Durable Object that stores the samples of one domain. Implemented by `adaptation/sampling/reservoir.ts`. */
export interface ReservoirObject extends Rpc.DurableObjectBranded {
  /** Offers redacted texts; texts of a request that was offered before are ignored. */
  offer(offers: readonly OfferedSample[]): Promise<void>

  /** Returns texts to calibrate on, in a fixed random order, up to `maxCharacters`. */
  texts(maxCharacters: number): StoredText[]

  /** Returns the held-out texts in a fixed random order; none once the holdout is frozen. */
  holdout(): StoredText[]

  /** Stops adding to the holdout, which is stored elsewhere now. */
  freezeHoldout(): void

  /** Starts a new holdout, because there is no frozen one any more. */
  thawHoldout(): void

  /** Returns the counts of its texts. */
  stats(): ReservoirStats

  /**
   * Deletes the texts of one key, or all texts.
   *
   * @returns the number of deleted texts.
   */
  deleteTexts(keyId?: string): number

  /** Deletes everything stored for the domain. */
  clear(): void
}
