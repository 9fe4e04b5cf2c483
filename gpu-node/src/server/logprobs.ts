import type { ChatTokenLogprob } from '@copal/shared/wire/chat.ts'
import type { CompletionLogprobs } from '@copal/shared/wire/completions.ts'
import type { TokenLogprob } from '../engine/answer.ts'

/** Tokens in the shape of chat completions. */
export function chatLogprobs(tokens: readonly TokenLogprob[]): ChatTokenLogprob[] {
  return tokens.map((token) => ({ ...chatToken(token), top_logprobs: token.top.map(chatToken) }))
}

/**
 * Tokens in the shape of the older completions.
 *
 * @param offset code points of the answer before the first of `tokens`
 * @returns also the offset after the last of them
 */
export function completionLogprobs(
  tokens: readonly TokenLogprob[],
  offset: number,
): { logprobs: CompletionLogprobs; offset: number } {
  const logprobs: CompletionLogprobs = { tokens: [], token_logprobs: [], top_logprobs: [], text_offset: [] }
  let at = offset
  for (const token of tokens) {
    logprobs.tokens.push(tokenText(token.bytes, 'bytes:'))
    logprobs.token_logprobs.push(token.logprob)
    logprobs.top_logprobs.push(
      Object.fromEntries(
        [...token.top, token].map((other) => [tokenText(other.bytes, 'bytes:'), other.logprob]),
      ),
    )
    logprobs.text_offset.push(at)
    at += countCharacters(token.bytes)
  }
  return { logprobs, offset: at }
}

function chatToken({ bytes, logprob }: { bytes: Uint8Array; logprob: number }) {
  return { token: tokenText(bytes, ''), logprob, bytes: [...bytes] }
}

/** The token's text; a part of a character is written as `\xf0\x9f`, as OpenAI does. */
function tokenText(bytes: Uint8Array, prefix: string): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
  } catch {
    return prefix + Array.from(bytes, (byte) => `\\x${byte.toString(16).padStart(2, '0')}`).join('')
  }
}

/** Code points that begin in `bytes`. */
function countCharacters(bytes: Uint8Array): number {
  return bytes.reduce((count, byte) => count + ((byte & 0xc0) === 0x80 ? 0 : 1), 0)
}
