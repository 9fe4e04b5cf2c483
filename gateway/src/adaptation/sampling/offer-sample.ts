import type { Deps } from '../../contracts/bindings.ts'
import { redactSample } from './sample-text.ts'

/** The text of a request that may be sampled. */
export interface OfferedText {
  requestId: string
  keyId: string
  model: string
  domain: string
  text: string
}

/** Redacts a text and queues it for the reservoir of its domain, after the response has been sent. */
export function offerSample(
  deps: Pick<Deps, 'samples' | 'waitUntil'>,
  { text, ...offered }: OfferedText,
): void {
  if (text.trim() === '') return
  const send = async () => {
    // Yields, so that the response is sent first.
    await new Promise((resolve) => setTimeout(resolve, 0))
    await deps.samples.send({ ...offered, text: redactSample(text) }, { contentType: 'json' })
  }
  deps.waitUntil(
    send().catch((error: unknown) =>
      console.error(`The sample of request ${offered.requestId} could not be queued and is lost:`, error),
    ),
  )
}
