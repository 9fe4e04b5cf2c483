import type { OfferedSample, Side } from '../../contracts/reservoir-object.ts'
import { splitText } from './split-text.ts'
import { headHash, textHash } from './text-hash.ts'

/** Maximum characters of a stored text, about 1,000 tokens: longer ones are stored and drawn in pieces. */
export const MAX_PIECE_CHARACTERS = 4 * 1024

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

/** A piece of an offered text with its place. */
export interface PlacedPiece {
  text: string
  placement: SamplePlacement
}

/** An offered text in pieces. */
export interface PlacedSample {
  offer: OfferedSample
  /** SHA-256 of the whole text. */
  hash: string
  pieces: PlacedPiece[]
}

type Placeable = Pick<OfferedSample, 'text' | 'side' | 'opening'>

/** Places a text: uniform sampling without generator state, so a text that is redelivered is placed alike. */
export async function placeSample(
  seed: string,
  { text, side, opening }: Placeable,
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

/** Returns the pieces in which a text is stored; they do not overlap. */
function piecesOf(text: string): string[] {
  return text.length > MAX_PIECE_CHARACTERS ? splitText(text, MAX_PIECE_CHARACTERS) : [text]
}

/** Returns the first of the pieces in which a text is stored, by which it is described. */
export function firstPiece(text: string): string {
  return piecesOf(text)[0] ?? text
}

/**
 * Places the pieces of a text, all on its side and with the opening of its conversation. The first piece has the head of the
 * whole text, by which texts are recognized that begin alike.
 */
export async function placePieces(seed: string, offer: OfferedSample): Promise<PlacedSample> {
  const whole = await placeSample(seed, offer)
  if (offer.text.length <= MAX_PIECE_CHARACTERS) {
    return { offer, hash: whole.hash, pieces: [{ text: offer.text, placement: whole }] }
  }
  const { side, opening, head } = whole
  const pieces = await Promise.all(
    piecesOf(offer.text).map(async (text, index) => {
      const placement = await placeSample(seed, { text, side, opening })
      return { text, placement: index === 0 ? { ...placement, head } : placement }
    }),
  )
  return { offer, hash: whole.hash, pieces }
}

/** Returns the side that a hash in hex decides: about one in four is held out. */
export function sideOfHash(hash: string): Side {
  return lowBits(hash) === 0 ? 'holdout' : 'pool'
}

/** Returns the two lowest bits of a hash in hex. */
export function lowBits(hash: string): number {
  return Number.parseInt(hash.slice(-1), 16) & 3
}
