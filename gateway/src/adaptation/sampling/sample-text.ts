import { contentText, type ChatMessage } from '@copal/shared/wire/chat.ts'
import { promptsOf, type CompletionRequest } from '@copal/shared/wire/completions.ts'
import { redact } from './redact.ts'

/** Maximum UTF-8 bytes of one sample. */
const MAX_TEXT_BYTES = 64 * 1024
/** Maximum bytes of a sample as JSON: a queue message holds 128 KB, and escaping can turn one byte into six. */
const MAX_JSON_BYTES = 100 * 1024
/** Characters of a text that are redacted before it is truncated. */
const MAX_REDACTED_CHARACTERS = 2 * MAX_TEXT_BYTES

/** Returns the text that the client wrote in a conversation: the user's messages, separated by blank lines. */
export function userText(messages: readonly Pick<ChatMessage, 'role' | 'content'>[]): string {
  const texts = messages.filter(({ role }) => role === 'user').map(({ content }) => contentText(content))
  return texts.join('\n\n')
}

/** Returns the text prompts, separated by blank lines. Prompts of token ids are skipped: only the node knows their text. */
export function promptText(request: CompletionRequest): string {
  return promptsOf(request)
    .filter((prompt) => typeof prompt === 'string')
    .join('\n\n')
}

/**
 * Creates the sample of a text: its beginning, redacted. It is redacted before it is truncated, because half of a number
 * would not be recognized.
 */
export function redactSample(text: string): string {
  return truncateSample(redact(text.slice(0, MAX_REDACTED_CHARACTERS)))
}

/** Truncates a text to the maximum size of a sample, never inside a character. */
export function truncateSample(text: string): string {
  let fitted = truncateToBytes(text, MAX_TEXT_BYTES)
  for (;;) {
    const jsonBytes = new TextEncoder().encode(JSON.stringify(fitted)).byteLength
    if (jsonBytes <= MAX_JSON_BYTES) return fitted
    fitted = truncateToBytes(fitted, Math.floor(fitted.length / 2))
  }
}

function truncateToBytes(text: string, maxBytes: number): string {
  const { read } = new TextEncoder().encodeInto(text, new Uint8Array(maxBytes))
  return text.slice(0, read)
}
