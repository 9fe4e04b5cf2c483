/** The place of a text in a reservoir, determined by the text and the seed alone. */
export interface SamplePlacement {
  /** SHA-256 of the text, lower-case hex. */
  hash: string
  /** About one text in four is held out from calibration. The same in every domain. */
  share: 'pool' | 'holdout'
  /** Uniform in [0, 1) and independent of the share; the texts with the lowest priorities are kept. Depends on the seed. */
  priority: number
}

/** Places a text by its hash: uniform sampling without generator state, so a text that is redelivered is placed alike. */
export async function placeSample(seed: string, text: string): Promise<SamplePlacement> {
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
