import { z } from 'zod'
import { domainName } from './inference-fields.ts'
import { modelId } from './identifiers.ts'

/** The queue message that carries the text of one consenting request to the reservoir of its domain. */
export const sampleMessage = z.object({
  /** Identifies a message that is delivered twice. */
  requestId: z.string().min(1).max(64),
  /** The key of the request, so that the text can be deleted with it. */
  keyId: z.string().min(1).max(64),
  /** Absent in messages that were queued before samples named it, like the next three. */
  tenant: z.string().max(64).optional(),
  /** HMAC of the key and the first message of the conversation, so that its texts can be recognized without reading them. */
  conversation: z.string().max(64).optional(),
  /** Decided by an HMAC of the conversation's first message; where it is absent, the text decides. */
  side: z.enum(['pool', 'holdout']).optional(),
  /** SHA-256 of the beginning of the conversation's first message, redacted; where it is absent, the text is the first. */
  opening: z.string().max(64).optional(),
  /**
   * That first message, redacted, for the external recogniser: its side follows from it as the recogniser leaves it. Absent where
   * there is no recogniser, where it is the text, and where both would be too large for a message.
   */
  openingText: z
    .string()
    .max(64 * 1024)
    .optional(),
  /** The version of the key's sampling policy. */
  consentVersion: z.int().min(0).optional(),
  model: modelId,
  domain: domainName,
  /** True where neither request nor key names the domain: it is to be found, and `domain` is where unclear texts go. */
  discover: z.boolean().optional(),
  /** The version of the rules that redacted the text; absent in messages that were queued before samples named it. */
  redaction: z.int().min(0).optional(),
  /** How much was replaced of each class of personal data, for metrics; absent if nothing was. */
  redactions: z.record(z.string().max(32), z.int().min(0)).optional(),
  /** The beginning of the client's text, already redacted, because a queue stores its messages. */
  text: z
    .string()
    .min(1)
    .max(64 * 1024),
})
/** A parsed {@link sampleMessage}. */
export type SampleMessage = z.output<typeof sampleMessage>
