/** What reservoirs count, as they say it themselves and as D1 keeps it. */

/** Counts of the stored texts of a domain. */
export interface ReservoirStats {
  /** Texts of the pool. */
  samples: number
  characters: number
  /** Those of them that the model has not taken yet; all of them if no model is named. */
  newSamples: number
  newCharacters: number
  /** The number of texts ever offered. A text that is sent again in its conversation counts once. */
  seen: number
  holdoutSamples: number
  holdoutCharacters: number
  lastSampleAtMs: number | null
  /** Texts that are set aside because their dense loss is far from that of the domain; they count nowhere else. */
  reviewSamples: number
}

/** How texts of a pool are drawn. */
export interface Draw {
  /** Maximum size of the texts in UTF-8. */
  maxBytes: number
  /** Maximum share of one key, and of one tenant, in the bytes; the fair share where fewer give text. */
  maxKeyShare?: number | undefined
  /** Robust deviations of the dense loss from which on a text is set aside; null: none is. */
  outlierDeviations?: number | null | undefined
}

/** The counts of a reservoir's texts for one model. */
export interface ModelCounts {
  /** Texts of the pool that updates of the model have taken. */
  takenSamples: number
  takenCharacters: number
  /** What an update would take, for the draw that was asked for last; undefined before. */
  draw?: (Draw & { bytes: number }) | undefined
}

/** How many of the texts that could be examples of a domain have a description. */
export interface ExampleCounts {
  described: number
  missing: number
}

/** The counts of a reservoir as D1 keeps them, by which domains are listed and chosen without a call of each. */
export interface ReservoirCounts extends Omit<ReservoirStats, 'newSamples' | 'newCharacters'> {
  /** When they were counted, Unix milliseconds by the clock of the reservoir. */
  countedAtMs: number
  /** By model. A model that is not named has taken nothing. */
  models: Record<string, ModelCounts>
  /** By the SHA-256 of dense weights. Weights that are not named have those of the empty name: no text is described. */
  examples: Record<string, ExampleCounts>
}
