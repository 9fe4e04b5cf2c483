import type { OfferedSample, Side } from '../../contracts/reservoir-object.ts'
import { headHash, textHash } from './text-hash.ts'

/** The place of a text in a reservoir, determined by the offer and the seed alone. */
export interface SamplePlacement {
  /** SHA-256 of the text, lower-case hex. */
  hash: string
  /** SHA-256 of its beginning, and of the beginning of its conversation's first message; see {@link headHash}. */
  head: string
  opening: string
  side: Side
  /** Uniform in [0, 1) and independent of the side; the texts with the lowest priorities are kept. Depends on the seed. */
  priority: number
}

/** Places a text: uniform sampling without generator state, so a text that is redelivered is placed alike. */
export async function placeSample(
  seed: string,
  { text, side, opening }: Pick<OfferedSample, 'text' | 'side' | 'opening'>,
): Promise<SamplePlacement> {
  const [hash, head] = await Promise.all([textHash(text), headHash(text)])
  const lot = new DataView(
    await crypto.subtle.digest('SHA-256', new TextEncoder().encode(`${seed}\n${hash}`)),
  )
  return {
    hash,
    head,
    opening: opening ?? head,
    side: side ?? sideOfHash(hash),
    priority: (lot.getUint32(0) * 2 ** 21 + (lot.getUint32(4) >>> 11)) / 2 ** 53,
  }
}

/** Returns the side that a hash in hex decides: about one in four is held out. */
export function sideOfHash(hash: string): Side {
  return (Number.parseInt(hash.slice(-2), 16) & 3) === 0 ? 'holdout' : 'pool'
}
