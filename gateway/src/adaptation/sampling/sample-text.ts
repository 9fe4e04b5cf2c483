import { contentText, type ChatMessage } from '@copal/shared/wire/chat.ts'
import { promptsOf, type CompletionRequest } from '@copal/shared/wire/completions.ts'
import { redact } from './redact.ts'

/** Most UTF-8 bytes of one sample. */
const MAX_TEXT_BYTES = 64 * 1024
/** Most bytes of a sample as JSON: a queue message holds 128 KB, and escapes can make six bytes of one. */
const MAX_JSON_BYTES = 100 * 1024
/** So much of a text is redacted, before it is cut to what fits. */
const MAX_REDACTED_CHARACTERS = 2 * MAX_TEXT_BYTES

/** What the client wrote in a conversation: the user's messages, with a blank line between them. */
export function userText(messages: readonly Pick<ChatMessage, 'role' | 'content'>[]): string {
  const texts = messages.filter(({ role }) => role === 'user').map(({ content }) => contentText(content))
  return texts.join('\n\n')
}

/** What the client wrote as prompts, with a blank line between them; nothing of token ids, whose text only the node knows. */
export function promptText(request: CompletionRequest): string {
  return promptsOf(request)
    .filter((prompt) => typeof prompt === 'string')
    .join('\n\n')
}

/**
 * What a text leaves in a queue and in a reservoir: its beginning, redacted. Redacted first, because a number
 * that is cut in half would not be known for what it is.
 */
export function sampleOf(text: string): string {
  return fitSample(redact(text.slice(0, MAX_REDACTED_CHARACTERS)))
}

/** The beginning of a text that fits a sample, never ending inside a character. */
export function fitSample(text: string): string {
  let fitted = truncate(text, MAX_TEXT_BYTES)
  for (;;) {
    const jsonBytes = new TextEncoder().encode(JSON.stringify(fitted)).byteLength
    if (jsonBytes <= MAX_JSON_BYTES) return fitted
    fitted = truncate(fitted, Math.floor(fitted.length / 2))
  }
}

function truncate(text: string, maxBytes: number): string {
  const { read } = new TextEncoder().encodeInto(text, new Uint8Array(maxBytes))
  return text.slice(0, read)
}
