import { z } from 'zod'
import { domainName } from '@copal/shared/wire/generation.ts'

/** Characters of one sample at most: three UTF-8 bytes each and the JSON around them stay below the 128 KB of a queue message. */
const MAX_CHARACTERS = 32 * 1024

/** One consenting request's text on its way to its domain's reservoir. */
export const sampleMessage = z.object({
  /** Tells a message that is delivered twice. */
  requestId: z.string().min(1).max(64),
  /** Whose text it is, so that it can be deleted with its key. */
  keyId: z.string().min(1).max(64),
  domain: domainName,
  /** As the client sent it; it is redacted before it is stored. */
  text: z.string().min(1).max(MAX_CHARACTERS),
  /** When the request came, Unix milliseconds. */
  atMs: z.int().min(0),
})
export type SampleMessage = z.output<typeof sampleMessage>

/** `text` cut to what one message carries, never inside a surrogate pair. */
export function clipSample(text: string): string {
  if (text.length <= MAX_CHARACTERS) return text
  const clipped = text.slice(0, MAX_CHARACTERS)
  return clipped.isWellFormed() ? clipped : clipped.slice(0, -1)
}
