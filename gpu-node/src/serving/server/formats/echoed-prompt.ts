import type { TokenScores } from '../../contract/backend.ts'
import { topOf } from '../../contract/token-scores.ts'
import type { CompletionToken, TokenBytes } from './logprobs.ts'

/** A prompt as the client sent it, and its tokens. */
export interface ClientPrompt {
  /** Undefined for a prompt that was sent as token ids. */
  text: string | undefined
  tokens: readonly number[]
}

/** Returns the prompt of a choice. Called once the prompts are tokenised. */
export type PromptEcho = (choice: number) => ClientPrompt

/** A prompt as a completion repeats it. */
export interface EchoedPrompt {
  text: string
  tokens: CompletionToken[]
}

/**
 * Repeats a prompt. A text is repeated as it was sent; token ids are decoded, control tokens included. `tokens` are
 * described only if there are scores.
 *
 * @returns also the offset of the first token in the text, in code points: negative where the tokenizer put tokens, such
 *   as a BOS, before the text
 */
export function echoPrompt(
  prompt: ClientPrompt,
  scores: TokenScores | undefined,
  tokenBytes: TokenBytes,
): EchoedPrompt & { offset: number } {
  const decoded = decode(prompt.tokens, tokenBytes)
  const text = prompt.text ?? decoded
  const before = decoded.endsWith(text) ? decoded.slice(0, decoded.length - text.length) : ''
  return { text, tokens: scores ? describe(prompt.tokens, scores) : [], offset: -Array.from(before).length }
}

function describe(tokens: readonly number[], scores: TokenScores): CompletionToken[] {
  return tokens.map((token, index) =>
    index === 0
      ? { token, logprob: null, top: null }
      : { token, logprob: scores.logprobs[index - 1] as number, top: topOf(scores, index - 1) },
  )
}

/** Decodes tokens to text; parts of characters become U+FFFD. */
function decode(tokens: readonly number[], tokenBytes: TokenBytes): string {
  const decoder = new TextDecoder('utf-8', { ignoreBOM: true })
  return (
    tokens.map((token) => decoder.decode(tokenBytes(token), { stream: true })).join('') + decoder.decode()
  )
}
