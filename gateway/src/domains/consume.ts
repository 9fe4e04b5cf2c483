import { parse } from '@copal/shared/wire/parse.ts'
import { sampleMessage, type SampleMessage } from '@copal/shared/wire/sample-message.ts'
import { ensureDomains } from '../db/queries/domains.ts'
import type { Deps } from '../deps.ts'
import type { Offer } from './reservoir-store.ts'

/**
 * Takes queued samples, which were redacted before they were queued, into their domains' reservoirs.
 *
 * Messages may come twice and in any order: the reservoir knows the requests that it was offered. One
 * that is not a sample would never become one, so it is dropped with a line in the log; where a
 * reservoir cannot be reached, its messages are retried.
 */
export async function handleSamples(
  deps: Pick<Deps, 'db' | 'reservoir' | 'nowMs'>,
  batch: MessageBatch,
): Promise<void> {
  const samples: { message: Message; sample: SampleMessage }[] = []
  for (const message of batch.messages) {
    try {
      samples.push({ message, sample: parse(sampleMessage, message.body) })
    } catch (error) {
      console.warn(
        `Dropped message ${message.id} of queue ${batch.queue}, which is not a sample:`,
        String(error),
      )
      message.ack()
    }
  }
  const byDomain = [...Map.groupBy(samples, ({ sample }) => sample.domain)]
  await Promise.all(
    byDomain.map(async ([domain, group]) => {
      try {
        await ensureDomains(deps.db, [domain], deps.nowMs())
        await deps.reservoir(domain).offer(group.map(offerOf))
        for (const { message } of group) message.ack()
      } catch (error) {
        console.error(`${group.length} samples of domain '${domain}' wait for a retry:`, error)
        for (const { message } of group) message.retry({ delaySeconds: 5 })
      }
    }),
  )
}

function offerOf({ message, sample }: { message: Message; sample: SampleMessage }): Offer {
  const { requestId, keyId, text } = sample
  return { requestId, keyId, text, atMs: message.timestamp.getTime() }
}
