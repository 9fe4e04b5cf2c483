import { z } from 'zod'
import { domainName } from './inference-fields.ts'
import { modelId } from './node-rpc.ts'

/** The queue message by which one consenting request's text travels to its domain's reservoir. */
export const sampleMessage = z.object({
  /** Tells a message that is delivered twice. */
  requestId: z.string().min(1).max(64),
  /** Whose text it is, so that it can be deleted with its key. */
  keyId: z.string().min(1).max(64),
  model: modelId,
  domain: domainName,
  /** The beginning of what the client sent, redacted: a queue stores what it carries. */
  text: z
    .string()
    .min(1)
    .max(64 * 1024),
})
export type SampleMessage = z.output<typeof sampleMessage>
