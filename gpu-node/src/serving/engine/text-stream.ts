/** Text that a token, or the end of the stream, released. */
interface ReleasedText {
  text: string
  /** Number of further tokens that now lie wholly within the released text. */
  tokens: number
}

/**
 * Turns the bytes of generated tokens into text that can be sent.
 *
 * A character is released when all its bytes have arrived. Text that may be the start of a stop string is held back
 * until that is decided. Lengths are in UTF-16 code units.
 */
export interface TextStream {
  /** Takes the bytes of the next token; none for a token without text. Must not be called after `stopped`. */
  push(bytes: Uint8Array): ReleasedText
  /** Releases all text that was held back; an unfinished character becomes U+FFFD. */
  end(): ReleasedText
  /** A stop string was found. The text before it is released; the stop string and what follows never are. */
  readonly stopped: boolean
}

/** Creates a stream that ends at the first complete stop string. */
export function createTextStream(stops: readonly string[]): TextStream {
  const decoder = new TextDecoder('utf-8', { ignoreBOM: true })
  const wanted = stops.map((stop) => stop.toWellFormed()).filter((stop) => stop.length > 0)
  /** Start of each unreleased token in the text and, once its last character is complete, its end. */
  let tokens: { start: number; end: number | undefined }[] = []
  let tail: Uint8Array = new Uint8Array(0)
  let held = ''
  let releasedLength = 0
  let stopped = false

  const release = (length: number): ReleasedText => {
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
    // A new character completes every token that was waiting for one.
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
      if (match === undefined) return release(held.length - partialMatchLength(held, wanted))
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

/** Returns the number of leading bytes that form complete UTF-8 characters. */
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

/** Returns the start of the stop string that is complete first; of several complete at the same point, the longest. */
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

/** Returns the length of the longest suffix of `text` that begins one of `wanted` without completing it. */
export function partialMatchLength(text: string, wanted: readonly string[]): number {
  let longest = 0
  for (const one of wanted) {
    for (let length = Math.min(one.length - 1, text.length); length > longest; length--) {
      if (text.endsWith(one.slice(0, length))) longest = length
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
