/** Numbers of last tokens that are looked up, longest first: what follows a long match is more likely to follow again. */
export const MATCH_LENGTHS = [8, 4, 2] as const

/** Tokens that are indexed at a time, so that a long prompt does not occupy the event loop. */
const INDEXED_AT_ONCE = 4096
/** Places of an index; one that is taken goes to the later tokens. */
const MAX_PLACES = 1 << 15

/** Tokens that may follow a text. */
export interface Draft {
  readonly tokens: readonly number[]
  /** How it was found: index into {@link MATCH_LENGTHS} of how many last tokens of the text were found before, or {@link FORCED}. */
  readonly source: number
}

/** Source of drafts that a grammar leaves no choice about. */
export const FORCED = MATCH_LENGTHS.length

/** Looks up what followed the last tokens of a text before (prompt lookup decoding, Saxena 2023). */
export interface DraftLookup {
  /**
   * Returns what followed the latest earlier occurrence of the last tokens, up to `count` tokens; undefined where there
   * is none.
   *
   * @param text the prompt and the output, which is longer than in the call before unless it began again
   */
  find(text: readonly number[], count: number): Draft | undefined
}

/**
 * Creates the lookup of one text.
 *
 * @param prediction what the client expects as output; it counts as later than the prompt
 */
export function createDraftLookup(
  prompt: readonly number[] = [],
  prediction: readonly number[] = [],
): DraftLookup {
  const places = MATCH_LENGTHS.map(() => new Int32Array(MAX_PLACES))
  /** The prompt, the prediction behind the end of the prompt, and the output. */
  const known =
    prediction.length > 0 ? [...prompt, ...prompt.slice(-MATCH_LENGTHS[0]), ...prediction] : [...prompt]
  const begun = known.length
  let indexed = 1

  return {
    find(text, count) {
      known.length = Math.min(known.length, begun + text.length - prompt.length)
      for (let index = prompt.length + known.length - begun; index < text.length; index++)
        known.push(text[index] as number)
      indexed = Math.min(indexed, known.length)
      for (const end = Math.min(known.length, indexed + INDEXED_AT_ONCE); indexed < end; indexed++)
        for (const [source, length] of MATCH_LENGTHS.entries())
          if (indexed >= length) (places[source] as Int32Array)[placeOf(known, indexed, length)] = indexed
      for (const [source, length] of MATCH_LENGTHS.entries()) {
        if (text.length < length) continue
        const next = (places[source] as Int32Array)[placeOf(text, text.length, length)] as number
        if (next > 0 && next < known.length && endsWith(text, known, next, length))
          return { tokens: continued(known, next, count), source }
      }
      return undefined
    },
  }
}

/** Returns the place of the `length` tokens before `end` in an index. */
function placeOf(text: readonly number[], end: number, length: number): number {
  let hash = 0
  for (let index = end - length; index < end; index++)
    hash = Math.imul(hash ^ (text[index] as number), 0x9e37_79b1) ^ (hash >>> 15)
  return (hash ^ (hash >>> 16)) & (MAX_PLACES - 1)
}

/** Whether a text ends with the `length` tokens before `next`: places are shared by chance. */
function endsWith(text: readonly number[], known: readonly number[], next: number, length: number): boolean {
  for (let back = 1; back <= length; back++) if (known[next - back] !== text[text.length - back]) return false
  return true
}

/** Returns the `count` tokens from `next` on; a text that repeats itself goes on repeating. */
function continued(known: readonly number[], next: number, count: number): number[] {
  const tokens: number[] = []
  for (let index = next; tokens.length < count; index++)
    tokens.push((index < known.length ? known[index] : tokens[index - known.length]) as number)
  return tokens
}
