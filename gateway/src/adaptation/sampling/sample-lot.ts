/** Where a text belongs, by its content alone: the same text always lands in the same place. */
export interface SampleLot {
  /** SHA-256 of the text, lower-case hex. */
  hash: string
  /** Held out from calibration, for about one text in four. The same in every domain. */
  share: 'pool' | 'holdout'
  /** Uniform in [0, 1), independent of the share; the texts with the lowest are kept. Differs between seeds. */
  priority: number
}

/** Uniform sampling without a generator's state: a redelivered text draws the same lot again. */
export async function drawLot(seed: string, text: string): Promise<SampleLot> {
  const encoder = new TextEncoder()
  const content = new Uint8Array(await crypto.subtle.digest('SHA-256', encoder.encode(text)))
  const hash = Array.from(content, (byte) => byte.toString(16).padStart(2, '0')).join('')
  const lot = new DataView(await crypto.subtle.digest('SHA-256', encoder.encode(`${seed}\n${hash}`)))
  return {
    hash,
    share: ((content[31] ?? 0) & 3) === 0 ? 'holdout' : 'pool',
    priority: (lot.getUint32(0) * 2 ** 21 + (lot.getUint32(4) >>> 11)) / 2 ** 53,
  }
}
