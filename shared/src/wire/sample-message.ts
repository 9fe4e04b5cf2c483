import { z } from 'zod'
import { domainName } from './inference-fields.ts'
import { modelId } from './identifiers.ts'

/** The queue message that carries the text of one consenting request to the reservoir of its domain. */
export const sampleMessage = z.object({
  /** Identifies a message that is delivered twice. */
  requestId: z.string().min(1).max(64),
  /** The key of the request, so that the text can be deleted with it. */
  keyId: z.string().min(1).max(64),
  model: modelId,
  domain: domainName,
  /** The beginning of the client's text, already redacted, because a queue stores its messages. */
  text: z
    .string()
    .min(1)
    .max(64 * 1024),
})
/** A parsed {@link sampleMessage}. */
export type SampleMessage = z.output<typeof sampleMessage>
