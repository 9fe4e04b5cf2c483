/** What a token, or the end, released. */
interface TextDelta {
  text: string
  /** How many further tokens are now wholly within the released text. */
  tokens: number
}

/**
 * Turns the bytes of generated tokens into text that can be sent.
 *
 * A character is released when all its bytes have come; text that may be the beginning of a stop
 * string is held back until it is decided. Lengths are in UTF-16 units.
 */
export interface TextStream {
  /** Takes the bytes of the next token; none for a token without text. After `stopped` it must not be called. */
  push(bytes: Uint8Array): TextDelta
  /** Releases everything that was held back; an unfinished character becomes U+FFFD. */
  end(): TextDelta
  /** A stop string was found: the text before it is released, it and what follows never is. */
  readonly stopped: boolean
}

/** A stream that ends at the first of `stops` to be complete. */
export function createTextStream(stops: readonly string[]): TextStream {
  const decoder = new TextDecoder('utf-8', { ignoreBOM: true })
  const wanted = stops.map((stop) => stop.toWellFormed()).filter((stop) => stop.length > 0)
  /** Where each token that is not released starts and, once its last character is whole, ends in the text. */
  let tokens: { start: number; end: number | undefined }[] = []
  let tail: Uint8Array = new Uint8Array(0)
  let held = ''
  let releasedLength = 0
  let stopped = false

  const release = (length: number): TextDelta => {
    const text = held.slice(0, length)
    held = held.slice(length)
    releasedLength += length
    let count = 0
    while (count < tokens.length && (tokens[count]?.end ?? Number.POSITIVE_INFINITY) <= releasedLength)
      count += 1
    tokens = tokens.slice(count)
    return { text, tokens: count }
  }

  const take = (piece: string, start: number, whole: boolean): void => {
    const before = releasedLength + held.length
    held += piece
    const end = before + piece.length
    // A new character completes every token that waited for one.
    if (piece.length > 0) for (const token of tokens) token.end ??= end
    tokens.push({ start, end: whole ? end : undefined })
  }

  return {
    push(bytes) {
      const joined = concat(tail, bytes)
      const cut = wholeCharacters(joined)
      const start = releasedLength + held.length
      tail = joined.slice(cut)
      take(decoder.decode(joined.subarray(0, cut)), start, tail.length === 0)
      const match = firstMatch(held, wanted)
      if (match === undefined) return release(held.length - longestBeginning(held, wanted))
      stopped = true
      const stopAt = releasedLength + match
      const before = tokens.filter((token) => token.start < stopAt).length
      tokens = []
      return { text: release(match).text, tokens: before }
    },
    end() {
      if (stopped) return { text: '', tokens: 0 }
      held += decoder.decode(tail)
      tail = new Uint8Array(0)
      for (const token of tokens) token.end ??= releasedLength + held.length
      return release(held.length)
    },
    get stopped() {
      return stopped
    },
  }
}

/** How many leading bytes of `bytes` do not belong to a character whose end is still to come. */
export function wholeCharacters(bytes: Uint8Array): number {
  for (let back = 1; back <= Math.min(3, bytes.length); back++) {
    const byte = bytes[bytes.length - back] ?? 0
    if ((byte & 0xc0) === 0x80) continue
    const needed =
      byte >= 0xf0 && byte <= 0xf4 ? 4 : byte >= 0xe0 && byte < 0xf0 ? 3 : byte >= 0xc2 && byte < 0xe0 ? 2 : 1
    return needed > back ? bytes.length - back : bytes.length
  }
  return bytes.length
}

/** Where the stop string that is complete first begins; of those complete at once, the longest. */
function firstMatch(text: string, stops: readonly string[]): number | undefined {
  let best: { start: number; end: number } | undefined
  for (const stop of stops) {
    const start = text.indexOf(stop)
    if (start < 0) continue
    const end = start + stop.length
    if (!best || end < best.end || (end === best.end && start < best.start)) best = { start, end }
  }
  return best?.start
}

/** Length of the longest end of `text` that is a beginning of a stop string. */
function longestBeginning(text: string, stops: readonly string[]): number {
  let longest = 0
  for (const stop of stops) {
    for (let length = Math.min(stop.length - 1, text.length); length > longest; length--) {
      if (text.endsWith(stop.slice(0, length))) longest = length
    }
  }
  return longest
}

function concat(a: Uint8Array, b: Uint8Array): Uint8Array {
  if (a.length === 0) return b
  const joined = new Uint8Array(a.length + b.length)
  joined.set(a)
  joined.set(b, a.length)
  return joined
}
