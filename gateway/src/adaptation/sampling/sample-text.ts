import { contentText, type ChatMessage } from '@copal/shared/wire/chat.ts'
import { promptsOf, type CompletionRequest } from '@copal/shared/wire/completions.ts'
import type { ClientText } from '../../contracts/generation.ts'
import { redactCounted, type Redaction } from '../redaction/redact.ts'
import { textBytes, truncateToBytes } from './text-bytes.ts'
import { headOf } from './text-hash.ts'

/** Maximum UTF-8 bytes of one sample. */
const MAX_TEXT_BYTES = 64 * 1024
/** Maximum bytes of a sample as JSON: a queue message holds 128 KB, and escaping can turn one byte into six. */
const MAX_JSON_BYTES = 100 * 1024
/** Characters of a text that are redacted before it is truncated. */
const MAX_REDACTED_CHARACTERS = 2 * MAX_TEXT_BYTES
/** More than nearly all that is recognized takes; a private key without an end is replaced up to the end of the text. */
const MAX_RECOGNIZED_CHARACTERS = 4 * 1024

type Message = Pick<ChatMessage, 'role' | 'content'>

/** Returns the first message that the client wrote in a conversation; the first message of all if it wrote none. */
export function openingOf(messages: readonly Message[]): string {
  const first = messages.find(({ role }) => role === 'user') ?? messages[0]
  return contentText(first?.content)
}

/**
 * Returns what is new in a conversation: the client's newest message. It is none if the output of a tool follows it,
 * because then it was part of the request before already.
 */
export function newMessage(messages: readonly Message[]): ClientText[] {
  const at = messages.findLastIndex(({ role }) => role === 'user')
  if (at < 0 || messages.slice(at).some(({ role }) => role === 'tool')) return []
  return [{ text: contentText(messages[at]?.content), opening: openingOf(messages) }]
}

/**
 * Returns the text prompts of a request, at most `LIMITS.choices`; each is a conversation of its own. Prompts of token ids are
 * skipped: only the node knows their text.
 */
export function promptTexts(request: CompletionRequest): ClientText[] {
  return promptsOf(request)
    .filter((prompt) => typeof prompt === 'string')
    .map((text) => ({ text, opening: text }))
}

/**
 * Creates the sample of a text: its beginning, redacted. It is redacted before it is truncated, because half of a number
 * would not be recognized; where a longer text is cut before that, what may be half of one is dropped.
 */
export function redactSample(text: string): string {
  return redactSampleCounted(text).text
}

/** Does what {@link redactSample} does, and counts what was replaced of each class, also in the part that is cut off. */
export function redactSampleCounted(text: string): Pick<Redaction, 'text' | 'counts'> {
  const { text: redacted, counts } = redactCounted(text.slice(0, MAX_REDACTED_CHARACTERS))
  const dropped = text.length > MAX_REDACTED_CHARACTERS ? MAX_RECOGNIZED_CHARACTERS : 0
  return { text: truncateSample(headOf(redacted, Math.max(0, redacted.length - dropped))), counts }
}

/** Truncates a text to the maximum size of a sample, never inside a character. */
export function truncateSample(text: string): string {
  let fitted = truncateToBytes(text, MAX_TEXT_BYTES)
  for (;;) {
    const jsonBytes = textBytes(JSON.stringify(fitted))
    if (jsonBytes <= MAX_JSON_BYTES) return fitted
    fitted = truncateToBytes(fitted, Math.floor(fitted.length / 2))
  }
}
