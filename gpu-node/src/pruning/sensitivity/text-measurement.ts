/** What every measurement of a model on a text is told. */
export interface TextMeasurementOptions {
  /** Each of the same number of tokens, two at least. */
  windows: readonly Int32Array[]
  textSha256: string
  threads: number
  /** Scratch files lie below it. */
  cacheDir: string
  /** ISO 8601, into the file. */
  created: string
  signal: AbortSignal
  onProgress: (fraction: number, message: string) => void
}
