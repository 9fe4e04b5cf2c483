import type { TokenScores } from '../../contract/backend.ts'
import { topOf } from '../../contract/token-scores.ts'
import { countCharacters, type CompletionTokens, type TokenBytes } from './logprobs.ts'

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
  /** None without scores. */
  tokens: CompletionTokens
  /**
   * Offset of the first token in the text, in code points: negative where the tokenizer put tokens, such as a BOS, before the
   * text.
   */
  offset: number
  /** Offset after the last token. */
  endOffset: number
}

/** Repeats a prompt. A text is repeated as it was sent; token ids are decoded, control tokens included. */
export function echoPrompt(
  { text: sent, tokens }: ClientPrompt,
  scores: TokenScores | undefined,
  tokenBytes: TokenBytes,
): EchoedPrompt {
  const bytes = Buffer.concat(tokens.map(tokenBytes))
  const decoded = UTF_8.decode(bytes)
  const text = sent ?? decoded
  const before = decoded.endsWith(text) ? decoded.slice(0, decoded.length - text.length) : ''
  const offset = -Array.from(before).length
  const endOffset = offset + countCharacters(bytes)
  return { text, tokens: scores ? scoredTokens(tokens, scores) : [], offset, endOffset }
}

/** Parts of characters become U+FFFD. */
const UTF_8 = new TextDecoder('utf-8', { ignoreBOM: true })

function scoredTokens(tokens: readonly number[], scores: TokenScores): CompletionTokens {
  return {
    length: tokens.length,
    at(index) {
      const token = tokens[index] as number
      if (index === 0) return { token, logprob: null, top: null }
      return { token, logprob: scores.logprobs[index - 1] as number, top: topOf(scores, index - 1) }
    },
  }
}
