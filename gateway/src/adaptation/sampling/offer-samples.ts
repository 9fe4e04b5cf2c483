import type { SampleMessage } from '@copal/shared/wire/sample-message.ts'
import type { ActiveKey } from '../../contracts/api-key.ts'
import type { Deps } from '../../contracts/bindings.ts'
import type { ClientText } from '../../contracts/generation.ts'
import { REDACTION_VERSION } from '../redaction/redact.ts'
import { conversationId, conversationSide } from './conversation.ts'
import { redactSample, redactSampleCounted } from './sample-text.ts'
import { textBytes } from './text-bytes.ts'
import { textHash } from './text-hash.ts'

/** The new texts of a request that may be sampled. */
export interface OfferedTexts {
  requestId: string
  key: Pick<ActiveKey, 'id' | 'tenant' | 'consentVersion'>
  model: string
  domain: string
  /** Whether the domain of each text is to be found; `domain` is where unclear texts go. */
  discover?: boolean | undefined
  texts: readonly ClientText[]
}

/** The dependencies of {@link offerSamples}. */
interface OfferDeps extends Pick<Deps, 'waitUntil' | 'keyPepper' | 'recogniser'> {
  samples: { sendBatch(messages: Iterable<MessageSendRequest<SampleMessage>>): Promise<unknown> }
}

/** Messages of a batch, and their bytes: a queue takes 100, and 256 KB. */
const MAX_MESSAGES = 100
const MAX_BATCH_BYTES = 250_000
/** The bytes of a message besides its text, and those that a character of the text may have as JSON. */
const MESSAGE_BYTES = 2_000
const MAX_BYTES_OF_CHARACTER = 6
/** Bytes of the texts of a message as JSON: a queue takes messages of 128 KB. */
const MAX_TEXT_BYTES = 125_000

/** Redacts texts and queues them for the reservoir of their domain, after the response has been sent. */
export function offerSamples(deps: OfferDeps, { texts, ...request }: OfferedTexts): void {
  const offered = texts.filter(({ text }) => text.trim() !== '')
  if (offered.length === 0) return
  const send = async () => {
    // Yields, so that the response is sent first.
    await new Promise((resolve) => setTimeout(resolve, 0))
    let batch: MessageSendRequest<SampleMessage>[] = []
    let bytes = 0
    for (const text of offered) {
      const body = await createMessage(deps, request, text)
      if (body.text.trim() === '') continue
      const characters = body.text.length + (body.openingText?.length ?? 0)
      const size = MESSAGE_BYTES + MAX_BYTES_OF_CHARACTER * characters
      if (batch.length === MAX_MESSAGES || (batch.length > 0 && bytes + size > MAX_BATCH_BYTES)) {
        await deps.samples.sendBatch(batch)
        batch = []
        bytes = 0
      }
      batch.push({ body, contentType: 'json' })
      bytes += size
    }
    if (batch.length > 0) await deps.samples.sendBatch(batch)
  }
  deps.waitUntil(
    send().catch((error: unknown) =>
      console.error(`The sample of request ${request.requestId} could not be queued and is lost:`, error),
    ),
  )
}

async function createMessage(
  { keyPepper: secret, recogniser }: Pick<OfferDeps, 'keyPepper' | 'recogniser'>,
  { requestId, key, model, domain, discover }: Omit<OfferedTexts, 'texts'>,
  { text, opening }: ClientText,
): Promise<SampleMessage> {
  const { text: redacted, counts } = redactSampleCounted(text)
  const redactedOpening = opening === text ? redacted : redactSample(opening)
  const isSent = recogniser !== undefined && opening !== text && fitTogether(redacted, redactedOpening)
  const [conversation, side, openingHash] = await Promise.all([
    conversationId(secret, key.id, opening),
    conversationSide(secret, redactedOpening),
    textHash(redactedOpening),
  ])
  return {
    requestId,
    keyId: key.id,
    tenant: key.tenant,
    conversation,
    side,
    opening: openingHash,
    ...(isSent ? { openingText: redactedOpening } : {}),
    consentVersion: key.consentVersion,
    model,
    domain,
    ...(discover ? { discover } : {}),
    redaction: REDACTION_VERSION,
    ...(Object.keys(counts).length > 0 ? { redactions: counts } : {}),
    text: redacted,
  }
}

function fitTogether(...texts: string[]): boolean {
  return texts.reduce((sum, text) => sum + textBytes(JSON.stringify(text)), 0) <= MAX_TEXT_BYTES
}
