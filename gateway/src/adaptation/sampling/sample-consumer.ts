import { validate } from '@copal/shared/wire/validate.ts'
import { sampleMessage, type SampleMessage } from '@copal/shared/wire/sample-message.ts'
import { admitDomain } from '../../storage/db/queries/domain-queries.ts'
import type { Deps } from '../../contracts/bindings.ts'
import type { OfferedSample } from '../../contracts/reservoir-object.ts'
import { SAMPLES } from './sample-queue.ts'

/** Any key that samples can name a domain, and each costs storage and an evaluation with every update. */
const MAX_DOMAINS = 256
/** Of these, how many come to be by one tenant's samples: else one that invents names would take all of them. */
const MAX_DOMAINS_OF_TENANT = 32
const MOST = { most: MAX_DOMAINS, mostOfTenant: MAX_DOMAINS_OF_TENANT }
/** With the retries of the queue, what cannot be taken for an hour is taken then. */
const LEAST_DELAY_S = 5
const MOST_DELAY_S = 600

/**
 * Takes queued samples, which were redacted before they were queued, into their domains' reservoirs.
 *
 * Messages may come twice and in any order: the reservoir knows the requests that it was offered. One
 * that is not a sample would never become one, so it is dropped with a line in the log; where a
 * reservoir cannot be reached, its messages are retried. Where there are as many domains as there may be, or
 * as one tenant's samples may make, samples of a new one are dropped, with one line in the log a batch.
 */
export async function consumeSamples(
  deps: Pick<Deps, 'db' | 'reservoir' | 'nowMs'>,
  batch: MessageBatch,
): Promise<void> {
  const samples: { message: Message; sample: SampleMessage }[] = []
  for (const message of batch.messages) {
    try {
      samples.push({ message, sample: validate(sampleMessage, message.body) })
    } catch (error) {
      console.warn(
        `Dropped message ${message.id} of queue ${batch.queue}, which is not a sample:`,
        String(error),
      )
      message.ack()
    }
  }
  const refused = new Map<string, number>()
  const byDomain = [...Map.groupBy(samples, ({ sample }) => sample.domain)]
  await Promise.all(
    byDomain.map(async ([domain, group]) => {
      try {
        const keyIds = [...new Set(group.map(({ sample }) => sample.keyId))]
        if (await admitDomain(deps.db, domain, keyIds, deps.nowMs(), MOST)) {
          await deps.reservoir(domain).offer(group.map(offerOf))
        } else refused.set(domain, group.length)
        for (const { message } of group) message.ack()
      } catch (error) {
        const dead = batch.queue === SAMPLES.queue ? group.filter(isLastTry).length : 0
        const waiting = group.length - dead
        if (waiting > 0) console.error(`${waiting} samples of domain '${domain}' wait for a retry:`, error)
        if (dead > 0) {
          const where = `lie in the queue '${SAMPLES.deadLetters}' from now on, for four days`
          console.error(
            `${dead} samples of domain '${domain}' could not be taken for an hour and ${where}:`,
            error,
          )
        }
        for (const { message } of group) message.retry({ delaySeconds: delayAfter(message.attempts) })
      }
    }),
  )
  if (refused.size === 0) return
  const dropped = [...refused.values()].reduce((sum, count) => sum + count, 0)
  console.warn(
    `Dropped ${dropped} samples of the new domains ${[...refused.keys()].sort().join(', ')}: samples of their tenants ` +
      `have made ${MAX_DOMAINS_OF_TENANT} domains already, or there are ${MAX_DOMAINS}. Delete some that are not needed ` +
      "with 'DELETE /admin/domains/:domain', or import a text into one that is.",
  )
}

/** The queue gives it no more, but to where dead letters go. */
function isLastTry({ message }: { message: Message }): boolean {
  return message.attempts > SAMPLES.retries
}

/** Seconds until a message that was tried so often is tried again: twice as many each time. */
function delayAfter(attempts: number): number {
  return Math.min(LEAST_DELAY_S * 2 ** (attempts - 1), MOST_DELAY_S)
}

function offerOf({ message, sample }: { message: Message; sample: SampleMessage }): OfferedSample {
  const { requestId, keyId, text } = sample
  return { requestId, keyId, text, atMs: message.timestamp.getTime() }
}
