/** Numbers of last tokens that are looked up, longest first: what follows a long match is more likely to follow again. */
export const MATCH_LENGTHS = [8, 4, 2] as const

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
   * @param text the prompt and the output, which has grown since the call before
   * @param indexed how many tokens of the text to index at most: a long prompt at once would occupy the event loop
   */
  find(text: readonly number[], count: number, indexed: number): Draft | undefined
}

/** The lookup that a request takes its drafts from, and how often they were right. */
export interface Drafter {
  readonly lookup: DraftLookup
  /** Chance that a token of a draft is right, by its source, as far as its own text tells. */
  readonly chances: number[]
}

/**
 * Creates the lookup of one text.
 *
 * @param prediction what the client expects as output; it counts as later than the prompt
 */
export function createDraftLookup(promptTokens = 0, prediction: readonly number[] = []): DraftLookup {
  const places = MATCH_LENGTHS.map(() => new Int32Array(MAX_PLACES))
  // The prediction follows the end of the prompt once more, so that its first tokens are found.
  const again = prediction.length > 0 ? Math.min(promptTokens, MATCH_LENGTHS[0]) : 0
  const inserted = again + prediction.length
  /** The prompt, its end again, the prediction and the output, as far as they are indexed. */
  const known: number[] = []
  const tokenAt = (text: readonly number[], index: number) => {
    const isPredicted = index >= promptTokens + again && index < promptTokens + inserted
    if (isPredicted) return prediction[index - promptTokens - again] as number
    if (index < promptTokens) return text[index] as number
    return text[index - (index < promptTokens + again ? again : inserted)] as number
  }

  return {
    find(text, count, indexed) {
      const total = text.length + inserted
      for (const end = Math.min(total, known.length + indexed); known.length < end;) {
        for (const [source, length] of MATCH_LENGTHS.entries())
          if (known.length >= length)
            (places[source] as Int32Array)[placeOf(known, known.length, length)] = known.length
        known.push(tokenAt(text, known.length))
      }
      for (const [source, length] of MATCH_LENGTHS.entries()) {
        if (text.length < length) continue
        const next = (places[source] as Int32Array)[placeOf(text, text.length, length)] as number
        if (next === 0 || !endsWith(text, known, next, length)) continue
        // A text that repeats itself goes on repeating.
        const tokens: number[] = []
        for (let index = next; tokens.length < count; index++)
          tokens.push(index < total ? tokenAt(text, index) : (tokens[index - total] as number))
        return { tokens, source }
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
