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

/** Looks up in a text what followed its last tokens before (prompt lookup decoding, Saxena 2023). */
export interface DraftLookup {
  /**
   * Returns what followed the latest earlier occurrence of the last tokens, up to `count` tokens; undefined where there
   * is none. The text of a later call begins with that of an earlier one, or is shorter.
   */
  find(text: readonly number[], count: number): Draft | undefined
}

/** Creates the lookup of one text. */
export function createDraftLookup(): DraftLookup {
  const places = MATCH_LENGTHS.map(() => new Int32Array(MAX_PLACES))
  let indexed = 1

  return {
    find(text, count) {
      const end = Math.min(text.length, Math.min(indexed, text.length) + INDEXED_AT_ONCE)
      for (let next = Math.min(indexed, text.length); next < end; next++)
        for (const [source, length] of MATCH_LENGTHS.entries())
          if (next >= length) (places[source] as Int32Array)[placeOf(text, next, length)] = next
      indexed = end
      for (const [source, length] of MATCH_LENGTHS.entries()) {
        if (text.length < length) continue
        const next = (places[source] as Int32Array)[placeOf(text, text.length, length)] as number
        if (next > 0 && next < text.length && isRepeated(text, next, length))
          return { tokens: continued(text, next, count), source }
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

/** Whether the `length` tokens before `next` are the last ones of the text: places are shared by chance. */
function isRepeated(text: readonly number[], next: number, length: number): boolean {
  for (let back = 1; back <= length; back++) if (text[next - back] !== text[text.length - back]) return false
  return true
}

/** Returns the `count` tokens from `next` on; a text that repeats itself goes on repeating. */
function continued(text: readonly number[], next: number, count: number): number[] {
  const tokens: number[] = []
  for (let index = next; tokens.length < count; index++)
    tokens.push((index < text.length ? text[index] : tokens[index - text.length]) as number)
  return tokens
}
