import type { Deps } from '../../contracts/bindings.ts'
import { sampleOf } from './sample-text.ts'

/** The text of a request that may be sampled. */
export interface OfferedText {
  requestId: string
  keyId: string
  model: string
  domain: string
  text: string
}

/** Queues a text, redacted, for the reservoir of its domain. The queue is written to after the response has been sent. */
export function offerSample(
  deps: Pick<Deps, 'samples' | 'waitUntil'>,
  { text, ...offered }: OfferedText,
): void {
  if (text.trim() === '') return
  const send = async () => {
    // The response goes out first.
    await new Promise((resolve) => setTimeout(resolve, 0))
    await deps.samples.send({ ...offered, text: sampleOf(text) }, { contentType: 'json' })
  }
  deps.waitUntil(
    send().catch((error: unknown) =>
      console.error(`The sample of request ${offered.requestId} is lost:`, error),
    ),
  )
}
