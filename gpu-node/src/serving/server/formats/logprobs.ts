import type { ChatTokenLogprob } from '@copal/shared/wire/chat.ts'
import type { CompletionLogprobs } from '@copal/shared/wire/completions.ts'
import type { TokenLogprob } from '../../engine/generated-text.ts'
import type { TokenAlternative } from '../../contract/backend.ts'
import { arrayAsWritten, asWritten } from './as-written.ts'
import type { TextCodec } from '../../../model/tokenizer/text-codec.ts'

/** A function that returns the UTF-8 bytes of a token, which may be part of a character. */
export type TokenBytes = TextCodec['tokenBytes']

/** Formats log-probabilities as chat completions do, each as it is written. */
export function chatLogprobs(tokens: readonly TokenLogprob[], tokenBytes: TokenBytes): ChatTokenLogprob[] {
  const described = ({ token, logprob }: { token: number; logprob: number }) => {
    const bytes = tokenBytes(token)
    return { token: tokenText(bytes, ''), logprob, bytes: [...bytes] }
  }
  return tokens.map((token) =>
    asWritten(() => ({ ...described(token), top_logprobs: token.top.map(described) })),
  )
}

/** A token of a completion. The first token of a prompt has neither a log-probability nor alternatives. */
export interface CompletionToken {
  token: number
  logprob: number | null
  top: readonly TokenAlternative[] | null
}

/** The tokens of a completion, each made when it is read. An array is one, too. */
export interface CompletionTokens {
  readonly length: number
  /** Returns a token below `length`. */
  at(index: number): CompletionToken | undefined
}

/**
 * Formats log-probabilities as the older completions do, as they are written.
 *
 * @param offset code points of the text before the first of `tokens`; negative for a prompt whose first tokens are not
 *   part of its text
 */
export function completionLogprobs(
  tokens: CompletionTokens,
  tokenBytes: TokenBytes,
  offset: number,
): CompletionLogprobs {
  const textOf = (token: number) => tokenText(tokenBytes(token), 'bytes:')
  const column = <T>(of: (token: CompletionToken) => T): T[] =>
    arrayAsWritten(tokens.length, (from, to) => {
      const values: T[] = []
      for (let index = from; index < to; index++) values.push(of(tokens.at(index) as CompletionToken))
      return values
    })
  let at = offset
  return {
    tokens: column(({ token }) => textOf(token)),
    token_logprobs: column(({ logprob }) => logprob),
    top_logprobs: column(({ token, logprob, top }) =>
      logprob === null
        ? null
        : Object.fromEntries(
            [...(top ?? []), { token, logprob }].map((other) => [textOf(other.token), other.logprob]),
          ),
    ),
    text_offset: column(({ token }) => {
      const begin = at
      at += countCharacters(tokenBytes(token))
      return Math.max(0, begin)
    }),
  }
}

const UTF_8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/** Returns the text of a token. A part of a character is written as `\xf0\x9f`, as OpenAI does. */
function tokenText(bytes: Uint8Array, prefix: string): string {
  try {
    return UTF_8.decode(bytes)
  } catch {
    return prefix + Array.from(bytes, (byte) => `\\x${byte.toString(16).padStart(2, '0')}`).join('')
  }
}

/** Counts the code points that begin in `bytes`. */
export function countCharacters(bytes: Uint8Array): number {
  let count = 0
  for (const byte of bytes) if ((byte & 0xc0) !== 0x80) count += 1
  return count
}
