/** Options of every sensitivity measurement. */
export interface TextMeasurementOptions {
  /** Token ids of the windows, all of the same length of at least two. */
  windows: readonly Int32Array[]
  textSha256: string
  threads: number
  /** Directory for scratch files. */
  cacheDir: string
  /** ISO 8601 time that the result states. */
  created: string
  signal: AbortSignal
  onProgress: (fraction: number, message: string) => void
}
