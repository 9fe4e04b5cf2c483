import type { ChatTokenLogprob } from '@copal/shared/wire/chat.ts'
import type { CompletionLogprobs } from '@copal/shared/wire/completions.ts'
import type { TokenLogprob } from '../../engine/generated-text.ts'
import type { TokenAlternative } from '../../contract/backend.ts'
import { asWritten } from './as-written.ts'
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

/**
 * Formats log-probabilities as the older completions do, the alternatives as they are written.
 *
 * @param offset code points of the text before the first of `tokens`; negative for a prompt whose first tokens are not
 *   part of its text
 * @returns the log-probabilities and the offset after the last of `tokens`
 */
export function completionLogprobs(
  tokens: readonly CompletionToken[],
  tokenBytes: TokenBytes,
  offset: number,
): { logprobs: CompletionLogprobs; offset: number } {
  const logprobs: CompletionLogprobs = { tokens: [], token_logprobs: [], top_logprobs: [], text_offset: [] }
  const textOf = (token: number) => tokenText(tokenBytes(token), 'bytes:')
  let at = offset
  for (const { token, logprob, top } of tokens) {
    logprobs.tokens.push(textOf(token))
    logprobs.token_logprobs.push(logprob)
    logprobs.top_logprobs.push(
      logprob === null
        ? null
        : asWritten(() =>
            Object.fromEntries(
              [...(top ?? []), { token, logprob }].map((other) => [textOf(other.token), other.logprob]),
            ),
          ),
    )
    logprobs.text_offset.push(Math.max(0, at))
    at += countCharacters(tokenBytes(token))
  }
  return { logprobs, offset: at }
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
function countCharacters(bytes: Uint8Array): number {
  return bytes.reduce((count, byte) => count + ((byte & 0xc0) === 0x80 ? 0 : 1), 0)
}
