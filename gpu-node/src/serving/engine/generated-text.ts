import type { SampledToken } from '../contract/backend.ts'
import type { TextCodec } from '../../model/tokenizer/text-codec.ts'
import { createTextStream } from './text-stream.ts'

/** A generated token as clients receive it. It carries no bytes, since many may be queued until they are read. */
export type TokenLogprob = SampledToken

/** The text that one more token released. `tokens` is empty unless log-probabilities were requested. */
interface TextDelta {
  text: string
  tokens: TokenLogprob[]
  /** Set when the output is complete: an end token, a stop string, or the token limit was reached. */
  reason: 'stop' | 'length' | undefined
}

/** The text of one generation as it grows from sampled tokens. */
export interface GeneratedText {
  take(output: SampledToken): TextDelta
  /** Tokens generated so far; an end token is not counted, tokens of a stop string are. */
  readonly completionTokens: number
}

/** Settings of {@link createGeneratedText}. */
export interface GeneratedTextOptions {
  codec: Pick<TextCodec, 'tokenBytes' | 'isSpecial'>
  /** Any of these ends the output without being part of it. */
  endTokens: ReadonlySet<number>
  stops: readonly string[]
  maxNewTokens: number
  logprobs: boolean
  /** Reports the log-probability of an end token too, as vLLM does. */
  reportsEnd?: boolean
}

const NO_BYTES = new Uint8Array(0)

/** Creates an empty output. Special tokens that do not end it are hidden from the text. */
export function createGeneratedText({
  codec,
  endTokens,
  stops,
  maxNewTokens,
  logprobs,
  reportsEnd = false,
}: GeneratedTextOptions): GeneratedText {
  const stream = createTextStream(stops)
  let pending: TokenLogprob[] = []
  let completionTokens = 0

  const release = (count: number): TokenLogprob[] => {
    const released = pending.slice(0, count)
    pending = pending.slice(count)
    return released
  }

  return {
    take(output) {
      if (endTokens.has(output.token)) {
        const { text, tokens } = stream.end()
        const released = release(tokens)
        if (logprobs && reportsEnd) released.push(logprobOf(output))
        return { text, tokens: released, reason: 'stop' }
      }
      completionTokens += 1
      if (logprobs) pending.push(logprobOf(output))
      const delta = stream.push(codec.isSpecial(output.token) ? NO_BYTES : codec.tokenBytes(output.token))
      if (stream.stopped) return { text: delta.text, tokens: release(delta.tokens), reason: 'stop' }
      if (completionTokens < maxNewTokens)
        return { text: delta.text, tokens: release(delta.tokens), reason: undefined }
      const rest = stream.end()
      return { text: delta.text + rest.text, tokens: release(delta.tokens + rest.tokens), reason: 'length' }
    },
    get completionTokens() {
      return completionTokens
    },
  }
}

/** Returns what clients receive of a sampled token: an output of a step may have more. */
function logprobOf({ token, logprob, top }: SampledToken): TokenLogprob {
  return { token, logprob, top }
}
